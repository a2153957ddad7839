"""Errors of the storage: what can be wrong with a data directory or its disk.

Each leaf has a stable ``code`` and a message that says what to do.

::

    StorageError                 expected; the message says what to do
    ├── OpenError                the data directory cannot be used as it is
    │   ├── StoreMissing         no database where one was expected
    │   ├── StoreExists          a database where none was expected
    │   ├── StoreLocked          another process has it open
    │   ├── StoreForbidden       no permission, or a read-only file system
    │   ├── WrongChain           the database belongs to another network
    │   ├── NewerSchema          written by a newer version of this software
    │   ├── OlderSchema          written by an older version of this software
    │   ├── MarkerExists         the signer marker says that this node has voted before
    │   └── MarkerInvalid        the signer marker beside the database cannot be read
    ├── StoreCorrupt             bytes on disk are not what was written
    ├── StoreClosed              used after ``close``
    └── WriteError               a write did not reach the disk: the process must end, never retry
        ├── DiskFull
        └── WriteFailed

Only ``StoreLocked``, ``StoreForbidden`` and ``DiskFull`` can go away without touching the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ledger.errors import StateUnreadable

if TYPE_CHECKING:
    from pathlib import Path


class StorageError(StateUnreadable):
    """Root: the disk or the data directory is not as it must be."""

    code: ClassVar[str] = "storage_error"
    permanent: ClassVar[bool] = True


class OpenError(StorageError):
    """The data directory cannot be used as it is."""

    code = "store_unusable"


class StoreMissing(OpenError):
    """No database where one was expected; nothing is ever created on the way."""

    code = "store_missing"

    def __init__(self, path: Path, absent: str) -> None:
        super().__init__(
            f"no database in {path}: {absent} is missing. Restore it from where it was moved to; "
            f"if it is lost, `{recovery_command(path)}` starts an empty one that does not vote "
            "until it knows that this is safe. On a new node: `mbi node init`"
        )


class StoreExists(OpenError):
    """A database, or a directory with other content, where none was expected."""

    code = "store_exists"

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} already exists and is not empty; nothing was changed")


class StoreLocked(OpenError):
    """Another process has the database open."""

    code = "store_locked"
    permanent = False

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is in use by another process; stop it first. Two nodes on one directory, or "
            "with one validator key, must never run"
        )


class StoreForbidden(OpenError):
    """The operating system refuses access."""

    code = "store_forbidden"
    permanent = False

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} cannot be read and written by this user: {reason}. "
            "Check its owner, its mode, and whether its file system is mounted read-only"
        )


class WrongChain(OpenError):
    """The database belongs to another network."""

    code = "wrong_chain"

    def __init__(self, expected: bytes, found: bytes) -> None:
        super().__init__(
            f"the database belongs to chain {found.hex()}, the genesis file to chain "
            f"{expected.hex()}; give each network its own home directory"
        )


class NewerSchema(OpenError):
    """The database was written by a newer version of this software."""

    code = "newer_schema"

    def __init__(self, supported: int, found: int) -> None:
        super().__init__(
            f"the database has schema version {found}, this software reads up to {supported}; "
            "run the newer version, which cannot be undone on this directory"
        )


class OlderSchema(OpenError):
    """The database was written by an older version of this software."""

    code = "older_schema"

    def __init__(self, supported: int, found: int) -> None:
        super().__init__(
            f"the database has schema version {found}, this software reads {supported} only. "
            "Start the version that wrote it, or give the node a new database that it fills from "
            "its peers: mbi node init (--rejoin for a validator)"
        )


class MarkerExists(OpenError):
    """The signer marker says that this node has voted before, with a database that is gone."""

    code = "marker_exists"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} shows that this node has signed before. Put its database back, or run "
            f"`{recovery_command(path)}`: it then votes only once a quorum has proved where the "
            "chain is"
        )


class MarkerInvalid(OpenError):
    """The signer marker beside the database cannot be read."""

    code = "marker_invalid"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is not a signer marker: {reason}. Move it away; the validator then starts "
            "without voting until a quorum has proved where the chain is"
        )


class StoreCorrupt(StorageError):
    """Bytes on disk are not what was written; nothing that depends on them is served."""

    code = "store_corrupt"

    def __init__(self, path: Path, where: str, reason: str) -> None:
        self.path = path
        """The database directory."""
        self.where = where
        """The damaged file, or what was being read."""
        super().__init__(
            f"{path} is damaged in {where}: {reason}. Keep a copy for inspection, move the "
            f"directory away and run `{recovery_command(path)}`: the node fetches and verifies "
            "everything again"
        )


class StoreClosed(StorageError):
    """The store is used after it was closed."""

    code = "store_closed"

    def __init__(self) -> None:
        super().__init__("the store is closed")


class WriteError(StorageError):
    """A write did not reach the disk.

    What is on disk is unknown until the database is opened again, so the process ends and never
    retries (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
    """

    code = "write_error"


class DiskFull(WriteError):
    """No space, quota or file size left."""

    code = "disk_full"
    permanent = False

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"no room to write in {path}: {reason}. Free space, then start the node again"
        )


class WriteFailed(WriteError):
    """The disk refused a write or a sync, or an earlier one had failed."""

    code = "write_failed"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"a write in {path} failed: {reason}. Check the disk before starting again"
        )


def recovery_command(path: Path) -> str:
    """Return the command that replaces a lost database; its home is the parent directory."""
    return f"mbi node init --home {path.parent} --rejoin"
