"""The human form of ledger values: JSON with one text for each value.

Amounts and nonces are decimal strings, because many JSON readers lose integers above 2^53;
addresses are bech32m, keys and hashes lower-case hex, enumerations lower-case names, times
integer milliseconds. The conversion follows the type annotations of the structures, so a new
operation needs no code here. Reading is strict: unknown, missing or mistyped fields are refused
with their path and what is allowed. Normative text: ``docs/protocol.md`` section 2, JSON form.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import cache
from typing import (
    Annotated,
    Any,
    Final,
    NamedTuple,
    NewType,
    NoReturn,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from msgspec import Meta, Struct

from ledger.address import format_address, parse_address
from ledger.errors import InvalidAddress, InvalidField, TooLarge
from ledger.events import EVENT_NAMES, Event
from ledger.operations import SPEC_BY_NAME, SPEC_OF, Operation
from ledger.receipt import Receipt
from ledger.records import CHANGE_NAMES
from ledger.transaction import DecodedTransaction
from ledger.types import UINT64_MAX, Address, Amount, Digest, Nonce, PublicKey, Signature

S = TypeVar("S", bound=Struct)

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)  # bounded: longer text is refused unread
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_SHOWN_CHARACTERS: Final = 64
"""Of a refused text in an error message."""

_DECIMAL_LENGTH_MAX: Final = 20
"""Digits of 2^64 - 1; a longer number is refused before it is converted."""

# The two mappings below hold values of every field type: that is why they are typed Any.
ToJson = Callable[[Any], Any]
FromJson = Callable[[Any, str], Any]


class _Form(NamedTuple):
    """How values of one type are written and read."""

    write: ToJson
    read: FromJson


def _refuse(path: str, expected: str, value: object) -> NoReturn:
    # Containers and large numbers are named, not shown: their text could be of any size and depth.
    if isinstance(value, str):
        shown = repr(value[:_SHOWN_CHARACTERS])
    elif (
        value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**64)
    ):
        shown = repr(value)
    else:
        shown = type(value).__name__
    raise InvalidField(f"{path}: expected {expected}, got {shown}")


def parse_decimal(text: object, path: str, minimum: int = 0, maximum: int = UINT64_MAX) -> int:
    """Return the integer of a decimal string: ASCII digits only, no sign, no leading zero."""
    if type(text) is str and _DECIMAL.fullmatch(text):
        number = int(text)
        if minimum <= number <= maximum:
            return number
    _refuse(path, f"a decimal string from {minimum} to {maximum}", text)


def parse_hex(text: object, path: str, size: int) -> bytes:
    """Return the bytes that exactly ``2 * size`` lower-case hex digits name."""
    if type(text) is str and len(text) == 2 * size and _HEX.fullmatch(text):
        return bytes.fromhex(text)
    _refuse(path, f"{2 * size} lower-case hex digits", text)


def load_json(data: bytes, bytes_max: int) -> Any:  # JSON is whatever the sender wrote
    """Return the document in ``data``; raises TooLarge or InvalidField, never anything else.

    Refuses everything that two readers could understand differently: duplicate keys, fractions,
    NaN and infinities, encodings other than UTF-8, and byte order marks.
    """
    if len(data) > bytes_max:
        raise TooLarge(f"expected at most {bytes_max} bytes of JSON, got {len(data)}")
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_distinct_keys,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
            parse_int=_parse_integer,
        )
    except (ValueError, RecursionError) as error:
        raise InvalidField(f"$: not JSON: {error}") from error


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise InvalidField("$: expected distinct keys in every object, got a duplicate")
    return result


def _refuse_number(text: str) -> NoReturn:
    raise InvalidField(f"$: expected integers only, got the number {text[:32]}")


def _parse_integer(text: str) -> int:
    if len(text) > _DECIMAL_LENGTH_MAX:
        raise InvalidField(f"$: expected integers of at most {_DECIMAL_LENGTH_MAX} digits")
    return int(text)


# --- Forms of single types ------------------------------------------------------------------------


def _hex_form(size: int) -> _Form:
    return _Form(lambda value: value.hex(), lambda value, path: parse_hex(value, path, size))


def _read_address(value: object, path: str) -> Address:
    if type(value) is not str:
        _refuse(path, "an address mbi1...", value)
    try:
        return parse_address(value)
    except InvalidAddress as error:
        raise InvalidField(f"{path}: {error}") from error


def _bounds(meta: Meta | None, maximum: int) -> tuple[int, int]:
    low = meta.ge if meta is not None and meta.ge is not None else 0
    high = meta.le if meta is not None and meta.le is not None else maximum
    return int(low), int(high)


def _decimal_form(meta: Meta | None) -> _Form:
    low, high = _bounds(meta, UINT64_MAX)
    return _Form(str, lambda value, path: parse_decimal(value, path, low, high))


def _integer_form(meta: Meta | None) -> _Form:
    low, high = _bounds(meta, 2**53 - 1)

    def read(value: object, path: str) -> int:
        if type(value) is not int or not low <= value <= high:
            _refuse(path, f"an integer from {low} to {high}", value)
        return value

    return _Form(int, read)


def _text_form(meta: Meta | None) -> _Form:
    low = (meta.min_length if meta is not None else None) or 0
    high = meta.max_length if meta is not None else None

    def read(value: object, path: str) -> str:
        if type(value) is not str or len(value) < low or (high is not None and len(value) > high):
            _refuse(path, f"text of {low} to {high} characters", value)
        return value

    return _Form(str, read)


def _enum_form(enum: type[IntEnum]) -> _Form:
    names = {member.name.lower(): member for member in enum}

    def read(value: object, path: str) -> IntEnum:
        if type(value) is not str or value not in names:
            _refuse(path, "one of " + ", ".join(names), value)
        return names[value]

    return _Form(lambda value: enum(value).name.lower(), read)


def _read_boolean(value: object, path: str) -> bool:
    if type(value) is not bool:
        _refuse(path, "true or false", value)
    return value


def _list_form(item: _Form, meta: Meta | None) -> _Form:
    low = (meta.min_length if meta is not None else None) or 0
    high = meta.max_length if meta is not None else None

    def read(value: object, path: str) -> tuple[Any, ...]:
        if type(value) is not list or len(value) < low or (high is not None and len(value) > high):
            _refuse(path, f"a list of {low} to {high} items", value)
        return tuple(item.read(entry, f"{path}[{index}]") for index, entry in enumerate(value))

    return _Form(lambda value: [item.write(entry) for entry in value], read)


def _optional_form(form: _Form) -> _Form:
    return _Form(
        lambda value: None if value is None else form.write(value),
        lambda value, path: None if value is None else form.read(value, path),
    )


def _form_of(annotation: Any) -> _Form:  # annotations are run-time objects of many types
    """Return the form of a field's type."""
    meta: Meta | None = None
    if get_origin(annotation) is Annotated:
        annotation, *metas = get_args(annotation)
        meta = next((item for item in metas if isinstance(item, Meta)), None)
    if isinstance(annotation, NewType):
        if annotation in _FORM_OF_NAME:
            return _FORM_OF_NAME[annotation]
        if annotation is Amount or annotation is Nonce:
            return _decimal_form(meta)
        return _integer_form(meta)
    if get_origin(annotation) is tuple:
        return _list_form(_form_of(get_args(annotation)[0]), meta)
    if get_origin(annotation) is types.UnionType or type(None) in get_args(annotation):
        members = [member for member in get_args(annotation) if member is not type(None)]
        return _optional_form(_form_of(members[0])) if len(members) == 1 else _union_form(members)
    if annotation is bool:
        return _Form(bool, _read_boolean)
    if annotation is int:
        return _integer_form(meta)
    if annotation is str:
        return _text_form(meta)
    if issubclass(annotation, IntEnum):
        return _enum_form(annotation)
    return _struct_form(annotation)


