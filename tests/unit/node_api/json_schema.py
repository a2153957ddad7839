"""A validator for the part of JSON Schema that the OpenAPI document uses."""

from __future__ import annotations

import re
from typing import Any

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KNOWN_WORDS = {
    "$ref", "type", "properties", "required", "items", "enum", "const", "pattern", "anyOf", "oneOf",
    "additionalProperties", "minimum", "format", "default",
}  # fmt: skip


def breaches(document: dict[str, Any], schema: Any, value: Any, path: str = "$") -> list[str]:
    """Return where a value differs from its schema; empty if nowhere."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return breaches(document, document["components"]["schemas"][name], value, path)
    unknown = schema.keys() - KNOWN_WORDS
    if unknown:
        return [f"{path}: the validator does not know {unknown}"]
    for word in ("anyOf", "oneOf"):
        if word in schema:
            tried = [breaches(document, option, value, path) for option in schema[word]]
            matches = tried.count([])
            return [] if matches == 1 or (word == "anyOf" and matches) else [f"{path}: {tried}"]
    found = _simple(schema, value, path)
    if isinstance(value, dict):
        found += [
            f"{path}.{name}: missing" for name in schema.get("required", ()) if name not in value
        ]
        for name, item in value.items():
            rule = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if rule is not None:
                found += breaches(document, rule, item, f"{path}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += breaches(document, schema["items"], item, f"{path}[{index}]")
    return found


def undocumented(document: dict[str, Any], schema: Any, value: Any, path: str = "$") -> list[str]:
    """Return the members of answers that a schema of an object does not mention."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return undocumented(document, document["components"]["schemas"][name], value, path)
    for word in ("anyOf", "oneOf"):
        for option in schema.get(word, ()):
            if not breaches(document, option, value):
                return undocumented(document, option, value, path)
    found: list[str] = []
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{path}.{name}" for name in value if name not in schema["properties"]]
        for name, rule in schema["properties"].items():
            if name in value:
                found += undocumented(document, rule, value[name], f"{path}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            found += undocumented(document, schema["items"], item, f"{path}[{index}]")
    return found


def _simple(schema: Any, value: Any, path: str) -> list[str]:
    if "const" in schema and value != schema["const"]:
        return [f"{path}: expected {schema['const']!r}, found {value!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: expected one of {schema['enum']}, found {value!r}"]
    names = schema.get("type", list(TYPES))
    names = [names] if isinstance(names, str) else names
    allowed = tuple(kind for name in names for kind in TYPES[name])
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        return [f"{path}: expected {names}, found {value!r}"]
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        return [f"{path}: {value!r} does not match {schema['pattern']}"]
    if "minimum" in schema and value < schema["minimum"]:
        return [f"{path}: {value!r} is below {schema['minimum']}"]
    return []
