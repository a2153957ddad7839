"""Pages over the records of one kind in the state, in the order of their keys."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from ledger.json import to_json
from node.api.paging import page_response, read_cursor
from node.api.scan import keys_with_prefix

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from node.api.routing import Call


def record_page(
    call: Call, prefix: bytes, render: Callable[[Any], dict[str, Any]] = to_json
) -> web.Response:
    """Answer with one page of the records whose keys begin with ``prefix``."""
    state, limit = call.context.view.state, call.query["limit"]
    found = keys_with_prefix(state, prefix, read_cursor(call), descending=call.query["order"])
    keys = list(islice(found, limit + 1))
    items = [render(state.record(key)) for key in keys[:limit]]
    last = keys[limit - 1][len(prefix) :] if len(keys) > limit else None
    return page_response(call, items, last)
