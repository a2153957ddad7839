"""Creating a database, and the first steps of each start."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from consensus.effects import Persist
from ledger.crypto import sha256
from ledger.types import Epoch, Era, View
from ledger.votes import Round
from storage.chain_store import ChainStore
from storage.errors import (
    MarkerExists,
    MarkerInvalid,
    NewerSchema,
    OlderSchema,
    OpenError,
    StoreCorrupt,
    StoreExists,
    StoreForbidden,
    StoreMissing,
    WriteFailed,
    WrongChain,
)
from storage.leveldb import LevelDBStore
from storage.marker import Marker, read_marker, reason_for_quarantine, write_marker
from storage.memory import MemoryStore
from storage.metadata import begin_session, create_database, initialise, open_database
from storage.schema import IDENTITY_KEY, SCHEMA_VERSION
from storage.vote_store import VoteStore
from tests.unit.storage.builders import CHAIN, Chain

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.types import Digest
    from storage.metadata import Session


class Home:
    """A node's home directory with its database and marker."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path / "data"
        self.marker = path / "signer.json"

    def create(self, *, rejoin: bool = False, chain_id: Digest = CHAIN) -> None:
        genesis = Chain().steps[0]
        create_database(
            self.data, self.marker, chain_id, genesis.block.header, genesis.outcome, rejoin=rejoin
        )

    def start(self) -> Session:
        store, session = open_database(self.data, self.marker, CHAIN)
        store.close()
        return session

    def end_quarantine(self) -> None:
        store = LevelDBStore.open(self.data)
        batch = store.batch()
        floor = Round(Era(0), Epoch(0), View(5))
        votes = VoteStore(store, ChainStore(store, CHAIN))
        votes.persist(batch, Persist(sign_floor=floor), lambda digest: pytest.fail(str(digest)))
        store.write(batch, sync=True)
        store.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_starts_are_counted_in_the_database_and_beside_it(home: Home) -> None:
    home.create()
    for number in (1, 2, 3):
        assert home.start() == (number, None)
        marker = read_marker(home.marker)
        assert marker is not None
        assert (marker.chain_id, marker.boots) == (CHAIN, number)


def test_a_new_database_has_the_genesis_block(home: Home) -> None:
    home.create()
    store = LevelDBStore.open(home.data)
    assert ChainStore(store, CHAIN).head().height == 0
    store.close()


def test_the_marker_is_text_that_an_operator_can_read(home: Home) -> None:
    home.create()
    content = json.loads(home.marker.read_text())
    assert content == {"chain_id": CHAIN.hex(), "store_id": content["store_id"], "boots": 0}
    assert [file.name for file in home.path.iterdir() if file.is_file()] == ["signer.json"]


# --- a database that is not there, or not ours ---------------------------------------------------


def test_creating_again_is_refused_while_a_marker_tells_of_votes(home: Home) -> None:
    """S3: with the database gone, only an explicit rejoin makes a new one, and it does not vote."""
    home.create()
    home.start()
    shutil.rmtree(home.data)
    with pytest.raises(StoreMissing, match="--rejoin"):
        home.start()
    with pytest.raises(MarkerExists, match="--rejoin"):
        home.create()
    assert not home.data.exists()
    home.create(rejoin=True)
    assert home.start().quarantine is not None


def test_creating_over_a_database_changes_nothing(home: Home) -> None:
    """S3: neither with nor without rejoin."""
    home.create()
    home.start()
    before = home.marker.read_bytes()
    with pytest.raises(MarkerExists):
        home.create()
    with pytest.raises(StoreExists):
        home.create(rejoin=True)
    home.marker.unlink()
    with pytest.raises(StoreExists):
        home.create()
    home.marker.write_bytes(before)
    assert home.start() == (2, None)


def test_a_database_of_another_chain_is_refused(home: Home) -> None:
    """S3: and it is not counted as a start."""
    other = sha256(b"other")
    home.create(chain_id=other)
    with pytest.raises(WrongChain, match=rf"{other.hex()}.*{CHAIN.hex()}"):
        home.start()
    marker = read_marker(home.marker)
    assert marker is not None
    assert marker.boots == 0


@pytest.mark.parametrize(("step", "error"), [(1, NewerSchema), (-1, OlderSchema)])
def test_a_database_of_another_version_is_refused(
    home: Home, step: int, error: type[Exception]
) -> None:
    """O5: whatever the rest of its identity looks like."""
    home.create()
    store = LevelDBStore.open(home.data)
    batch = store.batch()
    batch.put(IDENTITY_KEY, msgspec.msgpack.encode([SCHEMA_VERSION + step, "anything", {}]))
    store.write(batch, sync=True)
    store.close()
    with pytest.raises(error, match=f"version {SCHEMA_VERSION + step}"):
        home.start()


def test_a_database_whose_creation_was_interrupted_is_refused(home: Home) -> None:
    """S3: an empty database is never taken for a new chain."""
    LevelDBStore.create(home.data).close()
    with pytest.raises(StoreMissing, match="creation was interrupted"):
        home.start()