_FORM_OF_NAME: Final[dict[Any, _Form]] = {
    Address: _Form(format_address, _read_address),
    Digest: _hex_form(32),
    PublicKey: _hex_form(32),
    Signature: _hex_form(64),
}


@cache
def _struct_form(structure: type[Struct]) -> _Form:
    hints = get_type_hints(structure, include_extras=True)
    forms = {name: _form_of(hints[name]) for name in structure.__struct_fields__}

    def write(value: Struct) -> dict[str, Any]:
        return {name: form.write(getattr(value, name)) for name, form in forms.items()}

    def read(value: object, path: str) -> Struct:
        if type(value) is not dict:
            _refuse(path, "an object with " + ", ".join(forms), value)
        unknown = sorted(set(value) - set(forms))
        if unknown:
            raise InvalidField(f"{path}.{unknown[0]}: unknown field; allowed: " + ", ".join(forms))
        fields = [form.read(value.get(name), f"{path}.{name}") for name, form in forms.items()]
        return structure(*fields)

    return _Form(write, read)


_NAME_OF: Final[dict[type[Struct], str]] = {
    **{structure: spec.name for structure, spec in SPEC_OF.items()},
    **EVENT_NAMES,
    **CHANGE_NAMES,
}


def _union_form(members: list[type[Struct]]) -> _Form:
    by_name = {_NAME_OF[member]: member for member in members}

    def write(value: Struct) -> dict[str, Any]:
        return {"type": _NAME_OF[type(value)], **_struct_form(type(value)).write(value)}

    def read(value: object, path: str) -> Any:
        if type(value) is not dict or value.get("type") not in by_name:
            found = value.get("type") if type(value) is dict else value
            _refuse(f"{path}.type", "one of " + ", ".join(by_name), found)
        rest = {key: item for key, item in value.items() if key != "type"}
        return _struct_form(by_name[value["type"]]).read(rest, path)

    return _Form(write, read)


