"""``mbi recovery plan``, ``sign`` and ``check`` on files, without a node."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from ledger.block import Block
from ledger.crypto import sha256
from ledger.genesis import genesis_json
from ledger.json import to_json
from ledger.types import Signature
from mbi.keyfiles import write_key
from mbi.recovery import FILE_VERSION, ReportFile, parse_report, report_json
from tests.unit.consensus.recovery_scene import CHAIN_ID, COUNCIL_KEYS, GENESIS, Scene
from tests.unit.ledger.electorate import validator
from tests.unit.mbi.commands import Runner

PLAN = (
    *("recovery", "plan", "--genesis", "genesis.json", "--out", "plan.json"),
    *("--report", "gov-1.json", "--report", "gov-2.json"),
)
REMOVED = ("--remove", "com-1", "--remove", "com-2", "--remove", "com-3")
SIGN = ("recovery", "sign", "plan.json", "--genesis", "genesis.json", "--key")
CHECK = ("recovery", "check", "plan.json", "--genesis", "genesis.json")


@pytest.fixture(autouse=True)
def files(mbi: Runner) -> None:
    """Two reports of a halted network, its genesis, and the keys of its council."""
    scene = Scene()
    headers = [scene.block() for _ in range(3)]
    blocks = tuple(Block(header, b"", [], ()) for header in headers)
    final, tail = scene.finalization(headers[1]), scene.certificate(headers[2])
    for name, notarization in (("gov-1", tail), ("gov-2", None)):
        report = scene.report(name, final, notarization)
        file = ReportFile(FILE_VERSION, CHAIN_ID, report, (), blocks)
        Path(f"{name}.json").write_bytes(report_json(file))
    Path("genesis.json").write_bytes(genesis_json(GENESIS))
    Path("com-8.json").write_text(json.dumps(to_json(validator("com-8"))))
    Path("none.json").write_text("[]")
    Path("two.json").write_text(json.dumps([to_json(validator(n)) for n in ("com-8", "com-9")]))
    for name in (*COUNCIL_KEYS, "stranger"):
        write_key(Path(f"{name}.pem"), sha256(f"test key council {name}".encode()), None)


def test_a_plan_is_made_signed_and_checked(mbi: Runner) -> None:
    made = mbi(*PLAN, *REMOVED, "--add", "com-8.json", "--json")
    assert made.code == 0, made.err
    assert made.document["validators"] == ["com-8", "gov-1", "gov-2", "gov-3"]
    assert made.document["reports_needed"] == {"government": 2, "commercial": 2}
    assert (made.document["base_height"], made.document["opens_era"]) == (3, 1)
    for count, name in enumerate(("gov-a", "com-a", "com-b")):
        unfinished = mbi(*CHECK, "--json")
        assert unfinished.code == 5
        assert f"it signed {count} times" in unfinished.document["error"]["detail"]
        signed = mbi(*SIGN, f"{name}.pem", "--json")
        assert (signed.code, signed.document["signatures"]) == (0, count + 1)
    checked = mbi(*CHECK, "--json")
    assert (checked.code, checked.document["holds"]) == (0, True)
    assert checked.document["plan"] == made.document["plan"]


def test_a_whole_set_can_be_given(mbi: Runner) -> None:
    Path("set.json").write_text(json.dumps([to_json(validator(n)) for n in ("gov-1", "com-8")]))
    made = mbi(*PLAN, "--validators", "set.json", "--json")
    assert made.document["validators"] == ["com-8", "gov-1"]


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        ((), 2, "--validators"),
        (("--remove", "com-9"), 2, "there are: com-1"),
        ((*REMOVED, "--traitors", "1"), 1, "2 of 3 from the government"),
        (("--add", "gov-1.json"), 2, "gov-1.json"),
        (("--add", "none.json"), 2, "none.json: $: expected an object"),
        (("--add", "two.json"), 2, "two.json: $: expected an object"),
        (("--validators", "com-8.json"), 2, "com-8.json: expected a list of validators"),
        ((*REMOVED, "--report", "missing.json"), 2, "cannot be read"),
        ((*REMOVED, "--report", "genesis.json"), 2, "is no mbi recovery report"),
    ],
)
def test_a_plan_that_could_not_hold_is_not_made(
    mbi: Runner, words: tuple[str, ...], code: int, problem: str
) -> None:
    found = mbi(*PLAN, *words)
    assert found.code == code
    assert problem in found.err
    assert not Path("plan.json").exists()


def test_who_is_not_of_the_council_does_not_sign(mbi: Runner) -> None:
    assert mbi(*PLAN, *REMOVED).code == 0
    before = Path("plan.json").read_bytes()
    found = mbi(*SIGN, "stranger.pem")
    assert found.code == 2
    assert "no key of the council" in found.err
    assert Path("plan.json").read_bytes() == before


def test_a_plan_for_another_network_is_not_signed(mbi: Runner) -> None:
    assert mbi(*PLAN, *REMOVED).code == 0
    text = Path("genesis.json").read_text().replace('"electorate"', '"another"')
    Path("genesis.json").write_text(text)
    found = mbi(*SIGN, "gov-a.pem")
    assert found.code == 5
    assert "expected a plan for network" in found.err


def test_a_forged_report_is_named(mbi: Runner) -> None:
    file = parse_report(Path("gov-1.json").read_bytes(), "gov-1.json")
    unsigned = msgspec.structs.replace(file.report, signature=Signature(bytes(64)))
    forged = msgspec.structs.replace(file, report=unsigned)
    Path("gov-1.json").write_bytes(report_json(forged))
    found = mbi(*PLAN, *REMOVED)
    assert found.code == 5
    assert f"report of {file.report.consensus_key.hex()} does not verify" in found.err
