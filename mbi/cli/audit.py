"""``mbi audit``: verify a chain, get proofs, and check them offline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from consensus.errors import ConsensusError
from consensus.light import LightClient, SetChange
from consensus.light.proofs import (
    PROOF_BYTES_MAX,
    ProvenState,
    ProvenTransaction,
    check_proof,
)
from consensus.types import Certificate
from consensus.validity import is_boundary
from ledger.block import Header
from ledger.encoding import DECODING_REFUSALS
from ledger.errors import LedgerError
from ledger.genesis import Genesis, parse_genesis
from ledger.json import from_json, receipt_json, to_json, transaction_to_json
from ledger.records import RECORD_TYPES
from ledger.types import Digest, Epoch, Era, Height, View
from ledger.votes import Value, VoteKind
from mbi.calls import SERVER_WAIT_S, Json, get
from mbi.cli.base import MbiGroup, Session, any_path, pass_session, read_file
from mbi.errors import IntegrityViolation, OperationFailed, UsageError
from mbi.sync_client import Client
from mbi.verify import ChainVerifier, Roots

EXIT_INTEGRITY: Final = 5
EXIT_USAGE: Final = 2
SHOWN_ID_DIGITS: Final = 16
"""Of a transaction's id, in the name of its proof file."""

_CHECKPOINT: Final = re.compile(r"(0|[1-9][0-9]{0,18}):([0-9a-f]{64})", re.ASCII)

checkpoint_option = click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    metavar="EPOCH:HASH",
    help="Trusted hash of the block that opened an epoch (mbi audit checkpoints); may be repeated.",
)


@click.group(cls=MbiGroup)
def audit() -> None:
    """Verify instead of trusting."""


@audit.command()
@click.argument("target", metavar="DIR|URL")
@click.option("--genesis", type=any_path(), help="Genesis file to trust (default: the node's).")
@checkpoint_option
@pass_session
def verify(
    session: Session, target: str, genesis: Path | None, checkpoints: tuple[str, ...]
) -> None:
    r"""Replay the data directory of a stopped node, or follow a running node's chain.

    For a directory every block is executed again and every root compared. For a URL headers,
    signatures, finalization certificates and changes of the validator set are verified from genesis
    on; give --genesis with a file that you trust, because the node's own word about its genesis
    proves nothing. Exit code 5 if anything does not hold.

    \b
    Examples:
      mbi audit verify localnet/nodes/gov-1
      mbi audit verify http://127.0.0.1:26101 --genesis genesis.json
    """
    if target.startswith(("http://", "https://")):
        trusted = _parse_checkpoints(checkpoints)
        _verify_node(session, Client(target, session.timeout_s), genesis, trusted)
        return
    if genesis is not None or checkpoints:
        raise UsageError(
            "--genesis and --checkpoint are for a URL; a directory is verified against its own file"
        )
    _verify_directory(session, Path(target))


@audit.command()
@click.argument("transaction_id", metavar="[ID]", required=False)
@click.option("--key", metavar="HEX", help="Key of the state (docs/protocol.md 6.2) instead.")
@click.option("--latest", is_flag=True, help="End with the latest header: passes all checkpoints.")
@click.option("--out", type=any_path(), help="File to write (default: named after ID or key).")
@pass_session
def proof(
    session: Session, transaction_id: str | None, key: str | None, latest: bool, out: Path | None
) -> None:
    r"""Write the file that proves what became of a transaction, or what the state holds now.

    Whoever has the genesis file checks it with `mbi audit check`, without this node or any other.
    What is very new waits for the next block, which certifies it.

    \b
    Examples:
      mbi audit proof 5b0c... --out payment.proof
      mbi audit proof --key 03... --out asset.proof
    """
    if (transaction_id is None) == (key is None):
        raise UsageError("give the id of a transaction, or --key with a key of the state")
    if key is not None and latest:
        raise UsageError("--latest is for transactions; a proof of the state always ends there")
    client = session.client()
    if transaction_id is not None:
        name, until = transaction_id, "latest" if latest else None
        call = get("/v1/transactions", name, "proof", until=until, timeout=int(SERVER_WAIT_S))
    else:
        name = str(key)
        call = get("/v1/state", name, "proof", timeout=int(SERVER_WAIT_S))
    with session.output.busy("waiting for a header that certifies it"):
        answer = client.send(replace(call, patience_s=SERVER_WAIT_S))
    data = bytes.fromhex(answer["proof"])
    path = out or Path(f"{name[:SHOWN_ID_DIGITS]}.proof")
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    facts = {"file": str(path), "bytes": len(data), "height": answer["height"]}
    session.output.document(facts)
    session.output.fields(facts)


