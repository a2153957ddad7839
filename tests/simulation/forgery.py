"""Bad blocks, one broken rule each, and bad messages.

Each forgery takes a valid draft and returns it with exactly one rule broken (or None if this draft
does not allow it), so that a validator that skips that one check is found out. Rules are numbered
as in ``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from consensus.types import Certificate
from consensus.validity import EXECUTION_LAG_MAX
from ledger.block import Block
from ledger.block_rules import transactions_root
from ledger.transaction import wire_hash
from ledger.types import Digest, Epoch, Era, Height, View
from tests.simulation.universe import BLOCK_TRANSACTIONS_MAX

if TYPE_CHECKING:
    from tests.simulation.world import World

replace = msgspec.structs.replace


class Draft(Struct, frozen=True):
    """A proposal before it is signed."""

    block: Block
    parent_view: View
    parent_certificate: Certificate | None
    skips: tuple[Certificate, ...]
    corruption: str | None = None
    """Name of the rule that it breaks."""
    named: Digest | None = None
    """Hash that the vote names instead of the block's own."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a forger works with."""

    world: World
    random: Random

    def digest(self) -> Digest:
        """Return the hash of nothing."""
        return Digest(self.random.randbytes(32))

    def wires(self, count: int) -> list[bytes]:
        """Return fresh transactions that are valid by themselves."""
        world = self.world
        return [world.universe.transfer(self.random, world.wall_ms()) for _ in range(count)]


Forgery = Callable[[Draft, Workshop], Draft | None]


def _with_header(draft: Draft, **changes: object) -> Draft:
    return replace(draft, block=replace(draft.block, header=replace(draft.block.header, **changes)))


def _with_transactions(draft: Draft, wires: list[bytes]) -> Draft:
    changed = _with_header(
        draft,
        transactions_root=transactions_root([wire_hash(wire) for wire in wires]),
        transaction_count=len(wires),
        body_bytes=sum(map(len, wires)),
    )
    return replace(changed, block=replace(changed.block, transactions=wires))


def _height(draft: Draft, shop: Workshop) -> Draft:
    wrong = draft.block.header.height + shop.random.choice((-1, 1, 2**40))
    return _with_header(draft, height=Height(wrong))


def _parent(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, parent_hash=shop.digest())


def _proposer(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(
        draft, proposer=draft.block.header.proposer + shop.random.choice((1, 2, 100))
    )


def _era(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, era=Era(draft.block.header.era + 1))


def _epoch(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, epoch=Epoch(draft.block.header.epoch + 1))


def _view(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, view=View(draft.block.header.view + shop.random.choice((-1, 1))))


def _version(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, version=2)


def _validator_set(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, validator_set_hash=shop.digest())


def _next_set(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, next_validator_set_hash=shop.digest())


def _boundary(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, previous_boundary_hash=shop.digest())


def _certificate_hash(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, parent_certificate_hash=shop.digest())


def _early(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, time_ms=shop.random.choice((0, 1_000)))


def _late(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, time_ms=draft.block.header.time_ms + 10**9)


def _state_root(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, state_root=shop.digest())


def _history_root(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, history_root=shop.digest())


def _executed_ahead(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, executed_height=draft.block.header.height)


def _executed_behind(draft: Draft, shop: Workshop) -> Draft | None:
    executed = draft.block.header.executed_height
    return _with_header(draft, executed_height=Height(executed - 1)) if executed else None


def _lag(draft: Draft, shop: Workshop) -> Draft | None:
    header = draft.block.header
    if header.height - header.executed_height <= EXECUTION_LAG_MAX:
        return None
    return _with_transactions(draft, shop.wires(1))


def _root(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, transactions_root=shop.digest())


def _count(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, transaction_count=draft.block.header.transaction_count + 1)


def _bytes(draft: Draft, shop: Workshop) -> Draft:
    return _with_header(draft, body_bytes=draft.block.header.body_bytes + 1)


def _malformed(draft: Draft, shop: Workshop) -> Draft:
    return _with_transactions(draft, [b"\x00" + shop.random.randbytes(31)])


def _bad_signature(draft: Draft, shop: Workshop) -> Draft:
    wire = shop.wires(1)[0]
    return _with_transactions(draft, [wire[:-1] + bytes([wire[-1] ^ 1])])


def _expired(draft: Draft, shop: Workshop) -> Draft:
    past = draft.block.header.time_ms - 10_000_000
    return _with_transactions(draft, [shop.world.universe.transfer(shop.random, past)])


def _used_before(draft: Draft, shop: Workshop) -> Draft | None:
    """Takes the transactions of the parent again."""
    parent = shop.world.find_block(Digest(draft.block.header.parent_hash))
    return (
        _with_transactions(draft, parent.transactions) if parent and parent.transactions else None
    )


def _twice(draft: Draft, shop: Workshop) -> Draft:
    return _with_transactions(draft, shop.wires(1) * 2)


def _oversize(draft: Draft, shop: Workshop) -> Draft:
    return _with_transactions(draft, shop.wires(BLOCK_TRANSACTIONS_MAX + 1))


def _no_skips(draft: Draft, shop: Workshop) -> Draft | None:
    """A1 to A3: claims an older parent than the certificates allow."""
    if draft.parent_view == 0:
        return None
    return replace(draft, parent_view=View(draft.parent_view - 1))


def _other_hash(draft: Draft, shop: Workshop) -> Draft:
    """The vote names another block than the header it comes with."""
    return replace(draft, named=shop.digest())


FORGERIES: Final[dict[str, Forgery]] = {
    "V1 height": _height,
    "V1 parent": _parent,
    "V1 proposer": _proposer,
    "V1 era": _era,
    "V1 epoch": _epoch,
    "V1 view": _view,
    "V1 version": _version,
    "V1 validator set": _validator_set,
    "V1 parent certificate": _certificate_hash,
    "V1 named hash": _other_hash,
    "V2 time before parent": _early,
    "V2 time in the future": _late,
    "V3 state root": _state_root,
    "V3 history root": _history_root,
    "V3 executed too high": _executed_ahead,
    "V3 executed too low": _executed_behind,
    "V4 not empty behind execution": _lag,
    "V5 next set": _next_set,
    "V5 previous boundary": _boundary,
    "V6 transactions root": _root,
    "V6 transaction count": _count,
    "V6 body bytes": _bytes,
    "V6 malformed transaction": _malformed,
    "V6 bad signature": _bad_signature,
    "V6 expired transaction": _expired,
    "V6 transaction of an ancestor": _used_before,
    "V6 transaction twice": _twice,
    "V6 too many transactions": _oversize,
    "A parent view": _no_skips,
}
"""Every forgery by the rule that it breaks."""
OF_PROPOSALS: Final = frozenset({"V1 named hash", "A parent view"})
"""Rules about a proposal, not its block, which may be valid and proposed properly to others."""
