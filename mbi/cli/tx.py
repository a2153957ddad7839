"""Commands about transactions: ``mbi tx``. Those that build and sign are in ``tx_sign``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ledger.json import transaction_to_json
from ledger.transaction import decode_transaction
from mbi.cli.base import MbiGroup, Session, any_path, pass_session
from mbi.cli.secret_input import keys_option, open_store
from mbi.cli.tx_sign import (
    WAIT_S,
    chain_id_of,
    chain_id_option,
    finish,
    load_transaction,
    op_command,
    read_input,
    sender_options,
    show_answer,
    show_outcome,
    signed_document,
    write_result,
)
from mbi.cli.tx_sign import (
    send as send_signed,
)
from mbi.drafts import Draft, operation_fields
from mbi.errors import UsageError
from mbi.keystore import KeyStore, address_text
from mbi.wallet import Wallet, add_signatures, operation, signed_transaction


@click.group(cls=MbiGroup)
def tx() -> None:
    r"""Build, sign, send and follow transactions.

    \b
    One step:
      mbi tx send --from alice --to bob --asset issuer/MYR --amount 100 --wait
    Any operation:
      mbi tx op transfer --from alice --to mbi1... --asset issuer/MYR --amount 100
    Several signers, each on their own machine:
      mbi tx build transfer --to mbi1... --asset issuer/MYR --amount 100 > draft.json
      mbi tx sign draft.json --from alice > half.json
      mbi tx sign half.json --from bob > signed.json
      mbi tx submit signed.json --wait

    Amounts are whole minor units. Sending the same signed bytes again is always safe.
    """


tx.add_command(op_command(sends=True))
tx.add_command(op_command(sends=False))


@tx.command()
@click.option("--from", "signer", required=True, metavar="KEY", help="Key that signs and sends.")
@click.option("--to", required=True, metavar="ADDRESS|KEY", help="Receiver: address or own key.")
@click.option("--asset", required=True, metavar="ORGANISATION/CODE")
@click.option("--amount", required=True, metavar="N", help="Whole minor units.")
@sender_options
@keys_option
@chain_id_option
@pass_session
def send(
    session: Session,
    /,
    signer: str,
    to: str,
    asset: str,
    amount: str,
    keys_directory: Path | None,
    passphrase_file: Path | None,
    chain_id: str | None,
    **options: Any,
) -> None:
    r"""Transfer an amount of an asset.

    \b
    Example:
      mbi tx send --from alice --to bob --asset issuer/MYR --amount 100 --wait
    """
    store = open_store(session, keys_directory, passphrase_file)
    fields = {"to": _receiver(store, to), "asset": asset, "amount": amount}
    draft = Draft((operation("transfer", operation_fields("transfer", fields)),), options["memo"])
    finish(session, store, draft, (signer,), chain_id, options)


@tx.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--from", "signers", multiple=True, required=True, metavar="KEY")
@click.option("--out", type=any_path(), help="Write to this file instead of stdout.")
@keys_option
@chain_id_option
@pass_session
def sign(
    session: Session,
    file: str,
    signers: tuple[str, ...],
    out: Path | None,
    keys_directory: Path | None,
    passphrase_file: Path | None,
    chain_id: str | None,
) -> None:
    r"""Sign a draft, or add signatures to a signed transaction. Needs no network with --chain-id.

    \b
    Example:
      mbi tx sign draft.json --from alice --from bob --out signed.json
    """
    found = load_transaction(file)
    identity = chain_id_of(session, chain_id)
    store = open_store(session, keys_directory, passphrase_file)
    keys = [store.open(name) for name in signers]
    if isinstance(found, Draft):
        signed = Wallet(identity, keys, found.sender).sign(found.operations, found.memo)
    else:
        signed = signed_transaction(identity, add_signatures(identity, found, keys))
    session.output.note(f"transaction {signed.id}, valid until {signed.valid_until} ms")
    write_result(session, signed_document(signed), out, signed.id)


@tx.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--from", "signers", multiple=True, metavar="KEY", help="Sign a draft first.")
@sender_options
@keys_option
@chain_id_option
@pass_session
def submit(
    session: Session,
    /,
    file: str,
    signers: tuple[str, ...],
    keys_directory: Path | None,
    passphrase_file: Path | None,
    chain_id: str | None,
    **options: Any,
) -> None:
    r"""Send a signed transaction, or sign a draft and send it.

    \b
    Examples:
      mbi tx submit signed.json --wait
      mbi tx submit draft.json --from alice
    """
    found = load_transaction(file)
    if isinstance(found, Draft):
        if not signers:
            raise UsageError(f"{file} is not signed; name the key: --from KEY")
        store = open_store(session, keys_directory, passphrase_file)
        finish(session, store, found, signers, chain_id, options)
        return
    if signers:
        raise UsageError(f"{file} is signed already; add signatures with: mbi tx sign")
    if options["dry_run"]:
        show_outcome(session, session.client().simulate(found))
    else:
        send_signed(session, found, is_waiting=options["wait"])


@tx.command()
@click.argument("transaction_id", metavar="ID")
@pass_session
def status(session: Session, transaction_id: str) -> None:
    """Show where a transaction stands; exit code 0 whatever it is."""
    answer = session.client().transaction(transaction_id)
    document = {"id": transaction_id, **answer.document}
    session.output.document(document)
    session.output.fields(document)


@tx.command("wait")
@click.argument("transaction_id", metavar="ID")
@pass_session
def wait_final(session: Session, transaction_id: str) -> None:
    r"""Wait until a transaction is final; exit code 1 if it failed, 4 if the time ran out.

    \b
    Example:
      mbi tx wait 5f0c... --timeout 60
    """
    answer = session.client().wait_final(transaction_id, session.wait_s(WAIT_S))
    show_answer(session, answer)


@tx.command()
@click.argument("file", type=click.Path(allow_dash=True))
@chain_id_option
@pass_session
def decode(session: Session, file: str, chain_id: str | None) -> None:
    """Show what a signed transaction says: FILE, "-" for stdin, or the hex itself."""
    content = read_input(file)
    wire = load_transaction(file, content)
    if isinstance(wire, Draft):
        raise UsageError(f"{file} is a draft; it is readable as it is")
    document = transaction_to_json(decode_transaction(chain_id_of(session, chain_id), wire))
    session.output.document(document)
    session.output.fields(document, "Transaction")


@tx.command()
@click.argument("file", type=click.Path(allow_dash=True))
@pass_session
def simulate(session: Session, file: str) -> None:
    """Ask a node what a signed transaction would do now, without sending it."""
    wire = load_transaction(file)
    if isinstance(wire, Draft):
        raise UsageError(f"{file} is not signed; sign it first: mbi tx sign {file} --from KEY")
    show_outcome(session, session.client().simulate(wire))


def _receiver(store: KeyStore, text: str) -> str:
    """Return the address that ``--to`` means: itself, or that of one of the user's own keys."""
    return text if text.startswith("mbi1") else address_text(store.open(text))
