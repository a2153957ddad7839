"""The HTTP API as values: what to send for each call, and what an answer means. Does no I/O.

Both clients share it: :mod:`mbi.client` sends a :class:`Call` through aiohttp,
:mod:`mbi.sync_client` through ``http.client``, and both hand the raw answer to :func:`interpret`.
Routes and shapes are those of ``/openapi.json`` on every node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from mbi.errors import ApiProblem, OutcomeUnknown, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TIMEOUT_S: Final = 10.0
"""How long a client waits for an answer unless told otherwise."""
POLL_FIRST_S: Final = 0.05
"""Before a transaction is asked for again; doubled each time. A node waits for one only while it
takes the submission, so whoever comes later has to ask."""
POLL_MAX_S: Final = 1.0
"""Longest pause between two such questions."""
FINAL_STATES: Final = frozenset({"finalized", "failed", "rejected", "expired"})
"""Once a transaction is in one of these states, it stays there."""
PAGE_MAX: Final = 100
SERVER_WAIT_S: Final = 30.0
"""Longest wait that a node grants to one request."""

MSGPACK: Final = "application/msgpack"
ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""A node's largest answer is a page of whole blocks; more is no answer of a node."""
SSE_LINE_BYTES_MAX: Final = 1024 * 1024
HTTP_BAD: Final = 400
HTTP_NOT_FOUND: Final = 404
HTTP_SERVER_ERROR: Final = 500
HTTP_UNAVAILABLE: Final = 503

Json = dict[str, Any]
"""A JSON object: its shape is the API's, described in ``/openapi.json``."""


class NotReady(Unreachable):
    """The node answers but says that it cannot serve now (HTTP 503)."""

    code = "not_ready"


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    content_type: str = ""
    accept: str = "application/json"
    patience_s: float = 0.0
    """How long the node may hold back the answer on purpose, on top of the client's timeout."""
    is_submission: bool = False
    """Whether the node may have acted on it although no answer came."""

    @property
    def target(self) -> str:
        """Path with query, as it stands in the request line."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the call."""
        headers = {"Accept": self.accept}
        if self.content_type:
            headers["Content-Type"] = self.content_type
        return headers


@dataclass(frozen=True, slots=True)
class SubmitAnswer:
    """What a node says about one submitted transaction."""

    id: str
    """Hex; empty if the bytes could not be decoded."""
    status: str
    """pending, finalized, failed, rejected, expired or unknown."""
    document: Json
    """The whole answer."""


