"""The signer marker: a small file beside the database that tells a lost or copied vote store.

A validator that lost its votes could contradict them. Its database knows how often it was started,
and so does this file; neither is enough alone, but if they disagree then one of them was lost,
restored from a backup or copied, and the node must not vote until a quorum has proved where the
chain is (*quarantine*, ``docs/protocol-consensus.md``, Restart). The file is replaced atomically.
What it cannot see: a database restored from a copy made since the last start.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from ledger.types import Digest
from storage.errors import MarkerInvalid, StoreForbidden, WriteFailed

if TYPE_CHECKING:
    from pathlib import Path

_Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
_Hex16 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class _MarkerFile(Struct, frozen=True, forbid_unknown_fields=True):
    """The file as JSON, for operators to read."""

    chain_id: _Hex32
    store_id: _Hex16
    boots: Annotated[int, Meta(ge=0)]


class Marker(Struct, frozen=True):
    """Which database signs here, and how often it was started."""

    chain_id: Digest
    store_id: bytes
    """16 random bytes, drawn when the database was created."""
    boots: int
    """Starts of the node on this database."""


def read_marker(path: Path) -> Marker | None:
    """Return the marker, None if there is none.

    Raises:
        MarkerInvalid: the file is something else.
        StoreForbidden: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreForbidden(path, str(error)) from error
    try:
        found = msgspec.json.decode(data, type=_MarkerFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MarkerInvalid(path, str(error)) from error
    return Marker(Digest(bytes.fromhex(found.chain_id)), bytes.fromhex(found.store_id), found.boots)


def write_marker(path: Path, marker: Marker) -> None:
    """Replace the marker atomically; it is on disk when this returns.

    Raises:
        WriteFailed: fatal, as for the database.
    """
    content = _MarkerFile(marker.chain_id.hex(), marker.store_id.hex(), marker.boots)
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(content) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        # The rename itself is durable only once the directory is.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise WriteFailed(path, str(error)) from error


def reason_for_quarantine(
    chain_id: Digest, store_id: bytes, boots: int, marker: Marker | None
) -> str | None:
    """Compare a database with its marker; return why it must not vote yet, None if it may.

    A start is counted in the database first and in the marker second, so a crash between the two
    leaves the database one ahead, and nothing else does.
    """
    if marker is None:
        return None if boots == 0 else "the signer marker is missing"
    if (marker.chain_id, marker.store_id) != (chain_id, store_id):
        return "the signer marker belongs to another database"
    if boots < marker.boots:
        return f"the database is older than its marker: {boots} starts against {marker.boots}"
    if boots > marker.boots + 1:
        return f"the marker is older than its database: {marker.boots} starts against {boots}"
    return None
