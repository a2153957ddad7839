"""How the commands of governance sign and send: options they share, and what is done with them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ledger.json import operation_to_json
from ledger.operations import Operation
from mbi.calls import Json
from mbi.cli.base import Session, any_path
from mbi.cli.secret_input import keys_option, open_store
from mbi.cli.tx_sign import chain_id_option, finish, sender_options, write_result
from mbi.drafts import Draft
from mbi.errors import UsageError


@dataclass(frozen=True, slots=True)
class Act:
    """Who signs one operation, and what is done with it."""

    signers: tuple[str, ...]
    draft: Path | None
    """Write the unsigned operation here instead of signing it."""
    keys_directory: Path | None
    passphrase_file: Path | None
    chain_id: str | None
    options: dict[str, Any]

    def carry_out(self, session: Session, operation: Operation) -> Json | None:
        """Send an operation that would succeed; return what became of it, None if it was not sent.

        Raises :class:`OperationFailed` with the reason in words if it would fail; nothing is sent.
        """
        if self.draft is not None:
            memo = self.options["memo"]
            content = {"operations": [operation_to_json(operation)], "memo": memo}
            if self.options["sender"]:
                content["sender"] = self.options["sender"]
            write_result(session, content, self.draft)
            session.output.note(f"let each signer add a signature: mbi tx sign {self.draft} ...")
            return None
        if not self.signers:
            raise UsageError("name the key that signs: --from KEY (or --draft FILE to sign later)")
        store = open_store(session, self.keys_directory, self.passphrase_file)
        return finish(
            session,
            store,
            Draft((operation,)),
            self.signers,
            self.chain_id,
            self.options,
            is_checked=True,
        )


def acting(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of :class:`Act`, which the function takes after the session."""

    @functools.wraps(function)
    def wrapper(
        session: Session,
        /,
        signers: tuple[str, ...],
        draft: Path | None,
        keys_directory: Path | None,
        passphrase_file: Path | None,
        chain_id: str | None,
        **rest: Any,
    ) -> None:
        names = ("sender", "nonce", "memo", "valid_for", "wait", "dry_run")
        options = {name: rest.pop(name) for name in names}
        act = Act(signers, draft, keys_directory, passphrase_file, chain_id, options)
        function(session, act, **rest)

    signer = click.option(
        "--from",
        "signers",
        multiple=True,
        metavar="KEY",
        help="Key of the organisation's admin account; repeatable if it needs several.",
    )
    later = click.option(
        "--draft", type=any_path(), help="Write it to this file, to be signed by several."
    )
    return signer(later(sender_options(keys_option(chain_id_option(wrapper)))))
