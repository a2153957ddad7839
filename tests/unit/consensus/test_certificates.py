"""Certificates (docs/protocol-consensus.md, Certificates)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from consensus.certificates import (
    CERTIFICATE_VIEWS_KEPT,
    CertificateStore,
    certificate_hash,
    encode_certificate,
    signers,
    verify_certificate,
)
from consensus.errors import InvalidCertificate
from consensus.types import Certificate
from ledger.types import UINT64_MAX, ZERO_DIGEST, Digest, PublicKey, Signature, View
from ledger.votes import NULL_VALUE, Value, VoteKind
from tests.unit.consensus.kit import CHAIN_ID, EPOCH, ERA, Net, verify

NET = Net(3, 2)
BLOCK = NET.block(3)
GOOD = NET.notarization(BLOCK, [0, 1, 2, 3])


def check(certificate: Certificate) -> None:
    verify_certificate(certificate, CHAIN_ID, NET.validators, ERA, EPOCH, verify)


def replace(certificate: Certificate, **changes: Any) -> Certificate:
    return msgspec.structs.replace(certificate, **changes)


@pytest.mark.parametrize("kind", list(VoteKind))
def test_a_quorum_of_any_kind_is_valid(kind: VoteKind) -> None:
    value = NULL_VALUE if kind is VoteKind.NULLIFY else BLOCK.value
    check(NET.certificate(kind, 3, value, [1, 2, 3, 4]))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("another kind", {"kind": VoteKind.FINALIZE}),
        ("another era", {"era": 1}),
        ("another epoch", {"epoch": 1}),
        ("view 0", {"view": 0}),
        ("negative view", {"view": -1}),
        ("view 2^63", {"view": 2**63}),
        ("largest view", {"view": UINT64_MAX}),
        ("view beyond 64 bits", {"view": UINT64_MAX + 1}),
        ("another block", {"value": Value(View(0), Digest(b"x" * 32))}),
        ("parent not below", {"value": Value(View(3), BLOCK.hash)}),
        ("negative parent view", {"value": Value(View(-1), BLOCK.hash)}),
        ("no block", {"value": NULL_VALUE}),
        ("nullify with a block", {"kind": VoteKind.NULLIFY}),
        ("bitmap too short", {"bitmap": b""}),
        ("bitmap too long", {"bitmap": b"\x0f\x00"}),
        ("unknown signer", {"bitmap": b"\x2f", "signatures": GOOD.signatures + bytes(64)}),
        ("another signer", {"bitmap": b"\x17"}),
        ("one signature missing", {"signatures": GOOD.signatures[:-64]}),
        ("half a signature", {"signatures": GOOD.signatures[:-32]}),
        ("garbage beyond the quorum", {"signatures": GOOD.signatures + bytes(64)}),
        ("a signature twice", {"signatures": GOOD.signatures[:192] + GOOD.signatures[:64]}),
        ("last signature wrong", {"signatures": GOOD.signatures[:-1] + b"\x00"}),
    ],
)
def test_a_changed_certificate_proves_nothing(name: str, changes: dict[str, Any]) -> None:
    """C5, C6, section 5 rows 26 and 30: every field counts, every signature is checked."""
    check(GOOD)
    with pytest.raises(InvalidCertificate):
        check(replace(GOOD, **changes))


def test_a_bad_signature_beyond_the_quorum_makes_the_whole_invalid() -> None:
    """C6, CVE-2020-15091: checking stops nowhere, not even after a quorum of good ones."""
    everyone = NET.notarization(BLOCK)
    with pytest.raises(InvalidCertificate, match="signature of validator 4"):
        check(replace(everyone, signatures=everyone.signatures[:-64] + bytes(64)))


def test_two_thirds_without_half_of_a_chamber_are_no_quorum() -> None:
    net = Net(7, 3)
    one_chamber = [i for i in range(10) if net.validators[i].chamber == 1]
    certificate = net.notarization(net.block(1), one_chamber)
    with pytest.raises(InvalidCertificate, match="no quorum"):
        verify_certificate(certificate, CHAIN_ID, net.validators, ERA, EPOCH, verify)


@pytest.mark.parametrize(
    "changes",
    [{"era": 1}, {"view": 0}, {"value": NULL_VALUE}, {"bitmap": b"\xff"}, {"signatures": b""}],
    ids=str,
)
def test_shape_is_refused_before_any_signature_is_checked(changes: dict[str, Any]) -> None:
    """C5: in constant time."""

    def never(key: PublicKey, message: bytes, signature: Signature) -> bool:
        raise AssertionError("a signature was checked")

    with pytest.raises(InvalidCertificate):
        verify_certificate(replace(GOOD, **changes), CHAIN_ID, NET.validators, ERA, EPOCH, never)


def test_signatures_that_were_verified_as_votes_are_not_verified_again() -> None:
    checked: list[PublicKey] = []

    def count(key: PublicKey, message: bytes, signature: Signature) -> bool:
        checked.append(key)
        return verify(key, message, signature)

    verify_certificate(
        GOOD, CHAIN_ID, NET.validators, ERA, EPOCH, count, lambda voter, _: voter != 2
    )
    assert checked == [NET.validators[2].consensus_key]


def test_hash_is_of_the_encoding_and_zero_for_none() -> None:
    assert certificate_hash(None) == ZERO_DIGEST
    assert certificate_hash(GOOD) != certificate_hash(NET.notarization(BLOCK))
    assert msgspec.msgpack.decode(encode_certificate(GOOD), type=Certificate) == GOOD


def test_bitmap_is_least_significant_bit_first() -> None:
    assert NET.notarization(BLOCK, [0, 1, 2, 4]).bitmap == b"\x17"
    assert signers(NET.notarization(BLOCK, [0, 1, 2, 4])) == 0b10111


def test_clashing_certificates_are_two_values_or_nullify_with_finalize() -> None:
    store = CertificateStore()
    store.add(GOOD)
    other = NET.block(3, time_ms=5_000)
    assert store.clashes(NET.notarization(other)) == (GOOD,)
    assert store.clashes(NET.finalization(other)) == (GOOD,)
    assert store.clashes(NET.nullification(3)) == ()
    assert store.clashes(NET.finalization(BLOCK)) == ()
    nullified = CertificateStore()
    nullified.add(NET.nullification(3))
    assert nullified.clashes(NET.finalization(BLOCK)) != ()
    assert nullified.clashes(NET.notarization(BLOCK)) == ()


def test_store_finds_by_view_and_by_block() -> None:
    store = CertificateStore()
    notarization, finalization = GOOD, NET.finalization(BLOCK)
    for certificate in (NET.nullification(2), notarization, finalization):
        store.add(certificate)
    assert store.of_block(BLOCK.hash) == (notarization, finalization)
    assert store.block_at(View(3)) is notarization
    assert store.block_at(View(2)) is None
    assert store.highest_view == 3
    assert store.notarizations_above(View(2)) == [notarization]
    assert store.notarizations_above(View(3)) == []


def test_store_keeps_a_bounded_number_of_decided_views() -> None:
    """I10: what is far below the highest finalization is dropped, what is above never."""
    store = CertificateStore()
    for view in range(1, 20):
        store.add(NET.nullification(view))
    far = CERTIFICATE_VIEWS_KEPT + 10
    store.add(NET.finalization(NET.block(far)))
    store.add(NET.nullification(far + 1))
    store.prune()
    assert store.at(View(9)) == ()
    assert store.at(View(10)) != ()
    assert store.at(View(far + 1)) != ()
