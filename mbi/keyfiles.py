"""Ed25519 key files: PKCS#8 in PEM, encrypted with scrypt and AES-256 (PBES2).

One standard format for wallets, validators and nodes: ``openssl pkey`` and every PKCS#8 library
read it. The encryption of the ``cryptography`` package would stretch the passphrase with 2,048
rounds of PBKDF2 only, so this module writes the encrypted envelope itself (RFC 8018 section 6.2,
RFC 7914 section 7, RFC 5958 section 3) and lets the library read it. Files are created with mode
0600, never replaced, and refused if other users could read them. Reasons:
docs/adr/0012-key-files.md.

The module holds no passphrases and shows no secrets: errors name the file and the reason only.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
from typing import TYPE_CHECKING, ClassVar, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mbi.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SCRYPT_COST: Final = 2**14
"""N: 16 MiB of memory per guess; twice that exceeds what OpenSSL's own reader allows itself."""

SCRYPT_BLOCK: Final = 8
"""r: block size factor; the customary value."""

SCRYPT_PARALLEL: Final = 5
"""p: five passes make up for the moderate memory (OWASP password storage table, N = 2^14)."""

SALT_BYTES: Final = 16
KEY_BYTES: Final = 32
AES_BLOCK_BYTES: Final = 16
SEED_BYTES: Final = 32

KEY_FILE_BYTES_MAX: Final = 16 * 1024
"""A key file has about 300 bytes; anything far larger is some other file."""

PASSPHRASE_BYTES_MAX: Final = 1024
"""Bounds what is read from a passphrase file."""

PRIVATE_FILE_MODE: Final = 0o600

_OID_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_OID_SCRYPT: Final = bytes.fromhex("06092b06010401da47040b")
_OID_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")
_DER_INTEGER: Final = 0x02
_DER_OCTETS: Final = 0x04
_DER_SEQUENCE: Final = 0x30
_DER_SHORT_LENGTH_MAX: Final = 0x7F

_LABEL_PLAIN: Final = b"-----BEGIN PRIVATE KEY-----"
_LABEL_ENCRYPTED: Final = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


class KeyFileError(UsageError):
    """A key file cannot be used; the message names the file and the reason in one line."""

    code: ClassVar[str] = "key_file"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"key file {path}: {reason}")
        self.path = path


class KeyFileMissing(KeyFileError):
    """There is no such file."""

    code = "key_file_missing"


class KeyFileExists(KeyFileError):
    """A key file is never overwritten: the old key could be lost."""

    code = "key_file_exists"


class KeyFilePermissions(KeyFileError):
    """Other users can read or change the file."""

    code = "key_file_permissions"


class KeyFileDamaged(KeyFileError):
    """The content is truncated or is no PKCS#8 private key."""

    code = "key_file_damaged"


class KeyFileAlgorithm(KeyFileError):
    """The file holds a key of another algorithm."""

    code = "key_file_algorithm"


class PassphraseWrong(KeyFileError):
    """The passphrase does not open the file."""

    code = "passphrase_wrong"


class PassphraseRequired(KeyFileError):
    """The file is encrypted and no passphrase was given."""

    code = "passphrase_required"


class KeyFileUnencrypted(KeyFileError):
    """The caller demands an encrypted file and this one is not."""

    code = "key_file_unencrypted"


def encode_key(seed: bytes, passphrase: bytes | None) -> bytes:
    """Return the PEM text of a private key, encrypted unless ``passphrase`` is None; costs 0.2 s.

    Raises ``ValueError`` on a seed that is not 32 bytes or an empty passphrase.
    """
    plain = Ed25519PrivateKey.from_private_bytes(seed).private_bytes(
        Encoding.DER, PrivateFormat.PKCS8, NoEncryption()
    )
    if passphrase is None:
        return _pem("PRIVATE KEY", plain)
    if not passphrase:
        raise ValueError("an empty passphrase protects nothing; give None to write a plain key")
    return _pem("ENCRYPTED PRIVATE KEY", _encrypt(plain, passphrase))


def write_key(path: Path, seed: bytes, passphrase: bytes | None) -> None:
    """Create a key file with mode 0600; raise :class:`KeyFileExists` if there is one."""
    create_private_file(path, encode_key(seed, passphrase))


def create_private_file(path: Path, content: bytes) -> None:
    """Create a file only its owner can read, durably; :class:`KeyFileExists` if it exists."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE)
    except FileExistsError as error:
        raise KeyFileExists(path, "exists already; choose another name") from error
    except OSError as error:
        raise KeyFileError(path, f"cannot be created: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_private_file(path: Path, content: bytes) -> None:
    """Write a file only its owner can read so that others see all of the old or of the new one."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    create_private_file(fresh, content)
    fresh.replace(path)


def read_key(path: Path, passphrase: bytes | None, *, demand_encryption: bool = False) -> bytes:
    """Return the 32-byte seed of an Ed25519 key file.

    ``passphrase`` is ignored for a file that is not encrypted. Raises a leaf of
    :class:`KeyFileError` that names the one thing that is wrong.
    """
    content = _read_private_file(path)
    if not content.lstrip().startswith((_LABEL_PLAIN, _LABEL_ENCRYPTED)):
        raise KeyFileDamaged(path, "is not a PKCS#8 private key in PEM form")
    if is_encrypted_pem(content):
        return _seed_of(path, content, passphrase)
    if demand_encryption:
        reason = "is not encrypted; encrypt it with: mbi keys import NAME --file " + str(path)
        raise KeyFileUnencrypted(path, reason)
    return _seed_of(path, content, None)


