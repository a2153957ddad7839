"""Makes certificates for tests: good ones, and each kind of bad one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from consensus.inputs import PeerId

if TYPE_CHECKING:
    from pathlib import Path

BOTH_USES = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """Where one node's key and certificate were written."""

    node_id: PeerId
    key_path: Path
    certificate_path: Path


class Authority:
    """A certificate authority."""

    def __init__(self, name: str = "Test network CA") -> None:
        self.key = Ed25519PrivateKey.generate()
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 30 * DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, None)
        )

    def write(self, directory: Path, name: str = "ca") -> Path:
        path = directory / f"{name}.crt"
        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return path

    def issue(
        self,
        directory: Path,
        name: str,
        *,
        key: Ed25519PrivateKey | None = None,
        uses: tuple[x509.ObjectIdentifier, ...] = BOTH_USES,
        valid_from: timedelta = -DAY,
        valid_to: timedelta = DAY,
        self_signed: bool = False,
    ) -> Files:
        """Write NAME.pem and NAME.crt; times are relative to now."""
        key = key or Ed25519PrivateKey.generate()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + valid_from)
            .not_valid_after(now + valid_to)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(key if self_signed else self.key, None)
        )
        key_path = directory / f"{name}.pem"
        key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key_path.chmod(0o600)
        certificate_path = directory / f"{name}.crt"
        certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
        return Files(PeerId(key.public_key().public_bytes_raw()), key_path, certificate_path)
