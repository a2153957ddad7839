"""What the signing commands of ``mbi tx`` share, and ``tx op`` and ``tx build`` themselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ledger.json import operation_to_json
from ledger.operations import SPEC_BY_NAME
from ledger.types import DIGEST_BYTES, Digest
from mbi.calls import Json, SubmitAnswer
from mbi.cli.base import MbiCommand, Session, any_path, pass_session, read_file
from mbi.cli.secret_input import keys_option, open_store
from mbi.drafts import FILE_BYTES_MAX, Draft, field_kind, field_types, operation_fields, parse_file
from mbi.errors import MbiError, OperationFailed, UsageError
from mbi.keyfiles import create_private_file
from mbi.keystore import KeyStore
from mbi.wallet import VALID_FOR_S, SignedTransaction, Wallet, operation, parse_account

WAIT_S: Final = 30.0
_HEX_DIGITS: Final = frozenset("0123456789abcdef")

Decorated = Callable[..., Any]


def chain_id_option(function: Decorated) -> Decorated:
    """Add ``--chain-id``."""
    return click.option(
        "--chain-id", metavar="HEX", help="Chain to sign for (default: ask the node)."
    )(function)


def sender_options(function: Decorated) -> Decorated:
    """Add the options of commands that send what they have signed."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Ask what would happen; send nothing."),
        click.option("--wait", is_flag=True, help="Wait until it is final (see --timeout)."),
        click.option(
            "--valid-for",
            type=click.FloatRange(min=1, max=600),
            default=VALID_FOR_S,
            show_default=True,
            metavar="SECONDS",
            help="When it expires if it is in no block.",
        ),
        click.option("--nonce", type=int, help="Chosen number instead of a random one."),
        click.option("--sender", metavar="ADDRESS", help="Sender, if its keys were changed."),
        click.option("--memo", default="", help="Public note of up to 256 bytes."),
    ):
        function = option(function)
    return function


def chain_id_of(session: Session, given: str | None) -> Digest:
    """Return the chain id of the command line, or ask the node."""
    text = given if given is not None else str(session.client().status().get("chain_id", ""))
    if len(text) != 2 * DIGEST_BYTES or set(text) - _HEX_DIGITS:
        raise UsageError(f"chain id {text[:80]!r} must be {2 * DIGEST_BYTES} lower-case hex digits")
    return Digest(bytes.fromhex(text))


def read_input(file: str) -> bytes:
    """Return the content of a file, of stdin for "-", or the argument itself if it is hex."""
    if file != "-" and len(file) > DIGEST_BYTES and not set(file) - _HEX_DIGITS:
        return json.dumps({"tx": file}).encode()
    if file == "-":
        content = sys.stdin.buffer.read(FILE_BYTES_MAX + 1)
    else:
        content = read_file(Path(file), FILE_BYTES_MAX)
    if len(content) > FILE_BYTES_MAX:
        raise UsageError(f"{file} is longer than {FILE_BYTES_MAX} bytes: no transaction is")
    return content


def load_transaction(file: str, content: bytes | None = None) -> Draft | bytes:
    """Return the draft or the signed bytes that an argument names."""
    return parse_file(read_input(file) if content is None else content, file[:80])


def signed_document(signed: SignedTransaction) -> Json:
    """Return the JSON of a signed transaction, exactly as the HTTP API takes it."""
    return {"tx": signed.wire.hex()}