def is_encrypted_pem(content: bytes) -> bool:
    """Tell whether the PEM text says that its key is encrypted."""
    return content.lstrip().startswith(_LABEL_ENCRYPTED)


def is_encrypted(path: Path) -> bool:
    """Tell whether a key file needs a passphrase; raises as :func:`read_key` does."""
    return is_encrypted_pem(_read_private_file(path))


def read_passphrase_file(path: Path) -> bytes:
    """Return the first line of a passphrase file, which obeys the same permission rule as a key."""
    content = _read_private_file(path)
    line = content.split(b"\n", 1)[0].removesuffix(b"\r")
    if not line or len(line) > PASSPHRASE_BYTES_MAX:
        reason = f"the first line must hold a passphrase of 1 to {PASSPHRASE_BYTES_MAX} bytes"
        raise KeyFileDamaged(path, reason)
    return line


def _read_private_file(path: Path) -> bytes:
    try:
        # Not blocking: a pipe under this name must not make us wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise KeyFileMissing(path, "does not exist") from error
    except OSError as error:
        raise KeyFileError(path, f"cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileDamaged(path, "is not a regular file")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = stat.S_IMODE(status.st_mode)
            raise KeyFilePermissions(
                path, f"mode {mode:04o} lets other users in; run: chmod 600 {path}"
            )
        if status.st_size > KEY_FILE_BYTES_MAX:
            raise KeyFileDamaged(
                path, f"has {status.st_size} bytes, a key file has at most {KEY_FILE_BYTES_MAX}"
            )
        return os.read(descriptor, KEY_FILE_BYTES_MAX)
    finally:
        os.close(descriptor)


def _seed_of(path: Path, content: bytes, passphrase: bytes | None) -> bytes:
    if passphrase is None and is_encrypted_pem(content):
        raise PassphraseRequired(path, "is encrypted and no passphrase was given")
    if not _has_whole_body(content):
        raise KeyFileDamaged(path, "is truncated or damaged; restore it from your backup")
    # The library's messages can quote what it parsed, so they are not passed on.
    try:
        key = load_pem_private_key(content, passphrase)
    except UnsupportedAlgorithm:
        reason = "uses an encryption or a kind of key that is not supported; expected Ed25519"
        raise KeyFileAlgorithm(path, reason) from None
    except (ValueError, TypeError):
        if passphrase is not None:
            raise PassphraseWrong(path, "wrong passphrase, or the content is damaged") from None
        raise KeyFileDamaged(path, "is truncated or damaged; restore it from your backup") from None
    if not isinstance(key, Ed25519PrivateKey):
        kind = type(key).__name__.removesuffix("PrivateKey").lstrip("_")
        raise KeyFileAlgorithm(path, f"holds a {kind} key; expected Ed25519")
    return key.private_bytes_raw()


def _has_whole_body(content: bytes) -> bool:
    """Tell whether the PEM body is base64 of one DER sequence of exactly the stated length.

    So a truncated file is never reported as a wrong passphrase.
    """
    lines = [line.strip() for line in content.strip().splitlines()]
    if not lines[-1].startswith(b"-----END ") or not lines[-1].endswith(b"-----"):
        return False
    try:
        body = base64.b64decode(b"".join(lines[1:-1]), validate=True)
    except ValueError:
        return False
    return _der_total_length(body) == len(body)


def _der_total_length(data: bytes) -> int | None:
    if len(data) < 2 or data[0] != _DER_SEQUENCE:
        return None
    if data[1] <= _DER_SHORT_LENGTH_MAX:
        return 2 + data[1]
    count = data[1] & _DER_SHORT_LENGTH_MAX
    return 2 + count + int.from_bytes(data[2 : 2 + count], "big")


def _encrypt(plain: bytes, passphrase: bytes) -> bytes:
    """Return EncryptedPrivateKeyInfo: PBES2 with scrypt and AES-256-CBC."""
    salt, initial = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(AES_BLOCK_BYTES)
    key = Scrypt(salt, KEY_BYTES, SCRYPT_COST, SCRYPT_BLOCK, SCRYPT_PARALLEL).derive(passphrase)
    padder = PKCS7(8 * AES_BLOCK_BYTES).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(initial)).encryptor()
    padded = padder.update(plain) + padder.finalize()
    ciphertext = encryptor.update(padded) + encryptor.finalize()
    numbers = (SCRYPT_COST, SCRYPT_BLOCK, SCRYPT_PARALLEL, KEY_BYTES)
    parameters = _der(_DER_SEQUENCE, _der(_DER_OCTETS, salt), *map(_der_integer, numbers))
    stretch = _der(_DER_SEQUENCE, _OID_SCRYPT, parameters)
    cipher = _der(_DER_SEQUENCE, _OID_AES256_CBC, _der(_DER_OCTETS, initial))
    scheme = _der(_DER_SEQUENCE, _OID_PBES2, _der(_DER_SEQUENCE, stretch, cipher))
    return _der(_DER_SEQUENCE, scheme, _der(_DER_OCTETS, ciphertext))


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) <= _DER_SHORT_LENGTH_MAX:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _der_integer(value: int) -> bytes:
    # One bit more than the value needs, because DER integers are signed.
    return _der(_DER_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _pem(label: str, body: bytes) -> bytes:
    text = base64.b64encode(body).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
