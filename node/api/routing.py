"""The shape of a route, and what its handler is given.

A :class:`Route` says everything about one operation of the API: it is registered from this record,
its parameters are read by it, and the OpenAPI document is generated from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec
from aiohttp import web

from node.api.headers import DATA_HEADERS
from node.api.parameters import InvalidText, JsonSchema, Parameter
from node.api.problems import Problem

if TYPE_CHECKING:
    from node.api.context import Context
    from node.api.guard import GuardedConnection

JSON_TYPE: Final = "application/json"
MSGPACK_TYPE: Final = "application/msgpack"

UNTIMED_KEY: Final = web.RequestKey("untimed", bool)
"""Set on requests that wait or stream on purpose: their duration says nothing about the server."""

_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Call:
    """One request that has passed the checks every request passes."""

    request: web.Request
    context: Context
    path: Mapping[str, Any]
    """Parsed path parameters by name."""
    query: Mapping[str, Any]
    """Parsed query parameters by name; those not sent have their default."""

    def accepts_msgpack(self) -> bool:
        """Tell whether the client asks for msgpack."""
        return MSGPACK_TYPE in self.request.headers.get("Accept", "")

    @contextmanager
    def cancelled_if_client_leaves(self) -> Iterator[None]:
        """Cancel the handling when the connection is lost, to free its place at once.

        For requests that wait on purpose; their duration is not measured.
        """
        self.request[UNTIMED_KEY] = True
        connection = cast("GuardedConnection", self.request.protocol)
        connection.cancel_on_close(asyncio.current_task())
        try:
            yield
        finally:
            connection.cancel_on_close(None)


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Body:
    """Request body of a route, by media type."""

    content: Mapping[str, JsonSchema]
    description: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One success answer of a route."""

    description: str
    schema: JsonSchema | None = None
    """Of the JSON form; None if there is none."""
    media_type: str = JSON_TYPE
    other_types: tuple[str, ...] = ()
    """Further media types of the same answer."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API."""

    method: Literal["GET", "POST"]
    path: str
    tag: str
    """Group in the documentation."""
    summary: str
    handler: Handler
    answers: Mapping[int, Answer]
    path_parameters: tuple[Parameter, ...] = ()
    query_parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    problems: tuple[str, ...] = ()
    """Codes beyond those that any request can get."""
    is_stream: bool = False
    """The answer does not end by itself."""
    _queries: Mapping[str, Parameter] = field(init=False, repr=False, compare=False)
    _defaults: Mapping[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        queries = {parameter.name: parameter for parameter in self.query_parameters}
        defaults = {name: parameter.default for name, parameter in queries.items()}
        object.__setattr__(self, "_queries", queries)
        object.__setattr__(self, "_defaults", defaults)

    def read_path(self, request: web.Request) -> Mapping[str, Any]:
        """Parse the path parameters.

        Raises:
            Problem: ``invalid_parameter``.
        """
        found = request.match_info
        return {
            parameter.name: _parsed(parameter, found[parameter.name])
            for parameter in self.path_parameters
        }

    def read_query(self, request: web.Request) -> Mapping[str, Any]:
        """Parse the query parameters, refusing unknown and repeated ones.

        Raises:
            Problem: ``unknown_parameter`` or ``invalid_parameter``.
        """
        if not request.query_string:
            return self._defaults
        values = dict(self._defaults)
        seen: set[str] = set()
        for name, text in request.query.items():
            parameter = self._queries.get(name)
            if parameter is None:
                known = ", ".join(sorted(self._queries)) or "none"
                raise Problem("unknown_parameter", f"this route knows these parameters: {known}")
            if name in seen:
                raise Problem("invalid_parameter", f"{name}: expected once, found twice")
            seen.add(name)
            values[name] = _parsed(parameter, text)
        return values


def _parsed(parameter: Parameter, text: str) -> Any:
    try:
        return parameter.parse(text)
    except InvalidText as error:
        raise Problem("invalid_parameter", f"{parameter.name}: expected {error}") from error


def json_response(body: object, status: int = 200, **headers: str) -> web.Response:
    """Render a JSON answer."""
    return web.Response(
        status=status,
        body=_encode_json(body),
        content_type=JSON_TYPE,
        headers={**DATA_HEADERS, **headers} if headers else DATA_HEADERS,
    )


def msgpack_response(body: object, status: int = 200) -> web.Response:
    """Render a msgpack answer."""
    return web.Response(
        status=status, body=_encode_msgpack(body), content_type=MSGPACK_TYPE, headers=DATA_HEADERS
    )
