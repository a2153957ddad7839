"""The replay of a database: an honest chain is intact, and what was changed on disk is found."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from consensus.types import Certificate
from ledger.block import Block
from ledger.records import RemoveValidator
from ledger.types import Height
from node.audit import AuditReport, audit_home
from node.home import DATA
from storage.chain_store import ExecutedBlock
from storage.kv import KeyValueStore
from storage.leveldb import LevelDBStore
from storage.schema import (
    BLOCK,
    CERTIFICATE,
    EXECUTED,
    SCHEDULE,
    at_height,
    block_key,
    whole,
)
from tests.unit.ledger.electorate import consensus_key
from tests.unit.node.stored_chain import StoredChain


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of a chain with three set changes."""
    home = tmp_path_factory.mktemp("chain") / "home"
    with StoredChain(home) as chain:
        chain.run()
    return home


@pytest.fixture
def home(honest: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may damage."""
    return Path(shutil.copytree(honest, tmp_path / "home"))


def audit(home: Path) -> AuditReport:
    return audit_home(home, io.StringIO())


def test_a_chain_through_three_set_changes_is_intact(honest: Path) -> None:
    report = audit(honest)
    assert report.problem is None
    assert report.epoch == 3
    assert report.height > 40
    assert report.transactions > 10
    assert "3 changes of the validator set" in report.to_text()


def test_finalizations_of_a_few_blocks_cover_the_others(tmp_path: Path) -> None:
    with StoredChain(tmp_path / "home") as chain:
        chain.certified_every = 7
        chain.run()
        while chain.chain.certificate(chain.chain.head().height) is None:
            chain.blocks(1)
    assert audit(tmp_path / "home").problem is None


def boundaries(store: KeyValueStore) -> list[tuple[Height, Block]]:
    blocks = [msgspec.msgpack.decode(data, type=Block) for _, data in store.iterate(*whole(BLOCK))]
    return [(block.header.height, block) for block in blocks if block.next_validators]


def put(store: KeyValueStore, key: bytes, value: object) -> None:
    batch = store.batch()
    batch.put(key, msgspec.msgpack.encode(value))
    store.write(batch, sync=True)


def delete(store: KeyValueStore, key: bytes) -> None:
    batch = store.batch()
    batch.delete(key)
    store.write(batch, sync=True)


def lose_a_closing_finalization(store: KeyValueStore) -> None:
    delete(store, at_height(CERTIFICATE, boundaries(store)[1][0]))


def close_with_another_set(store: KeyValueStore) -> None:
    """Put the finalization of the third boundary block in the place of the second's."""
    (_, _), (second, _), (third, _) = boundaries(store)
    data = store.get(at_height(CERTIFICATE, third))
    assert data is not None
    put(store, at_height(CERTIFICATE, second), msgspec.msgpack.decode(data, type=Certificate))


def drop_a_member(store: KeyValueStore) -> None:
    height, block = boundaries(store)[0]
    data = store.get(at_height(EXECUTED, height))
    digest = msgspec.msgpack.decode(data or b"", type=ExecutedBlock).block_hash
    fewer = msgspec.structs.replace(block, next_validators=block.next_validators[1:])
    put(store, block_key(height, digest), fewer)


def forge_a_signature(store: KeyValueStore) -> None:
    height, _ = boundaries(store)[2]
    data = store.get(at_height(CERTIFICATE, height + 1))
    certificate = msgspec.msgpack.decode(data or b"", type=Certificate)
    forged = certificate.signatures[:-1] + bytes([certificate.signatures[-1] ^ 1])
    put(
        store,
        at_height(CERTIFICATE, height + 1),
        msgspec.structs.replace(certificate, signatures=forged),
    )


def schedule_another_set(store: KeyValueStore) -> None:
    _, block = boundaries(store)[0]
    put(store, at_height(SCHEDULE, 3), block.next_validators)


def forget_a_schedule(store: KeyValueStore) -> None:
    (key, _), *_ = store.iterate(*whole(SCHEDULE))
    delete(store, key)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lose_a_closing_finalization, "has no finalization"),
        (close_with_another_set, "expected a certificate over"),
        (drop_a_member, "next validators"),
        (forge_a_signature, "signature of validator"),
        (schedule_another_set, "scheduled sets"),
        (forget_a_schedule, "scheduled sets"),
    ],
)
def test_damage_at_a_set_change_is_found(
    home: Path, damage: Callable[[KeyValueStore], None], reason: str
) -> None:
    store = LevelDBStore.open(home / DATA)
    damage(store)
    store.close()
    report = audit(home)
    assert not report.is_intact
    assert reason in str(report.problem)


def test_a_set_that_was_not_scheduled_is_found(tmp_path: Path) -> None:
    """Even if a quorum finalised the boundary block that brings it."""
    with StoredChain(tmp_path / "home") as chain:
        chain.blocks(4)
        chain.add_boundary(chain.genesis.validators[1:])
    report = audit(tmp_path / "home")
    assert "next validator set" in str(report.problem)


def test_a_scheduled_set_that_never_comes_is_found(tmp_path: Path) -> None:
    """Even if a quorum finalised a block where the boundary block had to be."""
    with StoredChain(tmp_path / "home") as chain:
        chain.honours_schedules = False
        chain.request(RemoveValidator(consensus_key("com-3").public_key))
        chain.blocks(12)
    report = audit(tmp_path / "home")
    assert "next validator set" in str(report.problem)


class TestReadersThatLeave:
    """``python -m node audit | head`` ends without a traceback and with the true exit code."""

    def test_the_verdict_is_the_exit_code(self, home: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "node", "audit", "--home", str(home)],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")

    def test_the_progress_may_break_off(
        self, honest: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Broken(io.StringIO):
            written = 0

            def write(self, text: str) -> int:
                self.written += 1
                raise BrokenPipeError

        monkeypatch.setattr("node.audit.PROGRESS_BLOCKS", 10)
        stream = Broken()
        assert audit_home(honest, stream).is_intact
        assert stream.written == 1