# --- What others use ------------------------------------------------------------------------------


def to_json(value: Struct) -> dict[str, Any]:
    """Return the JSON object of any ledger structure that is not a tagged union."""
    result: dict[str, Any] = _struct_form(type(value)).write(value)
    return result


def from_json(structure: type[S], value: object, path: str = "$") -> S:
    """Return the structure that a JSON object describes; raises InvalidField with the path."""
    result: S = _struct_form(structure).read(value, path)
    return result


def operation_to_json(operation: Operation) -> dict[str, Any]:
    """Return ``{"type": name, ...fields}`` of an operation."""
    return {"type": _NAME_OF[type(operation)], **to_json(operation)}


def operation_from_json(value: Mapping[str, Any], path: str = "$") -> Operation:
    """Return the operation that a JSON object describes; an absent optional field is None.

    Raises InvalidField, or what the operation's own validation raises.
    """
    name = value.get("type")
    spec = SPEC_BY_NAME.get(name) if type(name) is str else None
    if spec is None:
        _refuse(f"{path}.type", "one of " + ", ".join(SPEC_BY_NAME), name)
    rest = {key: item for key, item in value.items() if key != "type"}
    operation: Operation = _struct_form(spec.structure).read(rest, path)
    if spec.validate is not None:
        spec.validate(operation)
    return operation


def event_json(event: Event) -> dict[str, Any]:
    """Return ``{"type": name, ...fields}`` of an event."""
    return {"type": _NAME_OF[type(event)], **to_json(event)}


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """Return the JSON object of a receipt, its events with their types."""
    return to_json(receipt)


def transaction_to_json(decoded: DecodedTransaction) -> dict[str, Any]:
    """Return the JSON object of a transaction with its id and wire hash."""
    return {
        "id": decoded.id.hex(),
        "wire_hash": decoded.wire_hash.hex(),
        **to_json(decoded.transaction),
    }
