"""Ed25519 under the strict rule, and keys that do not show their secrets."""

from __future__ import annotations

import pickle

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from ledger import crypto
from ledger.crypto import LOW_ORDER_ENCODINGS, SigningKey, check_public_key, verify, verify_many
from ledger.errors import InvariantViolation, WeakPublicKey
from tests.unit.ledger.builders import make_key

IDENTITY = bytes([1]) + bytes(31)


def openssl_verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Verify as a lax library does: low-order keys are accepted."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_the_universal_signature_of_the_identity_key_is_refused() -> None:
    """T1: key and R are the identity, S is 0."""
    universal = IDENTITY + bytes(32)
    assert openssl_verify(IDENTITY, b"any message", universal), "no longer a threat to test against"
    assert not verify(IDENTITY, b"any message", universal)


@pytest.mark.parametrize("encoding", LOW_ORDER_ENCODINGS, ids=bytes.hex)
def test_low_order_points_are_refused_as_key_and_as_r(encoding: bytes) -> None:
    """T1: each of the 14 encodings can be forged for within a few tries under a lax rule."""
    forged = [
        (encoding, bytes([attempt]), r + bytes(32))
        for attempt in range(64)
        for r in (encoding, IDENTITY)
    ]
    assert any(openssl_verify(*item) for item in forged)
    assert not any(verify_many(forged))
    assert not verify(make_key("alice").public_key, b"", encoding + bytes(32))
    with pytest.raises(WeakPublicKey):
        check_public_key(encoding)


def test_there_are_fourteen_low_order_encodings() -> None:
    assert len(set(LOW_ORDER_ENCODINGS)) == 14


@pytest.mark.parametrize(
    "key",
    [
        (2**255 - 19 + 3).to_bytes(32, "little"),  # y = 3, not reduced
        (2).to_bytes(32, "little"),  # no point has y = 2
        bytes(31),
        bytes(33),
    ],
)
def test_keys_that_are_no_canonical_points_are_refused(key: bytes) -> None:
    """T1: non-canonical y, no point at all, wrong length."""
    with pytest.raises(WeakPublicKey) as refusal:
        check_public_key(key)
    assert refusal.value.code == "weak_public_key"


def test_a_malleated_signature_is_refused() -> None:
    """T2: S + L satisfies the equation, but S is not below L."""
    key = make_key("alice")
    signature = key.sign(b"pay bob")
    assert verify(key.public_key, b"pay bob", signature)
    assert not verify(key.public_key, b"pay bob", crypto.add_group_order(signature))


@given(
    signature=st.one_of(st.binary(max_size=200), st.text(), st.none(), st.integers(), st.booleans())
)
def test_signatures_of_any_type_and_length_are_refused_quietly(signature: object) -> None:
    """T3: no exception of a library escapes."""
    assert not verify(make_key("alice").public_key, b"", signature)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 31, 33, 10**6])
def test_keys_of_a_wrong_length_verify_nothing(length: int) -> None:
    """T3: the library raises its own ValueError for these."""
    signature = make_key("alice").sign(b"")
    assert not verify(bytes(length), b"", signature)
    assert not verify(make_key("alice").public_key, b"", signature + bytes(10**6))


def test_bytes_cannot_move_between_signature_and_message() -> None:
    """T3: the library gets them joined, so the length alone tells where one ends."""
    key = make_key("alice")
    signature = key.sign(b"message")
    assert verify(key.public_key, b"message", signature)
    assert not verify(key.public_key, b"essage", signature + b"m")
    assert not verify(key.public_key, signature[63:] + b"message", signature[:63])


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300))
def test_two_libraries_agree_on_honest_signatures(seed: bytes, message: bytes) -> None:
    ours = SigningKey.from_seed(seed)
    theirs = Ed25519PrivateKey.from_private_bytes(seed)
    signature = ours.sign(message)
    assert theirs.public_key().public_bytes_raw() == ours.public_key
    assert theirs.sign(message) == signature
    assert verify(ours.public_key, message, signature)
    assert not verify(ours.public_key, message + b"x", signature)
    check_public_key(ours.public_key)


def test_verify_many_answers_item_by_item() -> None:
    key = make_key("alice")
    good = (key.public_key, b"m", key.sign(b"m"))
    bad = (key.public_key, b"n", key.sign(b"m"))
    assert verify_many([good, bad, good]) == [True, False, True]


def test_the_self_test_passes_here() -> None:
    crypto.self_test()


def test_the_self_test_stops_a_node_with_a_lax_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """T1: a node on another acceptance rule would fork the network, so it must not start."""
    monkeypatch.setattr(crypto, "verify", openssl_verify)
    with pytest.raises(InvariantViolation, match="strict_ed25519"):
        crypto.self_test()


def test_a_signing_key_never_shows_its_secret() -> None:
    """K1: not in its representation, and it cannot be pickled."""
    seed = b"canary-canary-canary-canary-0123"
    key = SigningKey.from_seed(seed)
    shown = repr(key) + str(key) + f"{key}"
    assert seed.hex() not in shown
    assert "canary" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)
