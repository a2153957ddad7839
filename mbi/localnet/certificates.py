"""X.509 certificates for the channels between nodes: one authority, one certificate per node.

All keys are Ed25519. A node's certificate carries its node key, which the other side compares with
the registered one after the handshake; the authority only keeps strangers out
(``docs/network.md``, Transport). Certificates are not secret and not part of the genesis.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ledger.crypto import SigningKey
from mbi.keyfiles import write_key

VALID_FOR: Final = timedelta(days=3650)
"""A local network is thrown away long before; renewing certificates is not its purpose."""

CLOCK_TOLERANCE: Final = timedelta(days=1)
"""A certificate is valid from the day before, so a skewed clock does not refuse a new one."""


def make_authority(seed: bytes, network: str) -> bytes:
    """Return the self-signed authority certificate of a network, in PEM."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    name = _name(f"{network} network authority")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(_authority_identifier(key.public_key()), critical=False)
        .sign(key, None)
    )
    return certificate.public_bytes(Encoding.PEM)


def write_channel_keys(
    keys: Path, name: str, node_seed: bytes, authority_seed: bytes, authority: bytes
) -> None:
    """Write what a node's channels need into the keys directory of its home."""
    node_key = SigningKey.from_seed(node_seed).public_key
    certificate = issue_certificate(authority_seed, authority, node_key, name)
    write_key(keys / "node.pem", node_seed, None)
    (keys / "node.crt").write_bytes(certificate)
    (keys / "ca.crt").write_bytes(authority)


def issue_certificate(
    authority_seed: bytes, authority_pem: bytes, node_key: bytes, node_name: str
) -> bytes:
    """Return a certificate for a node's public key (32 bytes), signed by the authority, in PEM."""
    authority_key = Ed25519PrivateKey.from_private_bytes(authority_seed)
    authority = x509.load_pem_x509_certificate(authority_pem)
    public_key = Ed25519PublicKey.from_public_bytes(node_key)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder(_name(node_name), authority.subject, public_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(node_name)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority_identifier(authority_key.public_key()), critical=False)
        .sign(authority_key, None)
    )
    return certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: Ed25519PublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + VALID_FOR)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _authority_identifier(key: Ed25519PublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
