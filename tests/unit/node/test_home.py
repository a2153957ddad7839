"""A node's place in a set: found by both of its keys, whenever they were put into the home."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consensus.inputs import PeerId
from ledger.crypto import SigningKey, sha256
from ledger.validators import Chamber, Validator, ValidatorSet
from mbi.keyfiles import write_key
from node.config import NodeConfig
from node.errors import HomeError
from node.home import NEXT_VALIDATOR_KEY, VALIDATOR_KEY, OpenHome, Seat, _check_seat
from tests.unit.node_api.fakes import make_genesis

NODE_KEY = SigningKey.from_seed(sha256(b"node")).public_key
OLD, NEW = (SigningKey.from_seed(sha256(label)) for label in (b"old", b"new"))


def member(consensus: SigningKey, node: bytes = NODE_KEY) -> Validator:
    """Return a validator with these keys."""
    return Validator("me", "org", Chamber.COMMERCIAL, consensus.public_key, cast("Any", node))


def others(count: int) -> list[Validator]:
    """Return members that are somebody else."""
    keys = [SigningKey.from_seed(sha256(b"other %d" % number)) for number in range(count)]
    return [member(key, sha256(key.public_key)) for key in keys]


def home_with(path: Path, *keys: SigningKey) -> OpenHome:
    """Return as much of an open home as a seat depends on."""
    config = NodeConfig(home=path, name="me")
    values = {"config": config, "genesis": make_genesis(), "validator_keys": keys}
    return cast("OpenHome", SimpleNamespace(**values, node_id=PeerId(NODE_KEY)))


def seat(home: OpenHome, *members: Validator) -> Seat | None:
    """Return the seat in a set of these members."""
    return OpenHome.seat_in(home, ValidatorSet(members))


def test_a_member_has_the_seat_of_its_keys(tmp_path: Path) -> None:
    found = seat(home_with(tmp_path, OLD, NEW), *others(3), member(NEW))
    assert found is not None
    assert found.key is NEW
    assert ValidatorSet([*others(3), member(NEW)])[found.index] == member(NEW)


def test_who_is_not_named_observes(tmp_path: Path) -> None:
    assert seat(home_with(tmp_path, OLD), *others(3)) is None


def test_half_of_a_member_does_not_vote(tmp_path: Path) -> None:
    """C4: a copied consensus key on another channel, or a channel whose key is elsewhere."""
    (tmp_path / "keys").mkdir()
    assert seat(home_with(tmp_path, OLD), member(OLD, sha256(b"another channel"))) is None
    assert seat(home_with(tmp_path, OLD), member(NEW)) is None


def test_a_key_that_was_put_there_later_is_found(tmp_path: Path) -> None:
    """A rotation needs no restart."""
    home = home_with(tmp_path, OLD)
    (tmp_path / "keys").mkdir(mode=0o700)
    write_key(tmp_path / VALIDATOR_KEY, sha256(b"old"), None)
    write_key(tmp_path / NEXT_VALIDATOR_KEY, sha256(b"new"), None)
    found = seat(home, *others(3), member(NEW))
    assert found is not None
    assert found.key.public_key == NEW.public_key
    again = seat(home, *others(3), member(OLD))
    assert again is not None
    assert again.key.public_key == OLD.public_key


def check(validator: Validator, *keys: SigningKey, is_behind: bool = False) -> None:
    """Judge a start in an epoch with this member."""
    config = NodeConfig(home=Path("/home"), name="me")
    _check_seat(config, (validator,), keys, PeerId(NODE_KEY), is_behind=is_behind)


def test_a_start_with_half_of_a_member_is_refused() -> None:
    """C4, O3: the copy of a validator key, and the home without one."""
    check(member(OLD), OLD)
    check(others(1)[0], OLD)
    for wrong in (member(NEW), member(OLD, sha256(b"another channel"))):
        with pytest.raises(HomeError, match="do not belong to one validator"):
            check(wrong, OLD)


def test_who_lost_its_database_need_not_keep_the_keys_of_old_epochs() -> None:
    check(member(OLD), NEW, is_behind=True)
    with pytest.raises(HomeError):
        check(member(OLD, sha256(b"another channel")), OLD, is_behind=True)
