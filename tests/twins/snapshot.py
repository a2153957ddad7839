"""Instances as bytes: equal bytes are equal states, and a state can be stepped again and again.

What never changes (messages, headers, configuration) is kept once and named by a number.
"""

from __future__ import annotations

import pickle
import sys
from enum import Enum
from io import BytesIO
from types import CellType, CodeType, FunctionType
from typing import Any, Final

from msgspec import Struct

_SHARED: Final[list[Any]] = []
_PLACES: Final[dict[int, int]] = {}
"""Place of a kept object by its id; kept objects never die, so ids stay theirs."""
_EQUALS: Final[dict[Any, int]] = {}


def share(thing: object) -> int:
    """Keep one object for ever; return its number."""
    place = _PLACES.get(id(thing))
    if place is None:
        place = _PLACES[id(thing)] = len(_SHARED)
        _SHARED.append(thing)
    return place


def intern(message: Struct) -> int:
    """Keep one of several equal immutable records; return its number."""
    place = _PLACES.get(id(message))
    if place is None:
        place = _EQUALS.get(message)
        if place is None:
            place = _EQUALS[message] = share(message)
    return place


def forget_all() -> None:
    """Keep nothing any more, which bounds memory; what was frozen before is lost."""
    _SHARED.clear()
    _PLACES.clear()
    _EQUALS.clear()


def shared(place: int) -> Any:
    """Return what is kept under a number."""
    return _SHARED[place]


def _closure(code: int, module: str, cells: tuple[object, ...]) -> FunctionType:
    """Return a function with these contents of its closure."""
    closure = tuple(CellType(content) for content in cells)
    return FunctionType(shared(code), vars(sys.modules[module]), "restored", None, closure)


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        """Name what is shared; take closures apart."""
        place = _PLACES.get(id(obj))
        if place is not None:
            return shared, (place,)
        if isinstance(obj, Struct):
            return shared, (intern(obj),)
        if isinstance(obj, Enum):
            return shared, (share(obj),)
        if isinstance(obj, FunctionType) and obj.__closure__:
            code: CodeType = obj.__code__
            cells = tuple(cell.cell_contents for cell in obj.__closure__)
            return _closure, (share(code), obj.__module__, cells)
        return NotImplemented


def freeze(thing: object) -> bytes:
    """Return the bytes of an object."""
    buffer = BytesIO()
    _Pickler(buffer, protocol=5).dump(thing)
    return buffer.getvalue()


def thaw(data: bytes) -> Any:
    """Return a fresh object."""
    return pickle.loads(data)
