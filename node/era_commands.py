"""The two commands of an era change that need a stopped node's database: fence and accept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from consensus.errors import ConsensusError
from ledger.errors import LedgerError
from ledger.genesis import chain_id
from ledger.types import Era
from mbi.errors import UsageError
from mbi.recovery import check_plan_file, parse_plan, report_json
from node.config import load_config
from node.epochs import Epochs
from node.home import DATA, FENCE, MARKER, load_state, read_genesis, validator_keys
from node.recovery import (
    RecoveryRefused,
    Reporter,
    accept_plan,
    make_report,
    write_fence,
    write_fence_file,
)
from storage.chain_store import ChainStore
from storage.leveldb import LevelDBStore
from storage.metadata import open_database, read_identity
from storage.recovery_store import RecoveryStore
from storage.schedule_store import ScheduleStore
from storage.vote_store import VoteStore


def fence_home(home: Path, environment: Mapping[str, str], era: int, out: Path | None) -> str:
    """Fence the present era of a stopped node and write its report; return what was done.

    Raises:
        RecoveryRefused: the node is in another era, or is fenced now but has no word to give.
        HomeError, OpenError, KeyFileError, ConfigError: the home cannot be used; no fence.
    """
    config, genesis = load_config(home, environment), read_genesis(home)
    identity = chain_id(genesis)
    keys = validator_keys(config, genesis)
    store, session = open_database(home / DATA, home / MARKER, identity)
    try:
        chain = ChainStore(store, identity)
        votes, plans = VoteStore(store, chain), RecoveryStore(store)
        state = load_state(store, chain, identity)
        present = Epochs(chain, ScheduleStore(store), state, tuple(plans.plans())).present
        if era != present.era:
            raise RecoveryRefused(f"{home} is in era {present.era}, not {era}; nothing was done")
        write_fence(store, votes, present.era)
        write_fence_file(home / FENCE, present.era)
        fenced = f"{home} never votes in era {present.era} again"
        if session.quarantine is not None:
            raise RecoveryRefused(f"{fenced}; it cannot report: {session.quarantine}")
        key = next(
            (k for k in keys if present.validators.index_of_key(k.public_key) is not None), None
        )
        if key is None:
            raise RecoveryRefused(
                f"{fenced}; it is no validator of epoch {present.number}: no report"
            )
        seat = Reporter(present.era, present.number, key)
        path = out or home / f"report-era-{present.era}.json"
        _replace(path, report_json(make_report(identity, chain, votes, plans, seat)))
        return f"{fenced}; report: {path}"
    finally:
        store.close()


def accept_home(home: Path, plan: Path) -> str:
    """Check a plan against everything that this node knows, and take it over; say what follows.

    Raises:
        RecoveryRefused: the plan does not hold, or does not fit this node's chain.
        UsageError: the file is no plan.
        HomeError, OpenError: the home cannot be used.
    """
    genesis = read_genesis(home)
    identity = chain_id(genesis)
    try:
        checked = check_plan_file(parse_plan(plan.read_bytes(), str(plan)), genesis)
    except OSError as error:
        raise UsageError(f"{plan} cannot be read: {error.strerror}") from error
    except (ConsensusError, LedgerError) as error:
        raise RecoveryRefused(f"{plan}: {error.code}: {error}") from error
    store = LevelDBStore.open(home / DATA)
    try:
        read_identity(store, identity)
        chain = ChainStore(store, identity)
        accept_plan(checked, store, chain, VoteStore(store, chain), RecoveryStore(store))
        write_fence_file(home / FENCE, Era(checked.file.plan.era - 1))
    finally:
        store.close()
    start = checked.file.plan.start
    return (
        f"{home} accepts plan {checked.hash.hex()}: era {start.era} begins on height "
        f"{start.base_height}, {start.base_hash.hex()}, at the next start"
    )


def _replace(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all; an older report may be replaced."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
