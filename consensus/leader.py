"""Whose turn it is to propose: a fixed rotation that alternates between the chambers.

The order is public and predictable, which is acceptable on an allow-listed network and lets anyone
audit that every organisation gets its turns. Normative text: ``docs/protocol-consensus.md``,
Leader.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import zip_longest
from struct import pack

from ledger.types import Digest, Epoch, Era, View
from ledger.validators import Chamber, ValidatorSet, members_of


def leader_order(
    chain_id: Digest, era: Era, epoch: Epoch, validators: ValidatorSet
) -> tuple[int, ...]:
    """Return the order of turns: chambers interleaved, rotated by a digest of chain and epoch.

    The leader of a view is ``order[view % n]``.
    """
    government, commercial = (list(members_of(validators.chamber_mask(c))) for c in Chamber)
    interleaved = [
        index for pair in zip_longest(government, commercial) for index in pair if index is not None
    ]
    digest = sha256(chain_id + pack(">IQ", era, epoch)).digest()
    turn = int.from_bytes(digest, "big") % validators.size
    return tuple(interleaved[turn:] + interleaved[:turn])


def leader(order: tuple[int, ...], view: View) -> int:
    """Return the index of the validator that may propose in ``view``."""
    return order[view % len(order)]
