"""``mbi recovery``: go on after one chamber is gone for good. Every step is taken by hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from consensus.errors import ConsensusError
from consensus.recovery import plan_hash, with_signature
from ledger.crypto import SigningKey
from ledger.errors import LedgerError
from ledger.genesis import Genesis, parse_genesis
from ledger.json import from_json, load_json
from ledger.types import Digest
from ledger.validators import Validator, ValidatorSet
from mbi.cli.base import MbiGroup, Session, any_path, existing_directory, pass_session, read_file
from mbi.cli.gov_files import validator_of
from mbi.errors import IntegrityViolation, OperationFailed, UsageError
from mbi.keyfiles import read_key, read_passphrase_file
from mbi.recovery import (
    FILE_BYTES_MAX,
    PlanFile,
    assess,
    check_before_signing,
    check_plan_file,
    make_plan,
    needed_reports,
    new_members,
    parse_plan,
    parse_report,
    plan_json,
    with_plan,
)

EXIT_USAGE: Final = 2
VALIDATORS_BYTES_MAX: Final = 128 * 1024
"""128 validators of below 1 KiB each."""

genesis_option = click.option(
    "--genesis", type=any_path(), required=True, help="Genesis file that you trust."
)


@click.group(cls=MbiGroup)
def recovery() -> None:
    r"""Go on after a chamber is gone for good (docs/operations.md, section 8).

    \b
    Survivors stop their nodes and report; somebody makes a plan of the reports; the council of the
    genesis signs it; every operator checks and accepts it:
      mbi recovery fence --home HOME --era 0 --out report.json
      mbi recovery plan --genesis genesis.json --report a.json --report b.json --remove com-1 \
        --out plan.json
      mbi recovery sign plan.json --genesis genesis.json --key council.pem
      mbi recovery check plan.json --genesis genesis.json
      mbi recovery accept plan.json --home HOME
    """


@recovery.command()
@click.option("--home", type=existing_directory(), required=True, help="Of the stopped node.")
@click.option("--out", type=any_path(), help="Report (default: HOME/report-era-N.json).")
@click.option("--era", type=click.IntRange(min=0), required=True, help="The era that ends.")
@pass_session
def fence(session: Session, home: Path, out: Path | None, era: int) -> None:
    """Let a stopped node never vote in this era again, and write what it has seen.

    The promise is on disk before the report is written. It cannot be taken back: the node votes
    again only in an era that a plan of the council opens. The era is named so that nobody ends
    another one by accident.
    """
    arguments = ["fence", "--home", str(home), "--era", str(era)]
    arguments += ["--out", str(out)] if out else []
    _tell(session, _run_node(arguments))


@recovery.command()
@genesis_option
@click.option("--report", "reports", type=any_path(), multiple=True, required=True)
@click.option("--remove", "removed", multiple=True, metavar="NAME", help="Leaves the set.")
@click.option(
    "--add", "added", type=any_path(), multiple=True, help="File of `mbi gov validator`; joins."
)
@click.option("--validators", type=any_path(), help="The whole new set: a JSON list of validators.")
@click.option("--traitors", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=any_path(), required=True, help="Plan to write.")
@pass_session
def plan(
    session: Session,
    genesis: Path,
    reports: tuple[Path, ...],
    removed: tuple[str, ...],
    added: tuple[Path, ...],
    validators: Path | None,
    traitors: int,
    out: Path,
) -> None:
    r"""Make a plan: where the network goes on, and with which validators.

    The base is the block of the highest certificate in the reports. More than half of one chamber
    must have reported, and one more for each reporter that may lie (--traitors).

    \b
    Example:
      mbi recovery plan --genesis genesis.json --report gov-1.json --report gov-2.json \
        --remove com-1 --remove com-2 --add com-8.json --out plan.json
    """
    if (validators is None) == (not removed and not added):
        raise UsageError("give either --validators FILE, or --remove NAME and --add FILE")
    trusted = _genesis(genesis)
    files = [parse_report(read_file(path, FILE_BYTES_MAX), str(path)) for path in reports]
    try:
        situation = assess(trusted, files)
    except ConsensusError as error:
        raise IntegrityViolation(f"the reports do not hold: {error.code}: {error}") from error
    if validators is None:
        joining = [validator_of(path) for path in added]
        members = new_members(situation.members, removed, joining)
    else:
        members = ValidatorSet(_validators(validators))
    made = make_plan(situation, members, traitors)
    try:
        check_before_signing(made, trusted)
    except ConsensusError as error:
        raise OperationFailed(f"no plan was made: {error}") from error
    _write(out, made)
    facts = {
        **_facts(made),
        "reports_needed": needed_reports(situation.client.validators, traitors),
        "file": str(out),
    }
    session.output.document(facts)
    session.output.fields(facts, "Plan, to be signed by the council")


@recovery.command()
@click.argument("file", type=any_path())
@genesis_option
@click.option("--key", type=any_path(), required=True, help="Key file of the council's member.")
@click.option("--passphrase-file", type=any_path(), help="Passphrase of the key file.")
@pass_session
def sign(
    session: Session, file: Path, genesis: Path, key: Path, passphrase_file: Path | None
) -> None:
    """Sign a plan as a member of the council; the signature is added to the file.

    Everything in the plan but the council's signatures is checked first.
    """
    trusted = _genesis(genesis)
    made = parse_plan(read_file(file, FILE_BYTES_MAX), str(file))
    passphrase = None if passphrase_file is None else read_passphrase_file(passphrase_file)
    signer = SigningKey.from_seed(read_key(key, passphrase))
    council = () if trusted.council is None else trusted.council.members
    name = next((item.name for item in council if item.public_key == signer.public_key), None)
    if name is None:
        raise UsageError(f"{key} is no key of the council in {genesis}")
    try:
        check_before_signing(made, trusted)
    except (ConsensusError, LedgerError) as error:
        raise IntegrityViolation(f"{file} is not signed: {error.code}: {error}") from error
    made = with_plan(made, with_signature(Digest(made.chain_id), made.plan, signer))
    _write(file, made)
    facts = {"signed_by": name, **_facts(made)}
    session.output.document(facts)
    session.output.fields(facts)


@recovery.command()
@click.argument("file", type=any_path())
@genesis_option
@pass_session
def check(session: Session, file: Path, genesis: Path) -> None:
    """Check a plan offline, with nothing but the genesis file; exit code 5 if it does not hold."""
    trusted = _genesis(genesis)
    made = parse_plan(read_file(file, FILE_BYTES_MAX), str(file))
    try:
        check_plan_file(made, trusted)
    except (ConsensusError, LedgerError) as error:
        raise IntegrityViolation(f"{file} does not hold: {error.code}: {error}") from error
    facts = {"holds": True, **_facts(made)}
    session.output.document(facts)
    session.output.fields(facts, "The plan holds")


@recovery.command()
@click.argument("file", type=any_path())
@click.option("--home", type=existing_directory(), required=True, help="Of the stopped node.")
@pass_session
def accept(session: Session, file: Path, home: Path) -> None:
    """Let a stopped node go on in the era that a plan opens; it does so at its next start.

    Checks the plan against the node's own genesis and chain, and refuses one that would undo a
    block that is final there. Every operator decides this alone: no message can do it.
    """
    _tell(session, _run_node(["accept", str(file), "--home", str(home)]))


def _run_node(arguments: Sequence[str]) -> str:
    """Run a command of the node, which alone may open its database; return its answer."""
    done = subprocess.run(
        [sys.executable, "-m", "node", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return done.stdout.strip()
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise (UsageError if done.returncode == EXIT_USAGE else OperationFailed)(reason)


def _tell(session: Session, answer: str) -> None:
    session.output.document({"done": answer})
    session.output.text(answer)


def _facts(made: PlanFile) -> dict[str, Any]:
    plan = made.plan
    return {
        "plan": plan_hash(Digest(made.chain_id), plan).hex(),
        "ends_era": plan.era - 1,
        "opens_era": plan.era,
        "epoch": plan.epoch,
        "base_height": plan.base_height,
        "base_hash": plan.base_hash.hex(),
        "validators": sorted(member.name for member in plan.members),
        "reports": len(plan.reports),
        "signatures": len(plan.signatures),
    }


def _genesis(path: Path) -> Genesis:
    return parse_genesis(read_file(path))


def _validators(path: Path) -> list[Validator]:
    """Return the set in a file."""
    document = load_json(read_file(path, VALIDATORS_BYTES_MAX), VALIDATORS_BYTES_MAX)
    if not isinstance(document, list):
        raise UsageError(
            f"{path}: expected a list of validators, each as `mbi gov validator` writes it"
        )
    return [from_json(Validator, item, str(path)) for item in document]


def _write(path: Path, made: PlanFile) -> None:
    try:
        path.write_bytes(plan_json(made))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