@audit.command()
@click.argument("file", type=any_path())
@click.option("--genesis", type=any_path(), required=True, help="Genesis file that you trust.")
@checkpoint_option
@pass_session
def check(session: Session, file: Path, genesis: Path, checkpoints: tuple[str, ...]) -> None:
    r"""Check a proof file offline, with nothing but the genesis file.

    Says what the file proves. Exit code 5, with the step that fails, if it proves nothing.

    \b
    Example:
      mbi audit check payment.proof --genesis genesis.json
    """
    data = read_file(file, PROOF_BYTES_MAX)
    client = _light_client(_genesis_file(genesis), _parse_checkpoints(checkpoints))
    try:
        proven = check_proof(data, client)
    except (ConsensusError, LedgerError) as error:
        raise IntegrityViolation(f"{file} proves nothing: {error.code}: {error}") from error
    facts = _proven_facts(proven)
    session.output.document({"proven": True, "chain_id": client.chain_id.hex(), **facts})
    session.output.text("PROVEN", "bold green")
    session.output.fields({"chain_id": client.chain_id.hex(), **facts})


@audit.command()
@click.option("--genesis", type=any_path(), help="Genesis file to trust (default: the node's).")
@pass_session
def checkpoints(session: Session, genesis: Path | None) -> None:
    """List a checkpoint for each epoch, after verifying every change of the validator set.

    Keep or publish them: a verifier that is given a recent one cannot be deceived by a chain made
    with the keys of validators that left long ago.
    """
    client = session.client()
    light = _light_client(_genesis(client, genesis), {})
    rows = [_checkpoint_row(light)]
    for epoch in range(1, len(list(client.items("/v1/epochs")))):
        _advance(light, _set_change(client, Epoch(epoch - 1)))
        rows.append(_checkpoint_row(light))
    session.output.document({"chain_id": light.chain_id.hex(), "items": rows})
    session.output.table(
        ["CHECKPOINT", "HEIGHT", "VALIDATORS"],
        [[row["checkpoint"], row["height"], row["validators"]] for row in rows],
    )


# --- Proofs ---------------------------------------------------------------------------------------


def _proven_facts(proven: ProvenTransaction | ProvenState) -> Json:
    header, certified = proven.header, proven.certified_header
    place: Json = {
        "height": header.height,
        "time_ms": header.time_ms,
        "certified_by_height": certified.height,
        "set_changes": proven.epochs,
    }
    if isinstance(proven, ProvenTransaction):
        receipt = receipt_json(proven.claim.receipt)
        return {
            "id": proven.decoded.id.hex(),
            "code": proven.claim.receipt.code,
            **place,
            "index": proven.claim.index,
            "transaction": transaction_to_json(proven.decoded),
            "receipt": receipt,
        }
    key, value = proven.claim.key, proven.value
    return {
        "key": key.hex(),
        "present": value is not None,
        **place,
        "value": None if value is None else value.hex(),
        "record": None if value is None else _record(key, value),
    }


def _record(key: bytes, value: bytes) -> Any:
    kind = RECORD_TYPES.get(key[0])
    if kind is None:
        return None
    try:
        return to_json(msgspec.msgpack.decode(value, type=kind))
    except DECODING_REFUSALS:
        return None


def _parse_checkpoints(texts: tuple[str, ...]) -> dict[Epoch, Digest]:
    found: dict[Epoch, Digest] = {}
    for text in texts:
        match = _CHECKPOINT.fullmatch(text)
        if match is None:
            raise UsageError(
                f"checkpoint {text!r}: expected EPOCH:HASH, a number and 64 lower-case hex digits"
            )
        found[Epoch(int(match[1]))] = Digest(bytes.fromhex(match[2]))
    return found


def _light_client(genesis: Genesis, trusted: dict[Epoch, Digest]) -> LightClient:
    try:
        return LightClient.from_genesis(genesis, checkpoints=trusted)
    except ConsensusError as error:
        raise IntegrityViolation(f"{error.code}: {error}") from error


def _advance(light: LightClient, change: SetChange) -> None:
    try:
        light.apply(change)
    except ConsensusError as error:
        raise IntegrityViolation(f"{error.code}: {error}") from error


def _checkpoint_row(light: LightClient) -> Json:
    return {
        "epoch": light.epoch,
        "hash": light.base_hash.hex(),
        "checkpoint": f"{light.epoch}:{light.base_hash.hex()}",
        "height": light.base.height,
        "validators": light.validators.size,
    }


