"""Key files: standard tools can read them, strangers cannot, and each defect has its reason."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from mbi import keyfiles
from mbi.keyfiles import (
    KeyFileAlgorithm,
    KeyFileDamaged,
    KeyFileError,
    KeyFileExists,
    KeyFileMissing,
    KeyFilePermissions,
    KeyFileUnencrypted,
    PassphraseRequired,
    PassphraseWrong,
    encode_key,
    read_key,
    read_passphrase_file,
    write_key,
)

SEED = bytes(range(32))
PASSPHRASE = b"correct horse battery"


@pytest.fixture(scope="module")
def encrypted() -> bytes:
    """An encrypted key file's content: making one takes a quarter of a second."""
    return encode_key(SEED, PASSPHRASE)


def place(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "key.pem"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_encrypted_key_is_read_back(tmp_path: Path, encrypted: bytes) -> None:
    assert read_key(place(tmp_path, encrypted), PASSPHRASE) == SEED


def test_plain_key_is_read_back(tmp_path: Path) -> None:
    write_key(tmp_path / "key.pem", SEED, None)
    assert read_key(tmp_path / "key.pem", None) == SEED


def test_key_is_stretched_with_scrypt(encrypted: bytes) -> None:
    """K2: the file names scrypt with N = 2^14, r = 8, p = 5, not PBKDF2 with 2,048 rounds."""
    import base64

    body = base64.b64decode(b"".join(encrypted.splitlines()[1:-1]))
    assert bytes.fromhex("06092b06010401da47040b") in body
    assert bytes.fromhex("02024000020108020105") in body
    assert bytes.fromhex("06092a864886f70d01050c") not in body


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_reads_our_file(tmp_path: Path, encrypted: bytes) -> None:
    path, secret = place(tmp_path, encrypted), tmp_path / "pass"
    secret.write_bytes(PASSPHRASE)
    shown = subprocess.run(
        ["openssl", "pkey", "-in", path, "-passin", f"file:{secret}", "-pubout", "-outform", "DER"],
        capture_output=True,
        check=True,
    )
    assert (
        shown.stdout[-32:]
        == Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    )


def test_file_of_another_tool_is_read(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    assert read_key(place(tmp_path, content), b"x") == SEED


def test_files_are_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    write_key(path, SEED, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(KeyFileExists):
        write_key(path, bytes(32), None)
    assert read_key(path, None) == SEED


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o660, 0o601])
def test_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """K2: a key that another user can read or change is not used, and the reason names the cure."""
    path = place(tmp_path, encode_key(SEED, None), mode)
    with pytest.raises(KeyFilePermissions, match=f"{mode:04o} lets other users in; run: chmod 600"):
        read_key(path, None)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_private_modes_are_accepted(tmp_path: Path, mode: int) -> None:
    assert read_key(place(tmp_path, encode_key(SEED, None), mode), None) == SEED


def other_algorithm(kind: str) -> bytes:
    key = X25519PrivateKey.generate() if kind == "X25519" else rsa.generate_private_key(65537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


CASES: list[tuple[str, Callable[[bytes], bytes], bytes | None, type[KeyFileError], str]] = [
    ("wrong passphrase", lambda good: good, b"wrong", PassphraseWrong, "wrong passphrase"),
    ("no passphrase", lambda good: good, None, PassphraseRequired, "no passphrase was given"),
    ("truncated", lambda good: good[: len(good) // 2], PASSPHRASE, KeyFileDamaged, "truncated"),
    (
        "truncated body",
        lambda good: b"\n".join([*good.splitlines()[:2], good.splitlines()[-1]]),
        PASSPHRASE,
        KeyFileDamaged,
        "truncated",
    ),
    ("empty", lambda _: b"", None, KeyFileDamaged, "not a PKCS#8 private key"),
    ("other file", lambda _: b"hello world", None, KeyFileDamaged, "not a PKCS#8 private key"),
    ("huge", lambda good: good + b"\n" * 20_000, PASSPHRASE, KeyFileDamaged, "at most 16384"),
    ("X25519", lambda _: other_algorithm("X25519"), None, KeyFileAlgorithm, "expected Ed25519"),
    ("RSA", lambda _: other_algorithm("RSA"), None, KeyFileAlgorithm, "expected Ed25519"),
]


@pytest.mark.parametrize(("name", "spoil", "passphrase", "error", "reason"), CASES)
def test_each_defect_has_its_own_reason(
    tmp_path: Path,
    encrypted: bytes,
    name: str,
    spoil: Callable[[bytes], bytes],
    passphrase: bytes | None,
    error: type[KeyFileError],
    reason: str,
) -> None:
    """K2: wrong passphrase, truncation and another algorithm are told apart, in one line each."""
    path = place(tmp_path, spoil(encrypted))
    with pytest.raises(error) as caught:
        read_key(path, passphrase)
    message = str(caught.value)
    assert type(caught.value) is error, name
    assert reason in message
    assert str(path) in message
    assert "\n" not in message


def test_missing_file_is_not_a_wrong_passphrase(tmp_path: Path) -> None:
    """K2: a missing file has an error and a code of its own."""
    with pytest.raises(KeyFileMissing, match="does not exist") as caught:
        read_key(tmp_path / "none.pem", PASSPHRASE)
    assert caught.value.code == "key_file_missing"


def test_directory_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(KeyFileDamaged, match="not a regular file"):
        read_key(tmp_path, None)


def test_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key.pem", 0o600)
    with pytest.raises(KeyFileDamaged, match="not a regular file"):
        read_key(tmp_path / "key.pem", None)


def test_unencrypted_key_is_refused_where_encryption_is_demanded(tmp_path: Path) -> None:
    """K2: a validator outside a development network may ask for an encrypted file."""
    path = place(tmp_path, encode_key(SEED, None))
    with pytest.raises(KeyFileUnencrypted, match="is not encrypted"):
        read_key(path, None, demand_encryption=True)


def test_errors_show_no_secret(tmp_path: Path, encrypted: bytes) -> None:
    """K1: neither key nor passphrase is in an error or in the chain of its causes."""
    secrets = (SEED.hex(), PASSPHRASE.decode(), "wrong-canary", repr(SEED))
    path = place(tmp_path, encrypted)
    with pytest.raises(PassphraseWrong) as caught:
        read_key(path, b"wrong-canary")
    shown = str(caught.value) + repr(caught.value) + repr(caught.value.__cause__)
    assert not any(secret in shown for secret in secrets)


def test_empty_passphrase_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="protects nothing"):
        encode_key(SEED, b"")


def test_passphrase_file_obeys_the_same_rule(tmp_path: Path) -> None:
    """K2: a passphrase that others can read protects nothing."""
    path = place(tmp_path, b"four random words here\nsecond line\n")
    assert read_passphrase_file(path) == b"four random words here"
    path.chmod(0o644)
    with pytest.raises(KeyFilePermissions):
        read_passphrase_file(path)


def test_passphrase_file_must_hold_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileDamaged, match="first line"):
        read_passphrase_file(place(tmp_path, b"\n"))


def test_every_error_has_its_own_code() -> None:
    leaves = KeyFileError.__subclasses__()
    assert len({leaf.code for leaf in leaves}) == len(leaves) == 8
    assert all(leaf.exit_code == 2 for leaf in leaves)
    assert keyfiles.SCRYPT_COST >= 2**14
