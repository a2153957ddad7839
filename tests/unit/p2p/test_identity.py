"""Loading the node's own key and certificates: every refusal names the file and the reason."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from p2p.errors import IdentityError
from p2p.identity import load_identity
from tests.unit.p2p.certificates import DAY, Authority

if TYPE_CHECKING:
    from pathlib import Path


def test_the_node_id_is_the_key_in_the_certificate(tmp_path: Path) -> None:
    authority = Authority()
    files = authority.issue(tmp_path, "node")
    identity = load_identity(files.key_path, files.certificate_path, authority.write(tmp_path))
    assert identity.node_id == files.node_id


@pytest.mark.parametrize("missing", ["node.pem", "node.crt", "ca.crt"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    """O3: missing CA, key or certificate."""
    authority = Authority()
    files = authority.issue(tmp_path, "node")
    ca_path = authority.write(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(IdentityError, match=rf"{missing}: No such file"):
        load_identity(files.key_path, files.certificate_path, ca_path)


@pytest.mark.parametrize("spoilt", ["node.pem", "node.crt", "ca.crt"])
def test_a_truncated_file_is_named(tmp_path: Path, spoilt: str) -> None:
    """K2: truncated."""
    authority = Authority()
    files = authority.issue(tmp_path, "node")
    ca_path = authority.write(tmp_path)
    path = tmp_path / spoilt
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(IdentityError, match=spoilt):
        load_identity(files.key_path, files.certificate_path, ca_path)


def test_a_key_the_world_can_read_is_refused(tmp_path: Path) -> None:
    """K2: world-readable."""
    authority = Authority()
    files = authority.issue(tmp_path, "node")
    files.key_path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        load_identity(files.key_path, files.certificate_path, authority.write(tmp_path))


def test_an_encrypted_key_is_refused_without_asking_on_the_terminal(tmp_path: Path) -> None:
    """K2, K1: and the message quotes nothing of the file."""
    authority = Authority()
    key = Ed25519PrivateKey.generate()
    files = authority.issue(tmp_path, "node", key=key)
    text = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
    )
    files.key_path.write_bytes(text)
    with pytest.raises(IdentityError, match="unencrypted PKCS#8") as refusal:
        load_identity(files.key_path, files.certificate_path, authority.write(tmp_path))
    assert text.splitlines()[1].decode() not in str(refusal.value)


def test_a_key_of_another_algorithm_is_refused(tmp_path: Path) -> None:
    """K2: other algorithm."""
    authority = Authority()
    files = authority.issue(tmp_path, "node")
    other = generate_private_key(SECP256R1())
    files.key_path.write_bytes(
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(IdentityError, match="Ed25519"):
        load_identity(files.key_path, files.certificate_path, authority.write(tmp_path))


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    """O3: files of two nodes mixed up."""
    authority = Authority()
    one, two = authority.issue(tmp_path, "one"), authority.issue(tmp_path, "two")
    with pytest.raises(IdentityError, match=r"for the key in .*two\.pem"):
        load_identity(two.key_path, one.certificate_path, authority.write(tmp_path))


def test_a_certificate_of_another_ca_is_refused(tmp_path: Path) -> None:
    """O3: it could talk to nobody; better to know at the start."""
    files = Authority().issue(tmp_path, "node")
    with pytest.raises(IdentityError, match=r"issued by .*ca\.crt"):
        load_identity(files.key_path, files.certificate_path, Authority().write(tmp_path))


@pytest.mark.parametrize(
    ("valid_from", "valid_to"), [(-2 * DAY, -timedelta(minutes=1)), (DAY, 2 * DAY)]
)
def test_a_certificate_out_of_its_time_is_refused(
    tmp_path: Path, valid_from: timedelta, valid_to: timedelta
) -> None:
    authority = Authority()
    files = authority.issue(tmp_path, "node", valid_from=valid_from, valid_to=valid_to)
    with pytest.raises(IdentityError, match="valid from"):
        load_identity(files.key_path, files.certificate_path, authority.write(tmp_path))
