"""Refusals as problem documents (RFC 9457), and the one place where errors are translated.

A document has ``type`` (a page at ``/problems/<code>``), ``title``, ``status``, ``code`` (stable),
``detail`` (what was expected and what to do) and ``request_id``. Nothing in it comes from a stack
trace, a path or another client. Codes of the API are listed here; codes of the ledger are taken
from its error classes, so that a new one cannot be forgotten.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final

import msgspec
from aiohttp import web

from ledger.errors import EncodingError, LedgerError, ValueFormError
from node.api.headers import DATA_HEADERS
from node.api.ports import SubmitResult

PROBLEM_TYPE: Final = "application/problem+json"
REQUEST_ID_HEADER: Final = "X-Request-Id"


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One documented code."""

    code: str
    status: int
    title: str
    help: str
    """What a caller does about it; shown at ``/problems/<code>``."""


API_KINDS: Final = (
    ProblemKind(
        "bad_request", 400, "Malformed request", "Send well-formed HTTP/1.1; see /openapi.json."
    ),
    ProblemKind(
        "invalid_parameter",
        400,
        "Invalid parameter",
        "Correct the parameter that the detail names. Hashes are 64 lower-case hex digits, amounts "
        "decimal strings without leading zeros, heights integers.",
    ),
    ProblemKind(
        "unknown_parameter",
        400,
        "Unknown query parameter",
        "Remove or correct the parameter; the detail lists the ones this route knows.",
    ),
    ProblemKind(
        "invalid_cursor",
        400,
        "Invalid cursor",
        "Use next_cursor of the previous page, with the same path and parameters, unchanged.",
    ),
    ProblemKind(
        "invalid_body",
        400,
        "Invalid body",
        "Send the document that /openapi.json describes, as UTF-8 JSON or msgpack.",
    ),
    ProblemKind(
        "forbidden_origin",
        403,
        "Origin or host not allowed",
        "A page of another site may not use this node. The operator can list the site in "
        "http.allowed_origins; reach the node by its address or by the name it is configured with.",
    ),
    ProblemKind("not_found", 404, "Not found", "Check the path and the identifier."),
    ProblemKind(
        "no_certificate",
        404,
        "No certificate",
        "Genesis has none; for the newest blocks ask again after the next block is final.",
    ),
    ProblemKind(
        "not_provable_yet",
        404,
        "No proof yet",
        "What was asked for is final, but no certified header covers the result yet. Ask again "
        "after the next block; on an idle network a seal block follows within seconds.",
    ),
    ProblemKind(
        "method_not_allowed",
        405,
        "Method not allowed",
        "Use a method that the Allow header lists.",
    ),
    ProblemKind(
        "not_acceptable",
        406,
        "Not acceptable",
        "Ask for application/json, application/msgpack or */* in Accept.",
    ),
    ProblemKind("body_timeout", 408, "Body too slow", "Send the whole body without long pauses."),
    ProblemKind(
        "length_required",
        411,
        "Length required",
        "Send the body with a Content-Length header; chunked transfer is not accepted.",
    ),
    ProblemKind(
        "body_too_large",
        413,
        "Body too large",
        "Split the batch: a body has at most 1 MiB and a batch at most 1,000 transactions.",
    ),
    ProblemKind(
        "unsupported_media_type",
        415,
        "Unsupported media type",
        "Send application/json or application/msgpack, without Content-Encoding.",
    ),
    ProblemKind(
        "upgrade_required",
        426,
        "Upgrade required",
        "Open this path with a WebSocket client; over plain HTTP use GET /v1/events.",
    ),
    ProblemKind(
        "transaction_refused",
        422,
        "Transaction refused",
        "The code of an actual refusal says which rule; see the other pages here.",
    ),
    ProblemKind(
        "faucet_amount",
        422,
        "Faucet refused",
        "Ask for an amount and an asset that the faucet account of the network holds.",
    ),
    ProblemKind("too_many_requests", 429, "Too many requests", "Wait as long as Retry-After says."),
    ProblemKind(
        "sender_quota",
        429,
        "Sender has too many pending transactions",
        "Wait until some of the account's transactions are final, then send the same bytes again.",
    ),
    ProblemKind(
        "nonce_reserved",
        429,
        "Nonce used by a pending transaction",
        "Another transaction of this sender with the same nonce waits for a block, and at most one "
        "of the two can be included. Sign again with another nonce, or send the same bytes again "
        "once the other one has expired.",
    ),
    ProblemKind(
        "mempool_full",
        503,
        "Mempool full",
        "The node has as many pending transactions as it may hold, or as one organisation may "
        "have. Send the same bytes again after Retry-After; that is always safe.",
    ),
    ProblemKind(
        "too_many_streams",
        503,
        "Too many event streams",
        "Close streams you do not need, or use another node; an observer serves reads.",
    ),
    ProblemKind(
        "not_ready",
        503,
        "Not ready",
        "Wait: the checks say what is missing, with value and limit. Another node may be ready.",
    ),
    ProblemKind(
        "too_many_connections",
        503,
        "Too many connections",
        "Keep connections alive and close those you do not need; a node admits a bounded number, "
        "in all and for each address.",
    ),
    ProblemKind(
        "expectation_failed", 417, "Expectation failed", "Send no Expect but 100-continue."
    ),
    ProblemKind(
        "internal_error",
        500,
        "Internal error",
        "This is a defect of the node. Give its operator the request_id.",
    ),
)
"""Codes that the API itself gives."""

