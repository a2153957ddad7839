"""A second, small implementation of the wire format, written from ``docs/protocol.md`` alone.

It imports nothing of the project: msgpack bytes are put together by hand, hashes come from
hashlib and signatures from the cryptography package. Where it agrees with the node byte for byte,
the document is complete enough to write a client from.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BECH32_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
TRANSFER_TAG = 7


def tag(name: str) -> bytes:
    """Section 1: ASCII, padded with zero bytes to 16."""
    return name.encode() + b"\x00" * (16 - len(name))


def sha256(data: bytes) -> bytes:
    """Section 1."""
    return hashlib.sha256(data).digest()


# --- Section 1: canonical msgpack ---------------------------------------------------------------


def integer(value: int) -> bytes:
    """Encode a non-negative integer in the fewest bytes."""
    if value < 0x80:
        return bytes([value])
    for head, size in ((0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8)):
        if value < 1 << 8 * size:
            return bytes([head]) + value.to_bytes(size, "big")
    raise ValueError(value)


def binary(value: bytes) -> bytes:
    """Encode a byte string."""
    for head, size in ((0xC4, 1), (0xC5, 2), (0xC6, 4)):
        if len(value) < 1 << 8 * size:
            return bytes([head]) + len(value).to_bytes(size, "big") + value
    raise ValueError(len(value))


def text(value: str) -> bytes:
    """Encode a text."""
    data = value.encode()
    if len(data) < 32:
        return bytes([0xA0 | len(data)]) + data
    for head, size in ((0xD9, 1), (0xDA, 2), (0xDB, 4)):
        if len(data) < 1 << 8 * size:
            return bytes([head]) + len(data).to_bytes(size, "big") + data
    raise ValueError(len(data))


def array(items: Sequence[bytes]) -> bytes:
    """Encode an array of encoded items."""
    if len(items) < 16:
        return bytes([0x90 | len(items)]) + b"".join(items)
    return b"\xdc" + len(items).to_bytes(2, "big") + b"".join(items)


NIL = b"\xc0"
FALSE = b"\xc2"
TRUE = b"\xc3"


# --- Section 3: keys and addresses --------------------------------------------------------------


def public_key_of(seed: bytes) -> bytes:
    """Return the Ed25519 public key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def address_of(public_key: bytes) -> bytes:
    """Return the first 20 bytes of the tagged hash of the first public key."""
    return sha256(tag("MBI-ADDR-v1") + public_key)[:20]


