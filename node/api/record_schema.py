"""JSON Schemas of ledger records, derived from the annotations that also write their JSON form.

Mirrors ``ledger.json``: amounts and nonces are decimal strings, addresses bech32m, keys and
digests hex, enumerations lower-case names, unions objects with a ``type``. A new record or
operation needs no code here, and a test compares real answers with what this module says.
"""

from __future__ import annotations

import types
from enum import IntEnum
from typing import Annotated, Any, Final, NewType, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

from ledger.events import EVENT_NAMES
from ledger.operations import SPEC_OF
from ledger.records import CHANGE_NAMES
from ledger.types import Address, Amount, Digest, Nonce, PublicKey, Signature
from node.api.parameters import ADDRESS_SCHEMA, DECIMAL_SCHEMA, DIGEST_SCHEMA, JsonSchema

_NAMED: Final[dict[Any, JsonSchema]] = {
    Address: ADDRESS_SCHEMA,
    Amount: DECIMAL_SCHEMA,
    Digest: DIGEST_SCHEMA,
    Nonce: DECIMAL_SCHEMA,
    PublicKey: DIGEST_SCHEMA,
    Signature: {"type": "string", "pattern": "^[0-9a-f]{128}$"},
}
_PLAIN: Final[dict[Any, JsonSchema]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    str: {"type": "string"},
}
_TYPE_NAMES: Final[dict[Any, str]] = {
    **{structure: spec.name for structure, spec in SPEC_OF.items()},
    **EVENT_NAMES,
    **CHANGE_NAMES,
}


def record_schema(structure: type[Struct], type_name: str | None = None) -> JsonSchema:
    """Return the schema of a structure's JSON form; with a type name, of a member of a union."""
    hints = get_type_hints(structure, include_extras=True)
    properties = {name: _schema(hints[name]) for name in structure.__struct_fields__}
    if type_name is not None:
        properties = {"type": {"const": type_name}, **properties}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schema(annotation: Any) -> JsonSchema:  # annotations are run-time objects of many types
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in _NAMED:
        return _NAMED[annotation]
    if isinstance(annotation, NewType):
        return {"type": "integer"}
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if get_origin(annotation) is tuple:
        return {"type": "array", "items": _schema(get_args(annotation)[0])}
    if get_origin(annotation) in (types.UnionType, Union):
        return _union(get_args(annotation))
    if issubclass(annotation, IntEnum):
        return {"type": "string", "enum": [member.name.lower() for member in annotation]}
    return record_schema(annotation)


def _union(members: tuple[Any, ...]) -> JsonSchema:
    present = [member for member in members if member is not type(None)]
    if len(present) < len(members):
        return {"anyOf": [_schema(present[0]), {"type": "null"}]}
    return {"oneOf": [record_schema(member, _TYPE_NAMES[member]) for member in present]}
