"""Who votes, and how many votes decide.

A validator set is fixed for one epoch. Its members belong to two chambers, government and
commercial, and a *quorum* is more than two thirds of all members **and** at least half of each
chamber that has members, so that neither chamber decides alone. The same rule holds for all three
kinds of votes. Sets of members are passed as bit masks (bit i = member i), which is also the form
on the wire. Normative text: ``docs/protocol-consensus.md``, Validators and quorum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from hashlib import sha256
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct

from ledger.errors import InvalidValidatorSet
from ledger.text import NAME_BYTES_MAX
from ledger.types import Digest, PublicKey, PublicKeyField

VALIDATOR_SET_TAG: Final = b"MBI-VSET-v1".ljust(16, b"\0")
"""Domain tag in front of every hashed validator set."""

VALIDATORS_MAX: Final = 128
"""Largest validator set; bounds bitmaps and certificates before allocation."""


class Chamber(IntEnum):
    """The two classes of organisations and of their validators."""

    GOVERNMENT = 1
    COMMERCIAL = 2


class Validator(Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """One member of a validator set. Every member has one vote."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]
    """For people only, for example ``gov-1``."""
    organisation: Annotated[str, Meta(min_length=1, max_length=NAME_BYTES_MAX)]
    """Identifier of the organisation that runs it."""
    chamber: Chamber
    """Equals the chamber of its organisation."""
    consensus_key: PublicKeyField
    """Ed25519 key that signs votes."""
    node_key: PublicKeyField
    """Ed25519 key of the member's network channel: what arrives there is the member's own word."""


class Shortfall(NamedTuple):
    """What a set of present members lacks to be a quorum; all zero if it is one."""

    members: int
    """More members needed, of any chamber."""
    government: int
    """More government members needed."""
    commercial: int
    """More commercial members needed."""


class ValidatorSet:
    """The members of one epoch, sorted by consensus key; an index in this order names a member."""

    __slots__ = ("_by_key", "_by_node", "_chambers", "bitmap_bytes", "hash", "members", "size")

    def __init__(self, members: Iterable[Validator]) -> None:
        """Sort and check the members.

        Raises:
            InvalidValidatorSet: none or too many members, or a key that occurs twice.
        """
        self.members: Final = tuple(sorted(members, key=lambda member: member.consensus_key))
        self.size: Final = len(self.members)
        if not 0 < self.size <= VALIDATORS_MAX:
            raise InvalidValidatorSet(
                f"expected 1 to {VALIDATORS_MAX} validators, received {self.size}"
            )
        self._by_key = {PublicKey(m.consensus_key): i for i, m in enumerate(self.members)}
        self._by_node = {bytes(m.node_key): i for i, m in enumerate(self.members)}
        for what, index in (("consensus", self._by_key), ("node", self._by_node)):
            if len(index) != self.size:
                raise InvalidValidatorSet(
                    f"expected {self.size} different {what} keys, received {len(index)}"
                )
        self._chambers = tuple(
            mask for mask in (self.chamber_mask(chamber) for chamber in Chamber) if mask
        )
        self.bitmap_bytes: Final = (self.size + 7) // 8
        self.hash: Final = Digest(
            sha256(VALIDATOR_SET_TAG + msgspec.msgpack.encode(self.members)).digest()
        )

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Validator]:
        return iter(self.members)

    def __getitem__(self, index: int) -> Validator:
        return self.members[index]

    def index_of_key(self, consensus_key: bytes) -> int | None:
        """Return the index of the member with this consensus key."""
        return self._by_key.get(PublicKey(consensus_key))

    def index_of_node(self, node_key: bytes) -> int | None:
        """Return the index of the member with this node key; None for an observer."""
        return self._by_node.get(node_key)

    def chamber_mask(self, chamber: Chamber) -> int:
        """Return the members of one chamber as a bit mask."""
        return mask_of(i for i, m in enumerate(self.members) if m.chamber is chamber)

    def has_quorum(self, mask: int) -> bool:
        """Tell whether these members (a mask) are more than 2/3 of all and half of each chamber."""
        return 3 * mask.bit_count() > 2 * self.size and all(
            2 * (mask & chamber).bit_count() >= chamber.bit_count() for chamber in self._chambers
        )

    def is_quorum(self, indices: Iterable[int]) -> bool:
        """Tell whether these members form a quorum; an index that occurs twice counts once."""
        return self.has_quorum(mask_of(indices))

    def is_blocking(self, mask: int) -> bool:
        """Tell whether these members (a mask) are a third or more: one of them is honest."""
        return 3 * mask.bit_count() >= self.size

    def missing_for_quorum(self, present: int) -> Shortfall:
        """Return how many more members, and of which chamber, ``present`` (a mask) needs."""
        government, commercial = (
            self._half_missing(self.chamber_mask(chamber), present) for chamber in Chamber
        )
        return Shortfall(
            max(2 * self.size // 3 + 1 - present.bit_count(), government + commercial, 0),
            government,
            commercial,
        )

    @staticmethod
    def _half_missing(chamber: int, present: int) -> int:
        return max((chamber.bit_count() + 1) // 2 - (chamber & present).bit_count(), 0)


def mask_of(indices: Iterable[int]) -> int:
    """Return the bit mask of these indices."""
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask


def members_of(mask: int) -> Iterator[int]:
    """Yield the indices in a bit mask, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
