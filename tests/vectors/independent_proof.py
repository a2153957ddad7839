"""A second, small checker of proof files, written from ``docs/proofs.md`` alone.

It imports nothing of the project: msgpack reads the file, hashes come from hashlib and signatures
from the cryptography package. What it accepts can be accepted by anybody with a free afternoon.
It takes chain id and first validators as given, which people compare over another channel; for the
hash of the genesis block it takes what the first headers say, because the chain id binds them.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FINALIZE = 3
VERSION, ERA, EPOCH, HEIGHT, VIEW, PROPOSER = 0, 1, 2, 3, 4, 6
TRANSACTIONS_ROOT, TRANSACTION_COUNT, SET_HASH = 8, 9, 12
EXECUTED, HISTORY_ROOT, NEXT_SET, PREVIOUS_BOUNDARY = 13, 15, 16, 17
"""Places of the fields in a header."""


class Refused(Exception):
    """The file proves nothing."""


def demand(holds: bool, step: str) -> None:
    """Raise unless a step holds."""
    if not holds:
        raise Refused(step)


def tag(name: str) -> bytes:
    """Return a domain tag: ASCII, padded with zero bytes to 16."""
    return name.encode() + bytes(16 - len(name))


def hashed(name: str, *parts: bytes) -> bytes:
    """Return the hash of a tag and parts."""
    return sha256(tag(name) + b"".join(parts)).digest()


def pack(value: Any) -> bytes:
    """Encode canonically."""
    return bytes(msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes) -> Any:
    """Decode, and refuse what is not canonical."""
    value = msgpack.unpackb(data, raw=False, strict_map_key=True)
    demand(pack(value) == data, "canonical")
    return value


def root_of(leaf: bytes, index: int, count: int, path: list[bytes]) -> bytes:
    """Protocol 6.1: return the root that a path leads to."""
    demand(0 <= index < count, "index")
    digest, nodes = leaf, count
    for siblings in path:
        place = index % 16
        size = min(16, nodes - (index - place))
        demand(nodes > 1 and len(siblings) == 32 * (size - 1), "shape of a path")
        page = siblings[: 32 * place] + digest + siblings[32 * place :]
        digest = hashed("MBI-NODE-v1", page)
        index, nodes = index // 16, -(-nodes // 16)
    demand(nodes == 1, "end of a path")
    return hashed("MBI-ROOT-v1", count.to_bytes(8, "big"), digest)


def check_finalization(
    chain_id: bytes, header: list[Any], certificate: list[Any], members: list[list[Any]]
) -> bytes:
    """L2: check that a quorum of the members finalised the header; return its hash."""
    digest = hashed("MBI-HEAD-v1", chain_id, pack(header))
    kind, kind_number, era, epoch, view, (parent_view, block), bitmap, signatures = certificate
    demand((kind, kind_number, block) == (2, FINALIZE, digest), "certificate of another block")
    demand((era, epoch) == (header[ERA], header[EPOCH]), "certificate of another epoch")
    repeated = header[NEXT_SET] != bytes(32) and header[VIEW] <= parent_view < view
    demand(view == header[VIEW] or repeated, "certificate of another view")
    demand(len(bitmap) == -(-len(members) // 8), "bitmap")
    mask = int.from_bytes(bitmap, "little")
    signers = [i for i in range(8 * len(bitmap)) if mask >> i & 1]
    demand(max(signers) < len(members) and len(signatures) == 64 * len(signers), "signers")
    demand(3 * len(signers) > 2 * len(members), "two thirds")
    for chamber in (1, 2):
        inside = [i for i, member in enumerate(members) if member[2] == chamber]
        demand(2 * len(set(inside) & set(signers)) >= len(inside), "half of a chamber")
    message = tag("MBI-VOTE-v1") + chain_id + era.to_bytes(4, "big") + epoch.to_bytes(8, "big")
    message += view.to_bytes(8, "big") + bytes([FINALIZE]) + parent_view.to_bytes(8, "big") + block
    for place, signer in enumerate(signers):
        key = Ed25519PublicKey.from_public_bytes(members[signer][3])
        verify(key, signatures[64 * place : 64 * place + 64], message)
    return digest


def verify(key: Ed25519PublicKey, signature: bytes, message: bytes) -> None:
    """Refuse a signature that does not verify."""
    try:
        key.verify(signature, message)
    except InvalidSignature as error:
        raise Refused("signature") from error


def leader_of(chain_id: bytes, header: list[Any], members: list[list[Any]]) -> int:
    """Consensus 2: return the index of the leader of the header's view."""
    sides = [[i for i, member in enumerate(members) if member[2] == side] for side in (1, 2)]
    order = [side[i] for i in range(len(members)) for side in sides if i < len(side)]
    place = header[ERA].to_bytes(4, "big") + header[EPOCH].to_bytes(8, "big")
    turn = int.from_bytes(sha256(chain_id + place).digest(), "big")
    return int(order[(turn + header[VIEW]) % len(order)])