def test_a_damaged_identity_is_refused(home: Home) -> None:
    store = MemoryStore()
    genesis = Chain().steps[0]
    initialise(store, CHAIN, genesis.block.header, genesis.outcome, rejoin=False)
    for damaged in (b"", b"\xc1", msgspec.msgpack.encode([SCHEMA_VERSION, b"short"])):
        batch = store.batch()
        batch.put(IDENTITY_KEY, damaged)
        store.write(batch, sync=True)
        with pytest.raises(StoreCorrupt, match="identity"):
            begin_session(store, home.marker, CHAIN)


def test_a_refused_start_releases_the_database(home: Home) -> None:
    home.create()
    home.marker.write_text("{}")
    for _ in range(2):
        with pytest.raises(MarkerInvalid):
            home.start()
    LevelDBStore.open(home.data).close()


# --- lost, restored and copied vote stores -------------------------------------------------------


def test_a_lost_marker_quarantines_until_a_floor_is_learnt(home: Home) -> None:
    """C3: the quarantine outlives restarts, although the marker is back."""
    home.create()
    home.start()
    home.marker.unlink()
    assert "missing" in (home.start().quarantine or "")
    assert "missing" in (home.start().quarantine or "")
    home.end_quarantine()
    assert home.start() == (4, None)


def test_a_database_restored_from_a_backup_is_quarantined(home: Home) -> None:
    """C3: it has forgotten the votes made since."""
    home.create()
    home.start()
    shutil.copytree(home.data, home.path / "backup")
    home.start()
    shutil.rmtree(home.data)
    (home.path / "backup").rename(home.data)
    assert "older than its marker" in (home.start().quarantine or "")


def test_a_database_copied_into_another_home_is_quarantined(home: Home) -> None:
    """C3: without its marker, or beside the marker of the database it replaces."""
    home.create()
    home.start()
    (home.path / "twin").mkdir()
    twin = Home(home.path / "twin")
    twin.create()
    twin.start()
    shutil.rmtree(twin.data)
    shutil.copytree(home.data, twin.data)
    assert "another database" in (twin.start().quarantine or "")


def test_a_marker_older_than_its_database_is_quarantined(home: Home) -> None:
    home.create()
    home.start()
    old = home.marker.read_bytes()
    home.start()
    home.start()
    home.marker.write_bytes(old)
    assert "older than its database" in (home.start().quarantine or "")


@pytest.mark.parametrize(
    ("boots", "marker_boots", "may_vote"),
    [
        (0, None, True),
        (1, None, False),
        (0, 0, True),
        (5, 5, True),
        (6, 5, True),
        (7, 5, False),
        (4, 5, False),
        (0, 1, False),
    ],
)
def test_only_one_start_may_be_missing_from_the_marker(
    boots: int, marker_boots: int | None, may_vote: bool
) -> None:
    """C3: a crash between the two writes of a start looks like nothing else."""
    marker = None if marker_boots is None else Marker(CHAIN, b"s" * 16, marker_boots)
    reason = reason_for_quarantine(CHAIN, b"s" * 16, boots, marker)
    assert (reason is None) is may_vote


def test_a_crash_between_the_two_writes_of_a_start_does_no_harm(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C19: killed after the database has counted the start and before the marker has."""
    home.create()
    home.start()

    def killed(path: Path, marker: Marker) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("storage.metadata.write_marker", killed)
        with pytest.raises(KeyboardInterrupt):
            home.start()
    assert home.start() == (3, None)


# --- the marker file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"chain_id": "00", "store_id": "00", "boots": 1}',
        b'{"chain_id": "%s", "store_id": "%s", "boots": -1}' % (b"0" * 64, b"0" * 32),
        b'{"chain_id": "%s", "store_id": "%s"}' % (b"0" * 64, b"0" * 32),
        b'{"chain_id": "%s", "store_id": "%s", "boots": 1, "x": 1}' % (b"0" * 64, b"0" * 32),
    ],
)
def test_a_file_that_is_no_marker_is_refused(home: Home, content: bytes) -> None:
    home.marker.write_bytes(content)
    with pytest.raises(MarkerInvalid, match=r"signer\.json"):
        read_marker(home.marker)


def test_a_marker_that_cannot_be_read_or_written_says_why(home: Home) -> None:
    home.marker.mkdir()
    with pytest.raises(StoreForbidden, match=r"signer\.json"):
        read_marker(home.marker)
    with pytest.raises(WriteFailed, match=r"signer\.json"):
        write_marker(home.marker, Marker(CHAIN, bytes(16), 1))


def test_the_marker_is_replaced_as_a_whole_and_synced(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S6: content first, then the name, then the directory."""
    write_marker(home.marker, Marker(CHAIN, bytes(16), 1))
    steps: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        marker = read_marker(home.marker)
        steps.append(f"sync {os.path.basename(target)} {marker.boots if marker else None}")
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_marker(home.marker, Marker(CHAIN, bytes(16), 2))
    assert steps == ["sync signer.json.new 1", f"sync {home.path.name} 2"]


def test_every_open_error_has_its_own_code() -> None:
    codes = [error.code for error in OpenError.__subclasses__()]
    assert len(set(codes)) == len(codes) >= 8
