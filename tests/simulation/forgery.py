"""Bad blocks, one broken rule each, and bad messages.

Each forgery takes a valid draft and returns it with exactly one rule broken (or None if this draft
does not allow it), so that a validator that skips that one check is found out. Rules are numbered
as in ``docs/protocol.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import msgspec
from msgspec import Struct

from consensus.types import Certificate, CertificateMessage, Proposal, Status
from ledger.block import Block
from ledger.types import Digest, Epoch, Era, Height, Signature, TimeMs, View
from ledger.votes import Value, Vote, VoteKind
from tests.simulation.application import (
    BLOCK_TRANSACTIONS_MAX,
    EXECUTION_LAG_MAX,
    TRANSACTION_PREFIX,
    transaction_hash,
    transactions_root,
)
from tests.simulation.messages import BlockAnswer, ChainAnswer, Message

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


Forgery = Callable[[Draft, Random], Draft | None]


def _with_header(draft: Draft, **changes: object) -> Draft:
    return replace(draft, block=replace(draft.block, header=replace(draft.block.header, **changes)))


def _with_transactions(draft: Draft, wires: list[bytes]) -> Draft:
    changed = _with_header(
        draft,
        transactions_root=transactions_root(map(transaction_hash, wires)),
        transaction_count=len(wires),
        body_bytes=sum(map(len, wires)),
    )
    return replace(changed, block=replace(changed.block, transactions=wires))


def _wires(random: Random, count: int) -> list[bytes]:
    return [TRANSACTION_PREFIX + random.randbytes(31) for _ in range(count)]


def _height(draft: Draft, random: Random) -> Draft:
    wrong = draft.block.header.height + random.choice((-1, 1, 2**40))
    return _with_header(draft, height=Height(wrong))


def _parent(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, parent_hash=Digest(random.randbytes(32)))


def _proposer(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, proposer=draft.block.header.proposer + random.choice((1, 2, 100)))


def _era(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, era=Era(1))


def _epoch(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, epoch=Epoch(1))


def _view(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, view=View(draft.block.header.view + random.choice((-1, 1))))


def _version(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, version=2)


def _validator_set(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, validator_set_hash=Digest(random.randbytes(32)))


def _next_set(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, next_validator_set_hash=Digest(random.randbytes(32)))


def _boundary(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, previous_boundary_hash=Digest(random.randbytes(32)))


def _certificate_hash(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, parent_certificate_hash=Digest(random.randbytes(32)))


def _early(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, time_ms=random.choice((0, 1_000)))


def _late(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, time_ms=draft.block.header.time_ms + 10**9)


def _state_root(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, state_root=Digest(random.randbytes(32)))


def _history_root(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, history_root=Digest(random.randbytes(32)))


def _executed_ahead(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, executed_height=draft.block.header.height)


def _executed_behind(draft: Draft, random: Random) -> Draft | None:
    executed = draft.block.header.executed_height
    return _with_header(draft, executed_height=Height(executed - 1)) if executed else None


def _lag(draft: Draft, random: Random) -> Draft | None:
    header = draft.block.header
    if header.height - header.executed_height <= EXECUTION_LAG_MAX:
        return None
    return _with_transactions(draft, _wires(random, 1))


def _root(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, transactions_root=Digest(random.randbytes(32)))


def _count(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, transaction_count=draft.block.header.transaction_count + 1)


def _bytes(draft: Draft, random: Random) -> Draft:
    return _with_header(draft, body_bytes=draft.block.header.body_bytes + 1)


def _malformed(draft: Draft, random: Random) -> Draft:
    return _with_transactions(draft, [b"\x00" + random.randbytes(31)])


def _twice(draft: Draft, random: Random) -> Draft:
    return _with_transactions(draft, _wires(random, 1) * 2)


def _oversize(draft: Draft, random: Random) -> Draft:
    return _with_transactions(draft, _wires(random, BLOCK_TRANSACTIONS_MAX + 1))


def _no_skips(draft: Draft, random: Random) -> Draft | None:
    """A1 to A3: claims an older parent than the certificates allow."""
    if draft.parent_view == 0:
        return None
    return replace(draft, parent_view=View(draft.parent_view - 1))


def _other_hash(draft: Draft, random: Random) -> Draft:
    """The vote names another block than the header it comes with."""
    return replace(draft, named=Digest(random.randbytes(32)))


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
    "V6 transaction twice": _twice,
    "V6 too many transactions": _oversize,
    "A parent view": _no_skips,
}
"""Every forgery by the rule that it breaks."""


def distort(message: Message, random: Random) -> Message:
    """Return a well-formed message that lies."""
    if isinstance(message, Vote):
        return _distort_vote(message, random)
    if isinstance(message, Proposal):
        return _distort_proposal(message, random)
    if isinstance(message, CertificateMessage):
        first = _distort_certificate(message.certificates[0], random)
        return replace(message, certificates=(first, *message.certificates[1:]))
    if isinstance(message, Status):
        return _distort_status(message, random)
    if isinstance(message, BlockAnswer) and message.block is not None:
        return replace(message, block=_distort_block(message.block, random))
    if isinstance(message, ChainAnswer) and message.blocks:
        return _distort_chain(message, random)
    return message


def _distort_proposal(proposal: Proposal, random: Random) -> Proposal:
    match random.randrange(5):
        case 0:
            header = replace(proposal.header, time_ms=TimeMs(proposal.header.time_ms + 1))
            return replace(proposal, header=header)
        case 1:
            return replace(proposal, payload=random.randbytes(len(proposal.payload) + 32))
        case 2:
            return replace(proposal, parent_certificate=None)
        case 3:
            return replace(proposal, skips=proposal.skips[1:])
        case _:
            return replace(proposal, parent_certificate=proposal.finalization, finalization=None)


def _distort_vote(vote: Vote, random: Random) -> Vote:
    match random.randrange(7):
        case 0:
            return replace(vote, signature=Signature(random.randbytes(64)))
        case 1:
            return replace(vote, voter=vote.voter + random.choice((1, 127, 2**31)))
        case 2:
            return replace(vote, view=View(random.choice((0, vote.view + 1, 2**63 - 1))))
        case 3:
            return replace(vote, era=Era(vote.era + 1))
        case 4:
            return replace(vote, epoch=Epoch(vote.epoch + 1))
        case 5:
            return replace(vote, value=Value(View(0), Digest(random.randbytes(32))))
        case _:
            return replace(vote, kind=random.choice(tuple(VoteKind)))


def _distort_certificate(certificate: Certificate, random: Random) -> Certificate:
    match random.randrange(6):
        case 0:
            return replace(certificate, view=View(certificate.view + 1))
        case 1:
            return replace(certificate, kind=random.choice(tuple(VoteKind)))
        case 2:
            return replace(certificate, bitmap=bytes([certificate.bitmap[0] ^ 1]))
        case 3:
            return replace(certificate, signatures=certificate.signatures[:-64] + bytes(64))
        case 4:
            return replace(certificate, bitmap=b"\xff" * 16)
        case _:
            swapped = certificate.signatures[64:] + certificate.signatures[:64]
            return replace(certificate, signatures=swapped)


def _distort_status(status: Status, random: Random) -> Status:
    match random.randrange(4):
        case 0:
            return replace(status, executed_height=Height(2**60))
        case 1:
            return replace(status, view=View(status.view + 10**6))
        case 2:
            return replace(status, nonce=random.randbytes(16))
        case _:
            return replace(status, previous_view=None, notarization=None, finalization=None)


def _distort_block(block: Block, random: Random) -> Block:
    match random.randrange(3):
        case 0:
            return replace(block, header=replace(block.header, height=Height(2**60)))
        case 1:
            return replace(block, transactions=[*block.transactions, *_wires(random, 1)])
        case _:
            return replace(block, parent_certificate=random.randbytes(40))


def _distort_chain(answer: ChainAnswer, random: Random) -> ChainAnswer:
    match random.randrange(4):
        case 0:
            return replace(answer, blocks=answer.blocks[:-1])
        case 1:
            last = _distort_block(answer.blocks[-1], random)
            return replace(answer, blocks=(*answer.blocks[:-1], last))
        case 2:
            return replace(answer, finalization=None)
        case _:
            forged = (
                _distort_certificate(answer.finalization, random) if answer.finalization else None
            )
            return replace(answer, finalization=forged)
