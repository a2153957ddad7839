"""Both clients against a server in the shape of a node: same answers, same errors."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from mbi import calls
from mbi.calls import NotReady, SubmitAnswer
from mbi.client import AsyncClient
from mbi.errors import ApiProblem, MbiError, OutcomeUnknown, Unreachable, UsageError
from mbi.sync_client import Client
from tests.unit.mbi.fake_node import CHAIN_ID, FakeNode

FINAL = {"id": "ab" * 32, "status": "finalized", "height": 3}


class Both:
    """Calls one method on either client."""

    def __init__(self, kind: str, url: str, timeout: float) -> None:
        self._kind, self._url, self._timeout = kind, url, timeout

    def __call__(self, method: str, *arguments: Any, **named: Any) -> Any:
        if self._kind == "sync":
            answer = getattr(Client(self._url, self._timeout), method)(*arguments, **named)
            return list(answer) if method in ("items", "events") else answer

        async def run() -> Any:
            async with AsyncClient(self._url, self._timeout) as client:
                answer = getattr(client, method)(*arguments, **named)
                if method in ("items", "events"):
                    return [item async for item in answer]
                return await answer

        return asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, node: FakeNode) -> Both:
    return Both(request.param, node.url, 5.0)


def test_status_is_the_document_as_it_is(client: Both) -> None:
    assert client("status")["chain_id"] == CHAIN_ID


def test_lists_are_followed_to_their_end(client: Both, node: FakeNode) -> None:
    node.height = 250
    assert [item["height"] for item in client("items", "/v1/blocks")] == list(range(251))


def test_limit_bounds_the_whole_list(client: Both, node: FakeNode) -> None:
    node.height = 250
    assert len(client("items", "/v1/blocks", limit=130)) == 130


def test_submission_sends_the_bytes_as_they_are(client: Both, node: FakeNode) -> None:
    answer: SubmitAnswer = client("submit", b"\x97wire")
    assert node.submitted == [b"\x97wire"]
    assert (answer.id, answer.status) == ("ab" * 32, "pending")


def test_waiting_asks_the_node_to_wait(client: Both, node: FakeNode) -> None:
    node.on_submit = lambda _: (200, FINAL)
    assert client("submit_and_wait", b"x", 3.0).status == "finalized"
    assert node.queries == ["wait=finalized&timeout=3"]


def test_waiting_goes_on_when_the_node_gives_up(client: Both, node: FakeNode) -> None:
    node.statuses["ab" * 32] = FINAL
    assert client("submit_and_wait", b"x", 5.0).status == "finalized"


def test_time_out_while_pending_leaves_the_outcome_unknown(client: Both, node: FakeNode) -> None:
    node.statuses["ab" * 32] = {"id": "ab" * 32, "status": "pending"}
    with pytest.raises(OutcomeUnknown, match=r"is pending after 0.2 s.*mbi tx wait"):
        client("wait_final", "ab" * 32, 0.2)


def test_transaction_nobody_knows_is_unknown_and_no_error(client: Both) -> None:
    assert client("transaction", "cd" * 32).status == "unknown"


def test_problem_keeps_its_code(client: Both, node: FakeNode) -> None:
    node.on_submit = lambda _: (409, {"code": "nonce_used"})
    with pytest.raises(ApiProblem, match=r"nonce_used: refused by the test \(request r-1\)") as e:
        client("submit", b"x")
    assert (e.value.status, e.value.problem_code) == (409, "nonce_used")


def test_not_ready_names_the_check_that_fails(client: Both, node: FakeNode) -> None:
    node.ready = False
    with pytest.raises(NotReady, match=r"peers: 1 \(limit 3\)"):
        client("get", "/readyz")
    assert client("ready") is False


def test_batch_answers_one_by_one(client: Both, node: FakeNode) -> None:
    answers = client("submit_batch", [b"a" * 40, b"b" * 40])
    assert [answer.id for answer in answers] == [(b"a" * 32).hex(), (b"b" * 32).hex()]


def test_events_carry_their_cursor(client: Both) -> None:
    events = client("events", ["account"], "1.0.0")
    assert [(event["cursor"], event["type"]) for event in events] == [
        ("1.0.0", "transferred"),
        ("1.0.1", "lagged"),
    ]
    assert events[0]["data"] == {"a": 1}


def test_answer_of_something_else_is_no_answer(client: Both) -> None:
    with pytest.raises(Unreachable, match="as no node does; check the URL and any proxy"):
        client("get", "/v1/peers")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_silent_node_is_unreachable_after_the_timeout(kind: str, node: FakeNode) -> None:
    with pytest.raises(Unreachable, match=r"did not answer GET /v1/mempool within 0.2 s"):
        Both(kind, node.url, 0.2)("get", "/v1/mempool")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_closed_port_is_unreachable_and_says_what_to_do(kind: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"cannot be reached.*mbi dev"):
            Both(kind, url, 2.0)("status")


def test_a_late_answer_to_a_submission_leaves_the_outcome_unknown() -> None:
    """A submission that timed out may still take effect; it is never reported as failed."""
    late = calls.timed_out("http://n", calls.submit(b"x", 3.0), 13.0)
    assert isinstance(late, OutcomeUnknown)
    assert "sending the same bytes again is safe" in str(late)


@pytest.mark.parametrize("begin", [b"", b'{"id":'])
@pytest.mark.parametrize("method", ["submit", "submit_batch"])
def test_a_connection_that_breaks_after_sending_leaves_the_outcome_unknown(
    client: Both, node: FakeNode, method: str, begin: bytes
) -> None:
    """A submission may have arrived although its answer did not: it is no unreachable node."""
    node.cuts = {"/v1/transactions": begin, "/v1/transactions/batch": begin}
    with pytest.raises(OutcomeUnknown, match="sending the same bytes again is safe"):
        client(method, [b"x"] if method == "submit_batch" else b"x")


def test_a_proxy_that_lost_the_node_leaves_the_outcome_unknown() -> None:
    call = calls.submit(b"x", None)
    with pytest.raises(OutcomeUnknown, match=r"HTTP 502.*sending the same bytes again is safe"):
        calls.interpret("http://n", call, 502, "text/html", b"<html>")
    with pytest.raises(Unreachable, match="as no node does"):
        calls.interpret("http://n", call, 404, "text/html", b"<html>")


def test_losing_the_node_after_submission_leaves_the_outcome_unknown(
    client: Both, node: FakeNode
) -> None:
    node.cuts = {f"/v1/transactions/{'ab' * 32}": b""}
    with pytest.raises(OutcomeUnknown, match=f"mbi tx wait {'ab' * 32}"):
        client("submit_and_wait", b"x", 5.0)


@pytest.mark.parametrize(("method", "arguments"), [("status", ()), ("simulate", (b"x",))])
def test_a_connection_that_breaks_under_a_question_is_an_unreachable_node(
    client: Both, node: FakeNode, method: str, arguments: tuple[bytes, ...]
) -> None:
    """A question changes nothing, a dry run neither: there is no outcome to be unknown."""
    node.cuts = {"/v1/status": b"", "/v1/transactions/simulate": b""}
    with pytest.raises(Unreachable, match="broke off"):
        client(method, *arguments)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_submission_that_was_never_sent_has_no_unknown_outcome(kind: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"cannot be reached.*mbi dev"):
            Both(kind, url, 2.0)("submit", b"x")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:26101/", "http://127.0.0.1:26101"),
        ("localhost:26101", "http://localhost:26101"),
        ("https://node.example/api/", "https://node.example/api"),
        ("http://[::1]:26101", "http://[::1]:26101"),
    ],
)
def test_node_urls_are_normalised(text: str, url: str) -> None:
    assert calls.parse_node_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "ftp://x", "http://", "http://h:99999", "http://h:x", "http://u:p@h", "http://h?q"]
)
def test_unusable_urls_are_refused(text: str) -> None:
    """O3: a wrong URL is a usage error, not a failed connection."""
    with pytest.raises(UsageError, match="must look like"):
        calls.parse_node_url(text)


def test_path_parts_are_escaped() -> None:
    assert calls.get("/v1/accounts", "a/../b?x", limit=None).target == "/v1/accounts/a%2F..%2Fb%3Fx"


@pytest.mark.parametrize("text", ["MYR", "/MYR", "issuer/"])
def test_asset_without_organisation_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="ORGANISATION/CODE"):
        calls.asset(text)


def test_every_error_has_an_exit_code_and_a_code_of_its_own() -> None:
    def leaves(kind: type[MbiError]) -> list[type[MbiError]]:
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    kinds = leaves(MbiError)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert {int(kind.exit_code) for kind in kinds} == {1, 2, 3, 4, 5}
