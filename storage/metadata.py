"""Which database this is, and the first steps of every start.

A database is created by :func:`create_database` only, whole with its genesis block. A start goes
through :func:`open_database`, before anything else is read: it refuses what does not belong here,
counts the start and finds out whether this node may still vote.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.types import DigestField
from storage.chain_store import ChainStore
from storage.errors import (
    MarkerExists,
    NewerSchema,
    OlderSchema,
    StoreCorrupt,
    StoreMissing,
    WrongChain,
)
from storage.leveldb import LevelDBStore
from storage.marker import Marker, read_marker, reason_for_quarantine, write_marker
from storage.schema import HEAD_KEY, IDENTITY_KEY, QUARANTINE_KEY, SCHEMA_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.block import Header
    from ledger.transition import BlockOutcome
    from ledger.types import Digest
    from storage.kv import KeyValueStore

STORE_ID_BYTES: Final = 16
"""Enough that no two databases ever have the same."""

REJOINED: Final = "the database was created anew; earlier votes may be lost"
"""Why a node that was initialised again must not vote yet."""


class Identity(Struct, array_like=True, frozen=True):
    """First record of a database. ``schema`` stays the first field in every version."""

    schema: int
    chain_id: DigestField
    store_id: bytes
    boots: int


class Session(NamedTuple):
    """One run of a node on a database."""

    boots: int
    """Number of this start, from 1."""
    quarantine: str | None
    """Why this node must not vote yet; None if it may."""


def create_database(
    path: Path,
    marker_path: Path,
    chain_id: Digest,
    genesis: Header,
    outcome: BlockOutcome,
    *,
    rejoin: bool,
) -> None:
    """Make a new database that holds the genesis block, and its marker.

    ``rejoin`` is for a node that may have voted before, with a database that is lost: the new one
    starts in quarantine. Without it, a marker of earlier votes makes this refuse.

    Raises:
        MarkerExists: this node has signed before; only ``rejoin`` is safe.
        StoreExists: there is something at ``path``; nothing was changed.
        StorageError: see :meth:`LevelDBStore.create`.
    """
    if not rejoin and marker_path.exists():
        raise MarkerExists(marker_path)
    store = LevelDBStore.create(path)
    try:
        identity = initialise(store, chain_id, genesis, outcome, rejoin=rejoin)
    finally:
        store.close()
    write_marker(marker_path, Marker(chain_id, identity.store_id, identity.boots))


def open_database(path: Path, marker_path: Path, chain_id: Digest) -> tuple[LevelDBStore, Session]:
    """Open the database of a node that starts; errors as those of the two steps."""
    store = LevelDBStore.open(path)
    try:
        return store, begin_session(store, marker_path, chain_id)
    except BaseException:
        store.close()
        raise


def initialise(
    store: KeyValueStore, chain_id: Digest, genesis: Header, outcome: BlockOutcome, *, rejoin: bool
) -> Identity:
    """Write the first batch of a new store: its identity together with the genesis block."""
    identity = Identity(SCHEMA_VERSION, chain_id, secrets.token_bytes(STORE_ID_BYTES), 0)
    batch = store.batch()
    batch.put(IDENTITY_KEY, _encode(identity))
    if rejoin:
        batch.put(QUARANTINE_KEY, REJOINED.encode())
    ChainStore(store, chain_id).add_genesis(batch, genesis, outcome)
    store.write(batch, sync=True)
    return identity


def begin_session(store: KeyValueStore, marker_path: Path, chain_id: Digest) -> Session:
    """Check that the database belongs here, count this start, and say whether the node may vote.

    The quarantine is recorded before the start is counted, so that it outlives any crash; the sign
    floor that ends it removes the record (``vote_store``).

    Raises:
        OpenError: wrong chain, newer schema, unreadable marker, or creation was not finished.
        WriteError: the start could not be recorded.
    """
    identity = read_identity(store, chain_id)
    marker = read_marker(marker_path)
    reason = reason_for_quarantine(chain_id, identity.store_id, identity.boots, marker)
    boots = identity.boots + 1
    batch = store.batch()
    if reason is not None:
        batch.put(QUARANTINE_KEY, reason.encode())
    batch.put(IDENTITY_KEY, _encode(msgspec.structs.replace(identity, boots=boots)))
    store.write(batch, sync=True)
    write_marker(marker_path, Marker(chain_id, identity.store_id, boots))
    recorded = store.get(QUARANTINE_KEY)
    return Session(boots, None if recorded is None else recorded.decode())


def read_identity(store: KeyValueStore, chain_id: Digest) -> Identity:
    """Return the identity of a database of this chain; see :func:`begin_session` for errors."""
    data = store.get(IDENTITY_KEY)
    if data is None or store.get(HEAD_KEY) is None:
        raise StoreMissing(store.path, "its first record (creation was interrupted)")
    try:
        # The version alone first: the other fields may have another form in another one.
        schema = msgspec.msgpack.decode(data, type=_SchemaOnly).schema
        if schema > SCHEMA_VERSION:
            raise NewerSchema(SCHEMA_VERSION, schema)
        if schema < SCHEMA_VERSION:
            raise OlderSchema(SCHEMA_VERSION, schema)
        identity = _decode(data)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(store.path, "the identity record", str(error)) from error
    if identity.chain_id != chain_id:
        raise WrongChain(chain_id, identity.chain_id)
    return identity


class _SchemaOnly(Struct, array_like=True, frozen=True):
    schema: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Identity).decode
