"""``mbi genesis new`` with a recovery council, and the council of local networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.crypto import SigningKey
from ledger.genesis import parse_genesis
from ledger.validators import Chamber
from mbi.keyfiles import read_key
from mbi.localnet.builder import build_network
from mbi.localnet.topology import plan
from tests.unit.ledger.builders import make_key
from tests.unit.mbi.commands import Runner


def member(name: str, kind: str, *, with_council: bool = True) -> str:
    """Write a member file; return its name."""
    text = (
        f'[organisation]\nid = "{name}"\nname = "{name}"\nkind = "{kind}"\n'
        f'admin_key = "{key(name, "admin")}"\n[[validators]]\nname = "{name}-1"\n'
        f'consensus_key = "{key(name, "consensus")}"\nnode_key = "{key(name, "node")}"\n'
    )
    if with_council:
        text += f'[[council]]\nname = "{name}-chair"\npublic_key = "{key(name, "council")}"\n'
    Path(f"{name}.toml").write_text(text)
    return f"{name}.toml"


def key(name: str, purpose: str) -> str:
    return make_key(f"{name} {purpose}").public_key.hex()


def test_member_files_appoint_the_council(mbi: Runner) -> None:
    files = (member("ministry", "government"), member("bank", "commercial"))
    words = (*files, "--network", "N", "--council-threshold", "2", "--out", "g.json")
    made = mbi("genesis", "new", *words, "--json")
    assert made.document["council"] == "2 of ministry-chair, bank-chair"
    council = parse_genesis(Path("g.json").read_bytes()).council
    assert council is not None
    assert [item.chamber for item in council.members] == [Chamber.GOVERNMENT, Chamber.COMMERCIAL]


@pytest.mark.parametrize(("with_council", "threshold"), [(True, False), (False, True)])
def test_a_council_and_its_threshold_come_together(
    mbi: Runner, with_council: bool, threshold: bool
) -> None:
    file = member("ministry", "government", with_council=with_council)
    words = ("--council-threshold", "1") if threshold else ()
    found = mbi("genesis", "new", file, "--network", "N", *words)
    assert found.code == 2
    assert "--council-threshold" in found.err


def test_a_council_of_one_chamber_is_refused(mbi: Runner) -> None:
    file = member("ministry", "government")
    found = mbi("genesis", "new", file, "--network", "N", "--council-threshold", "1")
    assert found.code == 2
    assert "commercial" in found.err


def test_a_local_network_has_the_keys_of_its_council(tmp_path: Path) -> None:
    network = build_network(tmp_path / "net", plan(4, 0, 31_000), "seed", with_council=True)
    council = parse_genesis((network.directory / "genesis.json").read_bytes()).council
    assert council is not None
    for appointee in council.members:
        seed = read_key(network.directory / "council" / f"{appointee.name}.pem", None)
        assert SigningKey.from_seed(seed).public_key == appointee.public_key


def test_a_local_network_has_no_council_unless_asked(tmp_path: Path) -> None:
    network = build_network(tmp_path / "net", plan(1, 0, 31_000), "seed")
    assert parse_genesis((network.directory / "genesis.json").read_bytes()).council is None
    assert not (network.directory / "council").exists()


def test_fencing_asks_which_era_ends(mbi: Runner, tmp_path: Path) -> None:
    found = mbi("recovery", "fence", "--home", str(tmp_path))
    assert found.code == 2
    assert "--era" in found.err
