"""Who a node is on the network: an Ed25519 key, certified by the network CA.

TLS 1.3 proves that the other end holds the key of a certificate that the CA issued; the key itself
is the node id and must be on the list of configured peers. So a certificate from the right CA alone
opens nothing, and names or addresses in certificates mean nothing. Issuing certificates is not done
here.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from consensus.inputs import PeerId
from p2p.errors import IdentityError, UnknownPeer

if TYPE_CHECKING:
    from pathlib import Path

WORLD_ACCESS: Final = 0o007


@dataclass(frozen=True, slots=True)
class Identity:
    """This node's proven identity and the two TLS contexts that carry it."""

    node_id: PeerId
    expires_at: datetime
    """End of the certificate's validity, UTC."""
    server_context: ssl.SSLContext
    client_context: ssl.SSLContext


def load_identity(key_path: Path, certificate_path: Path, ca_path: Path) -> Identity:
    """Read and check the three files.

    Raises:
        IdentityError: a file is missing, unreadable, of the wrong kind or open to the world; key
            and certificate do not belong together; the CA did not issue it; it is not valid today.
    """
    key = _load_key(key_path)
    certificate = _load_certificate(certificate_path)
    ca = _load_certificate(ca_path)
    node_id = PeerId(key.public_key().public_bytes_raw())
    if certificate.public_key() != key.public_key():
        raise IdentityError(f"{certificate_path}: expected a certificate for the key in {key_path}")
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise IdentityError(f"{certificate_path}: expected it to be issued by {ca_path}") from error
    now = datetime.now(UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise IdentityError(
            f"{certificate_path}: expected a certificate valid at {now:%Y-%m-%d}, it is valid from"
            f" {certificate.not_valid_before_utc:%Y-%m-%d}"
            f" to {certificate.not_valid_after_utc:%Y-%m-%d}"
        )
    return Identity(
        node_id,
        certificate.not_valid_after_utc,
        _context(ssl.PROTOCOL_TLS_SERVER, key_path, certificate_path, ca_path),
        _context(ssl.PROTOCOL_TLS_CLIENT, key_path, certificate_path, ca_path),
    )


def node_id_of(certificate_der: bytes) -> PeerId:
    """Return the node id in a certificate that TLS has verified.

    Raises:
        UnknownPeer: the certificate's key is not Ed25519, so it can be on no list.
    """
    key = x509.load_der_x509_certificate(certificate_der).public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise UnknownPeer(f"expected an Ed25519 certificate, received {type(key).__name__}")
    return PeerId(key.public_bytes_raw())


def _context(
    protocol: int, key_path: Path, certificate_path: Path, ca_path: Path
) -> ssl.SSLContext:
    """Return a context for TLS 1.3 only that demands the other side's certificate of the CA."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The pinned key replaces the host name: addresses of validators change, their keys do not.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cafile=ca_path)
    # An empty passphrase callback: without one, OpenSSL would ask on the terminal.
    context.load_cert_chain(certificate_path, key_path, password=lambda: b"")
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # A resumed session would skip the certificate check; connections live for days anyway.
        context.num_tickets = 0
    return context


def _load_key(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & WORLD_ACCESS:
            raise IdentityError(
                f"{path}: expected no access for other users; run: chmod 600 {path}"
            )
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The text of the library's error could quote the file; the reason is enough.
        raise IdentityError(f"{path}: expected an unencrypted PKCS#8 private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path}: expected an Ed25519 key, found {type(key).__name__}")
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise IdentityError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise IdentityError(f"{path}: expected an X.509 certificate in PEM") from error
