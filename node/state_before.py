"""Proofs of the state as it was one block ago, if that block only noted who was present.

Every block notes in the state which validators are at work, so on an idle network no header commits
to the present state before the next beacon. But the last block, which sealed what came before it,
*does* certify the state below it, and that differs in one record only. This module takes the record
back: its value before is read off the last blocks, and the path of any other key is corrected where
the two meet. A wrong guess leads to another root than the certified one, and then there is no
answer; so nothing here needs to be believed.
"""

from __future__ import annotations

from typing import Final

from consensus.certificates import encoded_signers
from ledger.block import Block
from ledger.encoding import encode
from ledger.errors import ProofError
from ledger.merkle import ARITY, node_digest, root_from_path
from ledger.records import PRESENCE_KEY, Presence
from ledger.state import State
from ledger.state_proof import StateProof, leaf_digest
from ledger.types import DIGEST_BYTES, Digest, Height
from ledger.validators import members_of
from storage.chain_store import ChainStore

BLOCKS_READ_MAX: Final = 8
"""Nearly every member signs nearly every certificate: two or three blocks are enough."""


def prove_before(chain: ChainStore, state: State, key: bytes) -> StateProof | None:
    """Return the proof of a key in the state below the head, or None if it cannot be had."""
    head = chain.head().height
    block = chain.block(head)
    presence = state.record(PRESENCE_KEY)
    if head != state.height or head == 0 or block is None or not isinstance(presence, Presence):
        return None
    if block.transactions or block.next_validators:
        return None
    before = _presence_before(chain, block, presence)
    if before is None:
        return None
    return _corrected(
        state.prove(key),
        state.prove(PRESENCE_KEY),
        encode(before),
        Digest(chain.require_executed(head - 1).state_root),
    )


def _noted(block: Block) -> int:
    """Return whom a block noted (a mask): its proposer and who signed its parent's certificate."""
    return encoded_signers(block.parent_certificate) | 1 << block.header.proposer


def _presence_before(chain: ChainStore, head: Block, presence: Presence) -> Presence | None:
    """Return what the head overwrote: when each of those it noted was seen before."""
    seen = list(presence.seen)
    open_members = _noted(head)
    height = head.header.height
    for below in range(height - 1, max(height - 1 - BLOCKS_READ_MAX, 0), -1):
        block = chain.block(Height(below))
        if block is None or block.next_validators:
            return None
        found = open_members & _noted(block)
        for member in members_of(found):
            seen[member] = Height(below)
        open_members &= ~found
        if not open_members:
            return Presence(tuple(seen))
    if height - 1 > BLOCKS_READ_MAX:
        return None
    for member in members_of(open_members):
        seen[member] = Height(0)  # in the first blocks of a chain, genesis is when they were seen
    return Presence(tuple(seen))


def _corrected(
    proof: StateProof, noted: StateProof, value: bytes, state_root: Digest
) -> StateProof | None:
    """Return a proof with the record ``noted`` taken back to ``value``, if it leads to the root."""
    if proof.index == noted.index:
        value_before, path = value, proof.path
    else:
        value_before = proof.value
        path = _path_before(proof, noted, leaf_digest(noted.key, noted.next_key, value))
    leaf = leaf_digest(proof.key, proof.next_key, value_before)
    try:
        if root_from_path(leaf, proof.index, proof.count, path) != state_root:
            return None
    except ProofError:
        return None
    return StateProof(proof.key, proof.next_key, value_before, proof.index, proof.count, path)


def _path_before(proof: StateProof, noted: StateProof, leaf: Digest) -> tuple[bytes, ...]:
    """Return the path of ``proof`` in the tree whose leaf of ``noted`` is another one."""
    path = []
    digest, at, mine = leaf, noted.index, proof.index
    for siblings, others in zip(proof.path, noted.path, strict=True):
        if at != mine and at // ARITY == mine // ARITY:
            # The two meet in this page: the other's digest is one of my siblings.
            place = (at % ARITY - (at > mine)) * DIGEST_BYTES
            path.append(siblings[:place] + digest + siblings[place + DIGEST_BYTES :])
        else:
            path.append(siblings)
        split = at % ARITY * DIGEST_BYTES
        digest = node_digest(others[:split] + digest + others[split:])
        at, mine = at // ARITY, mine // ARITY
    return tuple(path)
