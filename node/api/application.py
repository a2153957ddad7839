"""The aiohttp application: routes from the table, and the one middleware around all of them.

The middleware is the edge where every outcome becomes an answer: refusals and expected errors
become problem documents, a defect becomes a constant 500 with a log line, and a broken invariant
or a corrupt store is handed to the node, which must end. It also checks what every request must
keep to (host, origin, no content coding, no body where none belongs) and counts.
"""

from __future__ import annotations

import time
from functools import cache
from traceback import format_exception
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import structlog
from aiohttp import web

from ledger.errors import InvariantViolation, LedgerError
from node.api.guard import GuardedConnection
from node.api.host import is_allowed_host, is_allowed_origin
from node.api.limits import BODY_BYTES_MAX
from node.api.openapi import openapi_document
from node.api.problems import (
    REQUEST_ID_HEADER,
    Problem,
    problem_of_error,
    problem_response,
)
from node.api.routes import ROUTES
from node.api.routing import UNTIMED_KEY, Call, Route
from storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Handler as AiohttpHandler

    from node.api.context import Context

ERROR_LOG_INTERVAL_S: Final = 1.0
"""At most one line about internal errors in this time; the rest is counted in the next line."""
TRACEBACK_FRAMES: Final = 8
"""Innermost frames of an internal error in the log."""

_log = structlog.get_logger("node.api")


class _ErrorLog:
    """Writes internal errors, a line per second at most, so that an attack cannot fill the disk."""

    def __init__(self) -> None:
        self._quiet_until = 0.0
        self._suppressed = 0

    def write(self, error: Exception, route: str, request_id: str) -> None:
        now = time.monotonic()
        if now < self._quiet_until:
            self._suppressed += 1
            return
        self._quiet_until = now + ERROR_LOG_INTERVAL_S
        _log.error(
            "api_internal_error",
            route=route,
            request_id=request_id,
            suppressed=self._suppressed,
            error=type(error).__name__,
            # Text without local variables: renderers that show them take seconds, and show secrets.
            traceback="".join(format_exception(error, limit=-TRACEBACK_FRAMES)),
        )
        self._suppressed = 0


def build_application(context: Context) -> web.Application:
    """Return the application with every route of the table and the one middleware."""
    # One byte more than allowed: aiohttp refuses a body that has reached the size.
    application = web.Application(middlewares=[_edge(context)], client_max_size=BODY_BYTES_MAX + 1)
    document = openapi_document(ROUTES, context.view.status().version)
    context.openapi_document = msgspec.json.encode(document)
    for route in ROUTES:
        run = _runner(route, context)
        if route.method == "GET" and not route.is_stream:
            application.router.add_get(route.path, run, expect_handler=_expect)
        else:
            application.router.add_route(route.method, route.path, run, expect_handler=_expect)
    return application


def _runner(route: Route, context: Context) -> Callable[[web.Request], Awaitable[Any]]:
    handler = route.handler
    takes_body = route.body is not None

    async def run(request: web.Request) -> web.StreamResponse:
        if request.body_exists and not takes_body:
            raise Problem("bad_request", "this route takes no body")
        call = Call(request, context, route.read_path(request), route.read_query(request))
        return await handler(call)

    return run


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Answer ``Expect: 100-continue``, the only expectation there is (RFC 9110, 10.1.1)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None
    response = problem_response(
        Problem("expectation_failed", "expected no Expect header, or 100-continue")
    )
    response.force_close()
    return response


def _edge(context: Context) -> Callable[..., Awaitable[web.StreamResponse]]:
    http = context.metrics.http
    # Bound once: to look a label up costs more than to count. Few routes times few statuses.
    count_answer = cache(lambda route, status: http.requests.labels(route, status).inc)
    error_log = _ErrorLog()

    @web.middleware
    async def edge(request: web.Request, handler: AiohttpHandler) -> web.StreamResponse:
        connection = cast("GuardedConnection", request.protocol)
        connection.request_started()
        started = time.perf_counter()
        route = _route_name(request)
        response: web.StreamResponse
        try:
            _check_request(request, context)
            response = await handler(request)
        except Problem as problem:
            response = problem_response(problem)
        except LedgerError as error:
            response = problem_response(problem_of_error(error))
        except web.HTTPException as error:
            response = problem_response(_problem_of_http(error))
        except ConnectionError:
            raise  # the client is gone: nobody to answer
        except Exception as error:
            response = problem_response(Problem("internal_error", "the node could not answer"))
            error_log.write(error, route, response.headers[REQUEST_ID_HEADER])
            if isinstance(error, InvariantViolation | StorageError):
                context.on_fault(error)
        finally:
            connection.request_ended()
        if not request.content.is_eof():
            # The rest of the body must cost nothing: dropped unread, then the channel closes.
            connection.discarding = True
            response.force_close()
        count_answer(route, response.status)()
        if UNTIMED_KEY not in request:
            http.request_seconds.observe_all((time.perf_counter() - started,))
        return response

    return edge


def _route_name(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return "none" if resource is None else resource.canonical


def _check_request(request: web.Request, context: Context) -> None:
    """Refuse what no route accepts.

    Raises:
        Problem: ``forbidden_origin`` or ``unsupported_media_type``.
    """
    headers = request.headers
    host = headers.get("Host")
    if host is not None and not is_allowed_host(host, context.allowed_hosts):
        raise Problem(
            "forbidden_origin",
            "the Host header names a host that this node does not answer to; use its address, or "
            "list the name in http.allowed_hosts",
        )
    origin = headers.get("Origin")
    if origin is not None and not is_allowed_origin(origin, host, context.allowed_origins):
        raise Problem(
            "forbidden_origin",
            "a page of another site sent this request; list the site in http.allowed_origins",
        )
    if "Content-Encoding" in headers:
        raise Problem("unsupported_media_type", "expected a body without Content-Encoding")


def _problem_of_http(error: web.HTTPException) -> Problem:
    """Translate what aiohttp itself refuses."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(
            "method_not_allowed", f"this path allows {allowed}", headers={"Allow": allowed}
        )
    if isinstance(error, web.HTTPNotFound):
        return Problem("not_found", "no such path; /openapi.json lists them all")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem("body_too_large", f"expected at most {BODY_BYTES_MAX} bytes")
    return Problem("bad_request", "the request is not acceptable", status=error.status)
