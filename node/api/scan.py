"""Walks the state in the order of its keys, through the links that the tree itself is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.records import STATE_KEY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ledger.state import State


def keys_with_prefix(
    state: State, prefix: bytes, after: bytes | None, *, descending: bool = False
) -> Iterator[bytes]:
    """Yield the keys that begin with `prefix`, in order, from the one next to `prefix + after` on.

    Each step costs one look-up. The walk is within one state: do not suspend between two steps.
    """
    if descending:
        bound = prefix + (b"\xff" * STATE_KEY_BYTES_MAX if after is None else after)
        key = state.prove(bound if after is None else _below(bound)).key
        while key.startswith(prefix) and key != prefix:
            yield key
            key = state.prove(_below(key)).key
        return
    key = state.prove(prefix + (after or b"")).next_key
    while key.startswith(prefix):
        yield key
        key = state.prove(key).next_key


def _below(key: bytes) -> bytes:
    """Return a byte string below `key` and above every state key below `key`."""
    last = key[-1]
    if last == 0:
        return key[:-1]
    return key[:-1] + bytes((last - 1,)) + b"\xff" * STATE_KEY_BYTES_MAX
