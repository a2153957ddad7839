"""Transactions as files and as command-line fields: drafts, signed transactions, operation fields.

A *draft* is a JSON object ``{"operations": [...], "memo": "...", "sender": "mbi1..."}``; memo and
sender may be missing. A *signed* file is ``{"tx": "<hex>"}``, the same as the HTTP API
takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Final, NewType, Union, get_args, get_origin, get_type_hints

from ledger.errors import LedgerError
from ledger.json import load_json, operation_from_json
from ledger.operations import SPEC_BY_NAME, Operation
from ledger.records import TRANSACTION_BYTES_MAX
from ledger.types import Address, Amount, Nonce
from mbi.errors import UsageError
from mbi.wallet import parse_account

FILE_BYTES_MAX: Final = 4 * TRANSACTION_BYTES_MAX
"""JSON and hex take more room than the bytes they describe."""

_DRAFT_KEYS: Final = frozenset({"operations", "memo", "sender"})
_SIGNED_KEYS: Final = frozenset({"tx"})


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be signed."""

    operations: tuple[Operation, ...]
    memo: str = ""
    sender: Address | None = None
    """None: the account of the first signer's key."""


def parse_file(content: bytes, name: str) -> Draft | bytes:
    """Return the draft, or the bytes of the signed transaction, that a file holds.

    Raises:
        UsageError: with the file's name and what is wrong in it.
    """
    try:
        document = load_json(content, FILE_BYTES_MAX)
        if not isinstance(document, dict):
            raise UsageError(f"{name}: expected a JSON object with operations, or with tx")
        if "tx" in document:
            return _signed_bytes(document, name)
        return _draft(document, name)
    except LedgerError as error:
        raise UsageError(f"{name}: {error}") from error


def operation_fields(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON form of an operation's fields from their command-line texts.

    Numbers, yes/no values and nested JSON are recognised by the type of the field.
    Raises :class:`UsageError` for an operation or a field that does not exist.
    """
    hints = field_types(name)
    unknown = sorted(set(texts) - set(hints))
    if unknown:
        raise UsageError(f"{name} has no field {unknown[0]!r}; its fields: {', '.join(hints)}")
    return {field: _field_value(field, text, hints[field]) for field, text in texts.items()}


def field_types(name: str) -> dict[str, Any]:
    """Return the fields of an operation with their annotations, in wire order."""
    if name not in SPEC_BY_NAME:
        raise UsageError(f"no operation {name!r}; there are: {', '.join(SPEC_BY_NAME)}")
    structure = SPEC_BY_NAME[name].structure
    hints = get_type_hints(structure, include_extras=True)
    return {field: hints[field] for field in structure.__struct_fields__}


def field_kind(annotation: Any) -> str:
    """Say what a field takes: ``integer``, ``yes/no``, ``JSON``, ``amount``, or ``text``."""
    base, is_optional = _base_type(annotation)
    if base in (Amount, Nonce):
        kind = "amount"
    elif base is bool:
        kind = "yes/no"
    elif base is int:
        kind = "integer"
    elif get_origin(base) is tuple or hasattr(base, "__struct_fields__"):
        kind = "JSON"
    else:
        kind = "text"
    return f"{kind}, optional" if is_optional else kind


def _base_type(annotation: Any) -> tuple[Any, bool]:
    """Return the type behind ``Annotated`` and ``| None``, and whether None is allowed."""
    is_optional = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (UnionType, Union):
            members = [item for item in get_args(annotation) if item is not type(None)]
            is_optional = len(members) < len(get_args(annotation))
            annotation = members[0]
        elif isinstance(annotation, NewType) and annotation.__supertype__ is not int:
            return annotation, is_optional
        elif isinstance(annotation, NewType) and annotation not in (Amount, Nonce):
            annotation = annotation.__supertype__
        else:
            return annotation, is_optional


def _field_value(field: str, text: str, annotation: Any) -> Any:
    kind = field_kind(annotation).partition(",")[0]
    if kind == "integer" and text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    if kind == "yes/no" and text in ("yes", "true", "no", "false"):
        return text in ("yes", "true")
    if kind == "JSON":
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"--{field}: expected JSON, got {text[:80]!r}") from error
    return text


def _draft(document: dict[str, Any], name: str) -> Draft:
    unknown = sorted(set(document) - _DRAFT_KEYS)
    if unknown:
        allowed = ", ".join(sorted(_DRAFT_KEYS))
        raise UsageError(f"{name}: {unknown[0]}: unknown key; allowed: {allowed}")
    listed = document.get("operations")
    if not isinstance(listed, list) or not listed:
        raise UsageError(f"{name}: operations: expected a list with at least one operation")
    operations = []
    for index, item in enumerate(listed):
        path = f"operations[{index}]"
        if not isinstance(item, dict):
            raise UsageError(f"{name}: {path}: expected an object")
        operations.append(operation_from_json(item, path))
    memo, sender = document.get("memo", ""), document.get("sender")
    if not isinstance(memo, str) or not (sender is None or isinstance(sender, str)):
        raise UsageError(f"{name}: memo and sender must be texts")
    return Draft(tuple(operations), memo, None if sender is None else parse_account(sender))


def _signed_bytes(document: dict[str, Any], name: str) -> bytes:
    unknown = sorted(set(document) - _SIGNED_KEYS)
    if unknown:
        raise UsageError(f"{name}: {unknown[0]}: unknown key beside tx")
    try:
        return bytes.fromhex(document["tx"])
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: tx: expected the transaction's bytes in hex") from error
