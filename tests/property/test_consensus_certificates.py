"""Certificates under arbitrary change: whatever is not what was signed proves nothing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.certificates import encode_certificate, verify_certificate
from consensus.errors import InvalidCertificate
from consensus.types import Certificate, ConsensusMessage
from ledger.types import Digest, Epoch, Era, View
from ledger.votes import NULL_VALUE, Value, VoteKind, vote_signing_bytes
from tests.unit.consensus.kit import CHAIN_ID, EPOCH, ERA, Net, verify

NET = Net(3, 2)
BLOCK = NET.block(3)
CERTIFICATES = [
    NET.notarization(BLOCK),
    NET.finalization(BLOCK, [0, 1, 2, 3]),
    NET.nullification(7, [1, 2, 3, 4]),
]
DECODER = msgspec.msgpack.Decoder(Certificate)


def is_valid(certificate: Certificate) -> bool:
    try:
        verify_certificate(certificate, CHAIN_ID, NET.validators, ERA, EPOCH, verify)
    except InvalidCertificate:
        return False
    return True


@given(st.sampled_from(CERTIFICATES), st.data())
def test_a_changed_byte_makes_a_certificate_invalid_or_unreadable(
    certificate: Certificate, data: st.DataObject
) -> None:
    """C6, section 5 rows 26 and 29: every byte is under a check."""
    assert is_valid(certificate)
    encoded = bytearray(encode_certificate(certificate))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    try:
        changed = DECODER.decode(bytes(encoded))
    except msgspec.MsgspecError:
        return
    assert not is_valid(changed)


INTEGERS = st.one_of(st.integers(-2, 10), st.integers(2**62, 2**64))


@given(
    st.sampled_from(CERTIFICATES),
    st.fixed_dictionaries(
        {},
        optional={
            "kind": st.sampled_from(list(VoteKind)),
            "era": INTEGERS,
            "epoch": INTEGERS,
            "view": INTEGERS,
            "value": st.sampled_from(
                [
                    NULL_VALUE,
                    BLOCK.value,
                    Value(View(2**63), BLOCK.hash),
                    Value(View(-1), BLOCK.hash),
                ]
            ),
            "bitmap": st.binary(max_size=16),
            "signatures": st.binary(max_size=64 * 5),
        },
    ),
)
def test_only_the_signed_content_is_valid(
    certificate: Certificate, changes: dict[str, object]
) -> None:
    """C5, C6: anything out of range is refused and nothing raises but the one error."""
    changed = msgspec.structs.replace(certificate, **changes)
    assert is_valid(changed) == (changed == certificate)


@given(
    st.sampled_from(list(VoteKind)),
    st.tuples(*[st.integers(0, 2**32 - 1)] * 2),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_signed_bytes_are_fixed_and_say_everything(
    kind: VoteKind, place: tuple[int, int], view: int, parent_view: int, digest: bytes
) -> None:
    """T1: one encoding of a vote, of 109 bytes, in which no two votes are the same."""
    era, epoch = Era(place[0]), Epoch(place[1])
    value = Value(View(parent_view), Digest(digest))
    message = vote_signing_bytes(CHAIN_ID, kind, era, epoch, View(view), value)
    assert len(message) == 109
    assert message[:11] == b"MBI-VOTE-v1"
    assert message[16:48] == CHAIN_ID
    parts = (message[48:52], message[52:60], message[60:68], message[68:69], message[69:77])
    assert [int.from_bytes(part, "big") for part in parts] == [
        era,
        epoch,
        view,
        kind,
        parent_view,
    ]
    assert message[77:] == digest


@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_messages_survive_the_wire(certificate: Certificate) -> None:
    decoder: msgspec.msgpack.Decoder[ConsensusMessage] = msgspec.msgpack.Decoder(ConsensusMessage)
    for message in (NET.proposal(BLOCK), NET.vote(VoteKind.NOTARIZE, 1, 3, BLOCK.value)):
        assert decoder.decode(msgspec.msgpack.encode(message)) == message
    assert DECODER.decode(encode_certificate(certificate)) == certificate