def bech32m(address: bytes) -> str:
    """Return the text form of an address (BIP 350, prefix "mbi")."""
    bits = "".join(f"{byte:08b}" for byte in address)
    data = [int(bits[start : start + 5], 2) for start in range(0, len(bits), 5)]
    values = [ord(c) >> 5 for c in "mbi"] + [0] + [ord(c) & 31 for c in "mbi"] + data + [0] * 6
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(
            (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
        ):
            if top >> bit & 1:
                checksum ^= generator
    checksum ^= 0x2BC830A3
    data += [checksum >> 5 * (5 - place) & 31 for place in range(6)]
    return "mbi1" + "".join(BECH32_ALPHABET[value] for value in data)


# --- Section 2: transactions --------------------------------------------------------------------


def transfer(to: bytes, asset: str, amount: int) -> bytes:
    """Section 4: encode a transfer that acts for the sender."""
    return array([integer(TRANSFER_TAG), NIL, binary(to), text(asset), integer(amount)])


def validator(name: str, organisation: str, chamber: int, keys: Sequence[bytes]) -> bytes:
    """Section 7: encode a validator; ``keys`` are those for consensus and for the node."""
    return array([text(name), text(organisation), integer(chamber), *map(binary, keys)])


def propose_change(change: bytes) -> bytes:
    """Section 4.1: encode the proposal of an encoded change."""
    return array([integer(9), NIL, change])


def add_validator(member: bytes) -> bytes:
    """Section 4.1: encode the change that adds an encoded validator."""
    return array([integer(1), member])


def remove_validator(consensus_key: bytes) -> bytes:
    """Section 4.1: encode the change that removes a validator."""
    return array([integer(2), binary(consensus_key)])


def rotate_key(consensus_key: bytes, new_keys: Sequence[bytes]) -> bytes:
    """Section 4.1: encode the change that replaces both keys of a validator."""
    return array([integer(3), binary(consensus_key), *map(binary, new_keys)])


def set_powers(organisation: str, weight: int, licences: Sequence[int]) -> bytes:
    """Section 4.1: encode the change of an organisation's powers."""
    return array(
        [integer(4), text(organisation), integer(weight), array([integer(x) for x in licences])]
    )


def set_parameters(parameters: Sequence[int]) -> bytes:
    """Section 4.1: encode the change of the network's limits."""
    return array([integer(5), array([integer(x) for x in parameters])])


def activate_feature(name: str, height: int) -> bytes:
    """Section 4.1: encode the activation of a feature."""
    return array([integer(6), text(name), integer(height)])


def vote_change(proposal: int, *, approve: bool) -> bytes:
    """Section 4.1: encode a vote on a proposal."""
    return array([integer(10), NIL, integer(proposal), TRUE if approve else FALSE])


def readiness_preimage(chain_id: bytes, member: bytes, expires_ms: int) -> bytes:
    """Section 4.1: return what a joining consensus key signs."""
    return tag("MBI-JOIN-v1") + chain_id + array([member, integer(expires_ms)])


def prove_readiness(chain_id: bytes, member: bytes, expires_ms: int, seed: bytes) -> bytes:
    """Section 4.1: encode a proof of readiness, signed by the key of ``seed``."""
    message = readiness_preimage(chain_id, member, expires_ms)
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(message)
    return array([integer(11), NIL, member, integer(expires_ms), binary(signature)])


def vote(
    kind: int, place: Sequence[int], value: tuple[int, bytes], voter: int, sig: bytes
) -> bytes:
    """Consensus, 3: encode a vote; ``place`` is era, epoch, view."""
    parent_view, block = value
    return array(
        [
            integer(1),
            integer(kind),
            *map(integer, place),
            array([integer(parent_view), binary(block)]),
            integer(voter),
            binary(sig),
        ]
    )


def report_evidence(first: bytes, second: bytes) -> bytes:
    """Section 4.1: encode the report of two encoded votes."""
    return array([integer(12), NIL, first, second])


def validator_set_hash(members: dict[bytes, bytes]) -> bytes:
    """Consensus, 1: hash a set; encoded members by their consensus keys."""
    return sha256(tag("MBI-VSET-v1") + array([members[key] for key in sorted(members)]))


def block(
    header: bytes, certificate: bytes, wires: Sequence[bytes], members: Sequence[bytes]
) -> bytes:
    """Section 5.1: encode a block from its encoded header, wires and next validators."""
    return array(
        [header, binary(certificate), array([binary(wire) for wire in wires]), array(members)]
    )


def body_fields(
    sender: bytes, nonce: int, valid_until: int, operations: Sequence[bytes], memo: str
) -> list[bytes]:
    """Encode the six fields that are signed."""
    return [
        integer(1),
        binary(sender),
        integer(nonce),
        integer(valid_until),
        array(operations),
        text(memo),
    ]


def preimage(chain_id: bytes, fields: Sequence[bytes]) -> bytes:
    """Return what is hashed to the id and what is signed."""
    return tag("MBI-TX-v1") + chain_id + array(fields)


def sign(chain_id: bytes, fields: Sequence[bytes], seeds: Sequence[bytes]) -> bytes:
    """Return the wire bytes, signed by the keys of all seeds."""
    message = preimage(chain_id, fields)
    entries = []
    for seed in sorted(seeds, key=public_key_of):
        signature = Ed25519PrivateKey.from_private_bytes(seed).sign(message)
        entries.append(array([binary(public_key_of(seed)), binary(signature)]))
    return array([*fields, array(entries)])


def wire_hash(wire: bytes) -> bytes:
    """Return what a block commits to."""
    return sha256(tag("MBI-WIRE-v1") + wire)


# --- Section 6: trees ---------------------------------------------------------------------------


def dense_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of the dense tree over leaf digests."""
    level = list(leaves)
    while len(level) > 1:
        level = [
            sha256(tag("MBI-NODE-v1") + b"".join(level[start : start + 16]))
            for start in range(0, len(level), 16)
        ]
    top = level[0] if level else bytes(32)
    return sha256(tag("MBI-ROOT-v1") + len(leaves).to_bytes(8, "big") + top)


def state_root(values: dict[bytes, bytes]) -> bytes:
    """Return the root of a first state: leaf 0 is the sentinel, then the keys in order."""
    keys = [b"", *sorted(values), b""]
    leaves = []
    for key, following in itertools.pairwise(keys):
        value = values.get(key, b"")
        leaf = bytes([len(key)]) + key + bytes([len(following)]) + following + value
        leaves.append(sha256(tag("MBI-STATE-v1") + leaf))
    return dense_root(leaves)