TEMPORARY_STATUS: Final = 429
"""Status of a temporary refusal whose code is not listed."""
REJECTED_STATUS: Final = 422
"""Well-formed, but the rules of the ledger refuse it."""
MALFORMED_STATUS: Final = 400
MALFORMED_ERRORS: Final = (EncodingError, ValueFormError)
"""Errors of the ledger that say the input is not a value at all."""


def _leaves(base: type[LedgerError]) -> Iterator[type[LedgerError]]:
    for child in base.__subclasses__():
        yield child
        yield from _leaves(child)


@cache
def ledger_kinds() -> Mapping[str, ProblemKind]:
    """Return a problem kind for every error code of the ledger, by code.

    Read from the classes when first asked: every module that defines errors is loaded by then.
    """
    kinds: dict[str, ProblemKind] = {}
    for error in _leaves(LedgerError):
        if "code" not in vars(error) or error.code in kinds:
            continue
        title = (error.__doc__ or error.code).strip().split("\n")[0].rstrip(".")
        status = MALFORMED_STATUS if issubclass(error, MALFORMED_ERRORS) else REJECTED_STATUS
        advice = (
            "The same transaction can never be accepted; make a new one."
            if error.permanent
            else "The same transaction may be accepted later."
        )
        kinds[error.code] = ProblemKind(error.code, status, title, advice)
    return MappingProxyType(kinds)


_API_KINDS: Final = MappingProxyType({kind.code: kind for kind in API_KINDS})


def all_kinds() -> Mapping[str, ProblemKind]:
    """Return every documented code; the API's own meaning wins over the ledger's."""
    return MappingProxyType(dict(ledger_kinds()) | dict(_API_KINDS))


class Problem(Exception):
    """Ends the handling of a request with a problem document."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int | None = None,
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Status and title come from the list of codes unless given; ``extra`` adds members."""
        super().__init__(f"{code}: {detail}")
        kind = _API_KINDS.get(code)
        self.code = code
        self.detail = detail
        self.status = status if status is not None else kind.status if kind else REJECTED_STATUS
        self.title = title if title is not None else kind.title if kind else "Refused"
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def problem_of_error(error: LedgerError) -> Problem:
    """Translate an expected error of the ledger."""
    kind = ledger_kinds().get(error.code)
    if kind is None:
        return Problem(error.code, str(error))
    return Problem(error.code, str(error), status=kind.status, title=kind.title)


def problem_of_rejection(result: SubmitResult) -> Problem:
    """Translate the refusal of one submitted transaction."""
    code = result.code or "transaction_refused"
    detail = result.detail or "the node gave no further reason"
    if result.retry_after_s is not None:
        kind = _API_KINDS.get(code)
        return Problem(
            code,
            detail,
            status=kind.status if kind else TEMPORARY_STATUS,
            title=kind.title if kind else "Refused for now",
            headers={"Retry-After": str(result.retry_after_s)},
        )
    kind = ledger_kinds().get(code)
    return Problem(
        code,
        detail,
        status=kind.status if kind else REJECTED_STATUS,
        title=kind.title if kind else "Transaction refused",
    )


def problem_response(problem: Problem) -> web.Response:
    """Render a problem as a response with an id that also appears in the log of a server error."""
    request_id = secrets.token_hex(8)
    body = {
        "type": f"/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.extra,
    }
    headers = {**DATA_HEADERS, **problem.headers, REQUEST_ID_HEADER: request_id}
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(body),
        content_type=PROBLEM_TYPE,
        headers=headers,
    )