# --- Directories ----------------------------------------------------------------------------------


def _verify_directory(session: Session, home: Path) -> None:
    if not (home / "config.toml").exists():
        raise UsageError(f"{home} is no home of a node: it has no config.toml")
    command = [sys.executable, "-m", "node", "audit", "--home", str(home)]
    if session.output.is_json:
        command.append("--json")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    click.echo(done.stdout, nl=False)
    if done.returncode == EXIT_INTEGRITY:
        raise click.exceptions.Exit(EXIT_INTEGRITY)
    if done.returncode == EXIT_USAGE:
        raise UsageError(f"{home} cannot be audited; the reason is above")
    if done.returncode != 0:
        raise OperationFailed(f"the audit of {home} ended with exit code {done.returncode}")


# --- Running nodes --------------------------------------------------------------------------------


def _verify_node(
    session: Session, client: Client, genesis: Path | None, trusted: dict[Epoch, Digest]
) -> None:
    verifier = ChainVerifier(_genesis(client, genesis), trusted)
    target = int(client.status()["height"])
    with session.output.progress() as progress:
        task = progress.add_task("verifying blocks", total=target)
        for height in range(1, target + 1):
            _verify_block(verifier, client, Height(height))
            progress.update(task, completed=height)
    verifier.finish()
    facts = {
        "chain_id": verifier.chain_id.hex(),
        "head": verifier.head_hash.hex(),
        **asdict(verifier.progress),
        "genesis": str(genesis) if genesis else "taken from the node, not from you",
    }
    session.output.document({"intact": True, **facts})
    session.output.text("INTACT", "bold green")
    session.output.fields(facts)


def _genesis(client: Client, path: Path | None) -> Genesis:
    if path is None:
        return parse_genesis(json.dumps(client.genesis()).encode())
    return _genesis_file(path)


def _genesis_file(path: Path) -> Genesis:
    return parse_genesis(read_file(path))


def _verify_block(verifier: ChainVerifier, client: Client, height: Height) -> None:
    shown = client.block(height)
    try:
        fields = {key: value for key, value in shown["header"].items() if key != "time"}
        header = from_json(Header, fields)
        listed = client.items(f"/v1/blocks/{height}/transactions")
        wires = [bytes.fromhex(item["wire"]) for item in listed]
        roots = (Digest(bytes.fromhex(shown[name])) for name in ("state_root", "receipts_root"))
        while verifier.era < header.era:
            verifier.hand_over(_set_change(client, verifier.epoch))
        digest = verifier.add(header, wires, Roots(*roots))
        if digest.hex() != shown["hash"]:
            raise IntegrityViolation(f"block {height}: the node calls it {shown['hash']}")
        if is_boundary(header):
            verifier.hand_over(_set_change(client, header.epoch))
        elif shown["has_certificate"]:
            answer = client.get(f"/v1/blocks/{height}/certificate")
            verifier.cover(certificate_of(answer["certificate"], len(verifier.validators)))
    except (KeyError, TypeError, ValueError, LedgerError) as error:
        raise IntegrityViolation(f"block {height} as the node shows it: {error}") from error


def _set_change(client: Client, epoch: Epoch) -> SetChange:
    """Ask a node how an epoch was closed."""
    answer = client.get(f"/v1/epochs/{epoch}/change")
    try:
        return msgspec.msgpack.decode(bytes.fromhex(answer["change"]), type=SetChange)
    except (KeyError, TypeError, *DECODING_REFUSALS) as error:
        raise IntegrityViolation(
            f"the end of epoch {epoch} as the node shows it: {error}"
        ) from error


def certificate_of(shown: Json, validators: int) -> Certificate:
    """Return the certificate that the API shows; raises KeyError or ValueError if it is none."""
    indices = [int(signer["index"]) for signer in shown["signers"]]
    if not all(0 <= index < validators for index in indices):
        raise ValueError(f"expected signers from 0 to {validators - 1}, got {indices}")
    mask = sum(1 << index for index in indices)
    return Certificate(
        kind=VoteKind[str(shown["kind"]).upper()],
        era=Era(int(shown["era"])),
        epoch=Epoch(int(shown["epoch"])),
        view=View(int(shown["view"])),
        value=Value(View(int(shown["parent_view"])), Digest(bytes.fromhex(shown["block_hash"]))),
        bitmap=mask.to_bytes((validators + 7) // 8, "little"),
        signatures=b"".join(bytes.fromhex(signer["signature"]) for signer in shown["signers"]),
    )