def parse_node_url(text: str) -> str:
    """Return a node's base URL without trailing slash; raises :class:`UsageError`."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.query or parts.fragment or parts.username is not None:
        raise UsageError(f"node URL {text!r} must look like http://127.0.0.1:26101")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def get(path: str, *parts: str, **query: str | int | None) -> Call:
    """Return a GET of a path; ``parts`` are appended escaped, absent query values left out."""
    escaped = "".join(f"/{quote(part, safe='')}" for part in parts)
    given = tuple((key, str(value)) for key, value in query.items() if value is not None)
    return Call("GET", path + escaped, given)


def asset(asset_id: str) -> Call:
    """Return the query for an asset named ``ORG/CODE``."""
    organisation, slash, code = asset_id.partition("/")
    if not (organisation and slash and code):
        raise UsageError(
            f"asset {asset_id!r} must look like ORGANISATION/CODE, for example issuer/MYR"
        )
    return get("/v1/assets", organisation, code)


def submit(wire: bytes, wait_s: float | None) -> Call:
    """Return the submission of a signed transaction; with ``wait_s`` the node waits that long."""
    query: tuple[tuple[str, str], ...] = ()
    if wait_s is not None:
        query = (("wait", "finalized"), ("timeout", f"{wait_s:g}"))
    return Call(
        "POST",
        "/v1/transactions",
        query,
        wire,
        content_type=MSGPACK,
        patience_s=wait_s or 0.0,
        is_submission=True,
    )


def submit_batch(wires: Sequence[bytes]) -> Call:
    """Return the submission of several signed transactions in one request."""
    body = msgspec.msgpack.encode(list(wires))
    return Call(
        "POST", "/v1/transactions/batch", (), body, content_type=MSGPACK, is_submission=True
    )


def simulate(wire: bytes) -> Call:
    """Return a dry run of a signed transaction."""
    return Call("POST", "/v1/transactions/simulate", (), wire, content_type=MSGPACK)


def events(topics: Sequence[str], cursor: str | None) -> Call:
    """Return the subscription to the event stream."""
    query = tuple(
        (key, value)
        for key, value in (("topics", ",".join(topics)), ("cursor", cursor or ""))
        if value
    )
    return Call("GET", "/v1/events", query, accept="text/event-stream")


def interpret(url: str, call: Call, status: int, content_type: str, body: bytes) -> Any:
    """Return the decoded answer, or raise what its status means.

    Raises:
        NotReady: the node answers 503.
        ApiProblem: any other problem document.
        Unreachable: the answer is not one that a node gives.
        OutcomeUnknown: it is not, and the node may have acted on a submission all the same.
    """
    kind = content_type.split(";", 1)[0].strip()
    document: Any = None
    if kind == MSGPACK or kind == "application/json" or kind.endswith("+json"):
        document = _decode(url, call, kind, body)
    elif status < HTTP_BAD and kind.startswith("text/"):
        return body.decode(errors="replace")
    if status < HTTP_BAD and document is not None:
        return document
    if isinstance(document, dict) and status >= HTTP_BAD:
        problem_code = str(document.get("code", "error"))
        detail = str(document.get("detail") or document.get("title") or "no detail given")
        if status == HTTP_UNAVAILABLE:
            raise NotReady(f"node {url} is not ready: {_checks_text(document) or detail}")
        raise ApiProblem(status, problem_code, detail, str(document.get("request_id", "")))
    what = (
        f"{url} answered {call.method} {call.path} with HTTP {status} and "
        f"{kind or 'no content type'}, as no node does"
    )
    advice = "check the URL and any proxy between"
    if status < HTTP_SERVER_ERROR:
        raise Unreachable(f"{what}; {advice}")
    # A proxy answers so (502, 504) when it lost the node, perhaps after passing the bytes on.
    raise _unanswered(call, what, advice)


def submit_answer(document: Json) -> SubmitAnswer:
    """Return the common part of an answer to a submission or to a status query."""
    return SubmitAnswer(str(document.get("id") or ""), str(document.get("status", "")), document)


def unreachable(url: str, reason: object) -> Unreachable:
    """Return the error for a connection that could not be made: nothing was sent."""
    return Unreachable(
        f"node {url} cannot be reached ({reason}); is it running? start one with `mbi dev`, "
        "or name another with --node URL"
    )


def timed_out(url: str, call: Call, seconds: float) -> Unreachable | OutcomeUnknown:
    """Return the error for an answer that is late."""
    what = f"node {url} did not answer {call.method} {call.path} within {seconds:g} s"
    return _unanswered(call, what, "try again or raise --timeout")


def broken_off(url: str, call: Call, reason: object) -> Unreachable | OutcomeUnknown:
    """Return the error for a connection that was made and failed before the answer was complete."""
    what = f"node {url} broke off before it answered {call.method} {call.path} ({reason})"
    return _unanswered(call, what, "is it running? try again")


def lost_sight(transaction_id: str, reason: Unreachable) -> OutcomeUnknown:
    """Return the error for a submitted transaction whose node can no longer be asked."""
    return OutcomeUnknown(
        f"transaction {transaction_id} was submitted and its outcome is unknown: {reason}; "
        f"ask again with: mbi tx wait {transaction_id}"
    )


class EventParser:
    """Server-sent events from lines (HTML standard, section 9.2): feed lines, take events."""

    def __init__(self) -> None:
        self._id = ""
        self._type = ""
        self._data: list[str] = []

    def feed(self, line: str) -> Json | None:
        """Take one line without its line end; return an event when one is complete."""
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                self._id = value
            elif field == "event":
                self._type = value
            elif field == "data":
                self._data.append(value)
            return None
        data, kind = "\n".join(self._data), self._type
        self._data, self._type = [], ""
        if not data:
            return None
        return {"cursor": self._id, "type": kind or "message", "data": msgspec.json.decode(data)}


def page_items(page: Json) -> Iterator[Json]:
    """Yield the items of one page of a list."""
    yield from page["items"]


def _unanswered(call: Call, what: str, advice: str) -> Unreachable | OutcomeUnknown:
    """Return the error for a call without a usable answer: a submission may still take effect."""
    if call.is_submission:
        return OutcomeUnknown(
            f"{what}; the outcome is unknown: ask with `mbi tx status ID`; "
            "sending the same bytes again is safe"
        )
    return Unreachable(f"{what}; {advice}")


def _decode(url: str, call: Call, kind: str, body: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(body) if kind == MSGPACK else msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        what = f"{url} sent an answer that cannot be decoded: {error}"
        raise _unanswered(call, what, "try again") from error


def _checks_text(document: Json) -> str:
    """Return the checks of ``/readyz`` that are not fulfilled, in one line."""
    checks = document.get("checks")
    if not isinstance(checks, list):
        return ""
    return "; ".join(
        f"{check.get('name')}: {check.get('value')} (limit {check.get('limit')})"
        for check in checks
        if isinstance(check, dict) and not check.get("ok")
    )