def write_result(
    session: Session, document: Json, out: Path | None, transaction_id: str | None = None
) -> None:
    """Write a document to a file, or to stdout in either mode: it is made to be redirected."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if out is None:
        click.echo(text, nl=False)
        return
    create_private_file(out, text.encode())
    session.output.document({"file": str(out), "id": transaction_id})
    session.output.text(f"written to {out}")


def finish(
    session: Session,
    store: KeyStore,
    draft: Draft,
    signers: tuple[str, ...],
    chain_id: str | None,
    options: dict[str, Any],
    *,
    is_checked: bool = False,
) -> Json | None:
    """Sign a draft and simulate or send it, as the options say; return what became of it, if sent.

    With ``is_checked`` nothing is sent that would fail at present.
    """
    client = session.client()
    identity = chain_id_of(session, chain_id)
    sender = parse_account(options["sender"]) if options["sender"] else draft.sender
    wallet = Wallet(identity, [store.open(name) for name in signers], sender)

    def sign(nonce: int | None) -> SignedTransaction:
        memo = options["memo"] or draft.memo
        return wallet.sign(draft.operations, memo, nonce=nonce, valid_for_s=options["valid_for"])

    signed = sign(options["nonce"])
    if options["dry_run"]:
        show_outcome(session, client.simulate(signed.wire))
        return None
    if is_checked:
        code, detail = _outcome(client.simulate(signed.wire))
        if code != "ok":
            raise OperationFailed(f"not sent, it would fail: {code}: {detail}")
    session.output.note(f"sending {signed.id}")
    answer = submit(session, signed.wire, is_waiting=options["wait"])
    reason = ""
    if answer.status == "failed":
        # A receipt has a code only. The same again, with another nonce, tells the reason in words.
        reason = _reason(session, sign(None).wire, _code(answer.document))
    show_answer(session, answer, reason)
    return answer.document


def submit(session: Session, wire: bytes, *, is_waiting: bool) -> SubmitAnswer:
    """Submit signed bytes; return what became of them."""
    client = session.client()
    if is_waiting:
        return client.submit_and_wait(wire, session.wait_s(WAIT_S))
    return client.submit(wire)


def send(session: Session, wire: bytes, *, is_waiting: bool) -> None:
    """Submit signed bytes and print what became of them."""
    show_answer(session, submit(session, wire, is_waiting=is_waiting))


def show_answer(session: Session, answer: SubmitAnswer, reason: str = "") -> None:
    """Print what became of a transaction; raises if it failed, with ``reason`` if that is known."""
    document, status = answer.document, answer.status
    if status in ("failed", "rejected", "expired"):
        why = reason or document.get("detail") or f"see the receipt: mbi tx status {answer.id}"
        raise OperationFailed(f"transaction {answer.id} {status}: {_code(document)}: {why}")
    session.output.document(document)
    height = document.get("height")
    where = f" in block {height}" if height is not None else ""
    session.output.text(f"transaction {answer.id} {status}{where}")


def show_outcome(session: Session, receipt: Json) -> None:
    """Print the outcome of a dry run; raises if it would fail."""
    code, detail = _outcome(receipt)
    if code != "ok":
        raise OperationFailed(f"would fail: {code}: {detail}")
    session.output.document(receipt)
    session.output.text("would succeed; nothing was sent")


def _code(document: Json) -> Any:
    return document.get("code") or (document.get("receipt") or {}).get("code")


def _reason(session: Session, wire: bytes, code: Any) -> str:
    """Return why a transaction fails with this code now; empty if it would not, or none tells."""
    try:
        found, detail = _outcome(session.client().simulate(wire))
    except MbiError:
        return ""
    return detail if found == code else ""


def _outcome(receipt: Json) -> tuple[str, str]:
    """Return the code and, if it would fail, the reason of a dry run."""
    found = receipt.get("receipt") or receipt
    detail = receipt.get("detail") or f"operation {found.get('operation_index')}"
    return str(found.get("code", "unknown")), str(detail)


def op_command(*, sends: bool) -> click.Command:
    """Return ``tx op`` (signs and sends) or ``tx build`` (writes an unsigned draft)."""
    return _op if sends else _build


_FIELDS_SETTINGS: Final = {
    "ignore_unknown_options": True,
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}


@click.command("op", cls=MbiCommand, context_settings=_FIELDS_SETTINGS)
@click.argument("name", metavar="OPERATION")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED, metavar="[--FIELD VALUE]...")
@click.option("--from", "signers", multiple=True, metavar="KEY", help="Key that signs; repeatable.")
@sender_options
@keys_option
@chain_id_option
@pass_session
def _op(
    session: Session,
    /,
    name: str,
    fields: tuple[str, ...],
    signers: tuple[str, ...],
    keys_directory: Path | None,
    passphrase_file: Path | None,
    chain_id: str | None,
    **options: Any,
) -> None:
    r"""Sign and send one operation. Without fields: list the fields it has.

    \b
    Examples:
      mbi tx op transfer
      mbi tx op transfer --from alice --to mbi1... --asset issuer/MYR --amount 100 --wait
      mbi tx op set_status --from issuer --account mbi1... --status suspended
    """
    if not fields and not signers:
        _show_fields(session, name)
        return
    if not signers:
        raise UsageError("name the key that signs: --from KEY")
    draft = Draft((operation(name, operation_fields(name, parse_fields(fields))),))
    store = open_store(session, keys_directory, passphrase_file)
    finish(session, store, draft, signers, chain_id, options)


@click.command("build", cls=MbiCommand, context_settings=_FIELDS_SETTINGS)
@click.argument("name", metavar="OPERATION")
@click.argument("fields", nargs=-1, type=click.UNPROCESSED, metavar="[--FIELD VALUE]...")
@click.option("--sender", metavar="ADDRESS", help="Sender, unless it is the first signer.")
@click.option("--memo", default="", help="Public note of up to 256 bytes.")
@click.option("--out", type=any_path(), help="Write to this file instead of stdout.")
@pass_session
def _build(
    session: Session,
    name: str,
    fields: tuple[str, ...],
    sender: str | None,
    memo: str,
    out: Path | None,
) -> None:
    r"""Write an unsigned draft. Add more operations to its list by hand if they belong together.

    \b
    Example:
      mbi tx build transfer --to mbi1... --asset issuer/MYR --amount 100 --out draft.json
    """
    built = operation(name, operation_fields(name, parse_fields(fields)))
    document: Json = {"operations": [operation_to_json(built)], "memo": memo}
    if sender is not None:
        parse_account(sender)
        document["sender"] = sender
    write_result(session, document, out)


def parse_fields(words: tuple[str, ...]) -> dict[str, str]:
    """Return the fields of ``--name value``, ``--name=value`` and ``--field name=value`` words."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise UsageError(f"expected --FIELD VALUE, got {word!r}")
        if not equals:
            if not rest:
                raise UsageError(f"--{name} needs a value")
            value = rest.pop(0)
        if name == "field":
            name, equals, value = value.partition("=")
            if not equals:
                raise UsageError(f"--field expects NAME=VALUE, got {name!r}")
        name = name.replace("-", "_")
        if name in found:
            raise UsageError(f"--{name} is given twice")
        found[name] = value
    return found


def _show_fields(session: Session, name: str) -> None:
    kinds = {field: field_kind(annotation) for field, annotation in field_types(name).items()}
    session.output.document({"operation": name, "fields": kinds})
    session.output.text(f"Fields of {name} (of {', '.join(SPEC_BY_NAME)}):", "bold")
    session.output.fields({f"--{field}": kind for field, kind in kinds.items()})
