"""Well-formed messages that lie, for validators that pass on what they should not.

A liar distorts votes, proposals, certificates, claims about where it stands, and everything that a
sync server sends.
"""

from __future__ import annotations

from random import Random

import msgspec

from consensus.types import Certificate, CertificateMessage, Proposal, Status
from ledger.block import Block
from ledger.encoding import encode
from ledger.types import Digest, Epoch, Era, Height, Signature, TimeMs, View
from ledger.votes import Value, Vote, VoteKind
from p2p.messages import BlockAnswer, ChainAnswer, Message, Transactions

replace = msgspec.structs.replace
_decode_block = msgspec.msgpack.Decoder(Block).decode


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
    if isinstance(message, Transactions) and message.wires:
        return replace(message, wires=(random.randbytes(40), *message.wires[1:]))
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


def _distort_block(data: bytes, random: Random) -> bytes:
    block = _decode_block(data)
    match random.randrange(4):
        case 0:
            block = replace(block, header=replace(block.header, height=Height(2**60)))
        case 1:
            block = replace(block, transactions=[*block.transactions, random.randbytes(40)])
        case 2:
            block = replace(block, parent_certificate=random.randbytes(40))
        case _:
            return data[:-1]
    return encode(block)


def _distort_chain(answer: ChainAnswer, random: Random) -> ChainAnswer:
    match random.randrange(6):
        case 0:
            return replace(answer, blocks=answer.blocks[:-1])
        case 1:
            last = _distort_block(answer.blocks[-1], random)
            return replace(answer, blocks=(*answer.blocks[:-1], last))
        case 2:
            return replace(answer, certificate=None)
        case 3:
            return replace(answer, blocks=answer.blocks[::-1])
        case 4:
            return replace(answer, head=2**60)
        case _:
            certificate = answer.certificate
            forged = None if certificate is None else _distort_certificate(certificate, random)
            return replace(answer, certificate=forged)