def check(data: bytes, chain_id: bytes, members: list[list[Any]]) -> tuple[int, list[Any]]:
    """Return the height and the claim that a file proves; raises Refused.

    ``members`` are the validators of the genesis: name, organisation, chamber, two keys.
    """
    try:
        return check_file(unpack(data), data, chain_id, members)
    except (ArithmeticError, LookupError, TypeError, ValueError, msgpack.UnpackException) as error:
        raise Refused("not of the form of a proof file") from error


def check_file(
    file: list[Any], data: bytes, chain_id: bytes, members: list[list[Any]]
) -> tuple[int, list[Any]]:
    """Go through the steps of section 4."""
    version, network, changes, certified, certificate, history_path, header, claim, digest = file
    demand((version, network) == (1, chain_id), "version and network")
    demand(digest == hashed("MBI-PROOF-v1", data[:-34]), "digest")
    members = sorted(members, key=lambda member: bytes(member[3]))
    base: bytes | None = None
    base_height = 0
    for epoch, (head, proof, following) in enumerate([*changes, (certified, certificate, None)]):
        place = (head[VERSION], head[ERA], head[EPOCH], head[PROPOSER])
        demand(place == (1, 0, epoch, leader_of(chain_id, head, members)), "place")
        demand(head[SET_HASH] == hashed("MBI-VSET-v1", pack(members)), "set")
        demand(base in (None, head[PREVIOUS_BOUNDARY]), "base")
        demand(head[HEIGHT] > base_height and 0 <= head[EXECUTED] < head[HEIGHT], "height")
        block = check_finalization(chain_id, head, proof, members)
        if following is not None:
            demand(following == sorted(following, key=lambda m: bytes(m[3])), "order of members")
            demand(head[NEXT_SET] == hashed("MBI-VSET-v1", pack(following)), "next set")
            members, base, base_height = following, block, head[HEIGHT]
    state_root, receipts_root = check_claim(chain_id, header, claim)
    block = hashed("MBI-HEAD-v1", chain_id, pack(header))
    leaf = hashed("MBI-HIST-v1", block, state_root, receipts_root)
    demand(header[HEIGHT] <= certified[EXECUTED], "executed height")
    root = root_of(leaf, header[HEIGHT], certified[EXECUTED] + 1, history_path)
    demand(root == certified[HISTORY_ROOT], "history")
    return int(header[HEIGHT]), list(claim)


def check_claim(chain_id: bytes, header: list[Any], claim: list[Any]) -> tuple[bytes, bytes]:
    """Step 5: return state root and receipts root that a claim leads to."""
    if claim[0] == 1:
        _, wire, receipt, index, transaction_path, receipt_path, state_root = claim
        identifier = check_transaction(chain_id, wire)
        count = header[TRANSACTION_COUNT]
        leaf = hashed("MBI-WIRE-v1", wire)
        demand(
            root_of(leaf, index, count, transaction_path) == header[TRANSACTIONS_ROOT],
            "transaction",
        )
        demand(receipt[0] == identifier, "receipt")
        return state_root, root_of(
            hashed("MBI-RECEIPT-v1", pack(receipt)), index, count, receipt_path
        )
    _, key, (found, following, value, number, count, path), state_root, receipts_root = claim
    parts = bytes([len(found)]) + found + bytes([len(following)]) + following + value
    demand(root_of(hashed("MBI-STATE-v1", parts), number, count, path) == state_root, "state")
    demand(found == key or (found < key and (key < following or not following)), "key")
    return state_root, receipts_root


def check_transaction(chain_id: bytes, wire: bytes) -> bytes:
    """Return the id of a transaction whose signatures verify."""
    *body, signatures = unpack(wire)
    preimage = tag("MBI-TX-v1") + chain_id + pack(body)
    for key, signature in signatures:
        verify(Ed25519PublicKey.from_public_bytes(key), signature, preimage)
    return sha256(preimage).digest()
