"""Refusals: one form, stable codes, no leaks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import node
from ledger.errors import InvariantViolation, LedgerError
from node.api.ports import SubmitResult
from node.api.problems import (
    API_KINDS,
    Problem,
    all_kinds,
    ledger_kinds,
    problem_of_error,
    problem_of_rejection,
)
from storage.errors import StoreCorrupt
from tests.unit.node_api.conftest import Answer, Api, StartApi
from tests.unit.node_api.fakes import wire_hex

LEAKS = re.compile(rb"Traceback|File \"|site-packages|/home|/tmp|\.py\b|0x[0-9a-f]{6}|127\.0\.0\.1")


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["code"] == code
    assert answer.json["status"] == status
    assert answer.json["type"] == f"/problems/{code}"
    assert answer.json["title"]
    assert answer.json["detail"]
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert not LEAKS.search(answer.body)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/titles/land/1", 404, "not_found"),
        ("GET", "/%2e%2e/etc/passwd", 404, "not_found"),
        ("DELETE", "/v1/status", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/transactions", 405, "method_not_allowed"),
        ("GET", "/v1/transactions/batch", 400, "invalid_parameter"),
        ("GET", "/v1/blocks/99", 404, "not_found"),
        ("GET", f"/v1/blocks/{'0' * 64}", 404, "not_found"),
        ("GET", "/v1/blocks/99/ids", 404, "not_found"),
        ("GET", "/v1/blocks/0/certificate", 404, "no_certificate"),
        ("GET", "/v1/validators/nobody", 404, "not_found"),
        ("GET", "/v1/assets/bank/NONE", 404, "not_found"),
        ("GET", "/v1/organisations/nobody", 404, "not_found"),
        ("GET", f"/v1/transactions/{'0' * 64}/proof", 404, "not_found"),
        ("GET", "/v1/search", 400, "invalid_parameter"),
        ("GET", "/v1/ws", 426, "upgrade_required"),
        ("GET", "/problems/nonsense", 404, "not_found"),
        ("GET", "/assets/..%2Fapplication.py", 400, "invalid_parameter"),
        ("GET", "/v1/events?topics=nonsense", 400, "invalid_parameter"),
        ("GET", "/v1/events?cursor=nonsense", 400, "invalid_cursor"),
    ],
)
async def test_refusal_is_a_problem_document(
    api: Api, method: str, path: str, status: int, code: str
) -> None:
    """A9: constant bodies that name no path, address or line of code."""
    assert_problem(await api.request(method, path), status, code)


async def test_method_not_allowed_names_the_allowed(api: Api) -> None:
    answer = await api.request("DELETE", "/v1/transactions")
    assert answer.headers["Allow"] == "GET, HEAD, POST"


async def test_head_answers_without_body(api: Api) -> None:
    answer = await api.request("HEAD", "/v1/status")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=1e3", "limit=", "order=down", "limit=1&limit=2"]
)
async def test_bad_page_parameter_is_refused(api: Api, query: str) -> None:
    """A4: no parameter is guessed at."""
    assert_problem(await api.get(f"/v1/blocks?{query}"), 400, "invalid_parameter")


@pytest.mark.parametrize("path", ["/v1/status", "/v1/blocks", "/v1/transactions", "/healthz", "/"])
async def test_unknown_query_parameter_is_refused(api: Api, path: str) -> None:
    answer = await api.get(f"{path}?ofset=1")
    assert_problem(answer, 400, "unknown_parameter")


async def test_defect_is_a_constant_answer(api: Api) -> None:
    """A9: an unexpected exception shows nothing of itself."""
    api.node.fail_with = ValueError("secret detail")
    answer = await api.get("/v1/status")
    assert_problem(answer, 500, "internal_error")
    assert b"secret" not in answer.body


@pytest.mark.parametrize(
    "error",
    [InvariantViolation("supply", "secret"), StoreCorrupt(Path("db"), "000001.log", "secret")],
    ids=["invariant", "store"],
)
async def test_fatal_error_is_handed_up(start_api: StartApi, error: Exception) -> None:
    """A broken invariant or damaged store is answered 500 and ends the node, never lived with."""
    faults: list[BaseException] = []
    api = await start_api(on_fault=faults.append)
    api.node.fail_with = error
    answer = await api.get("/v1/status")
    assert_problem(answer, 500, "internal_error")
    assert faults == [error]


def _codes_of(base: type[LedgerError]) -> set[str]:
    own = {base.code} if "code" in vars(base) else set()
    return own.union(*(_codes_of(child) for child in base.__subclasses__()))


def test_every_ledger_error_is_mapped() -> None:
    """The one translation leaves no error of the ledger out."""
    codes = _codes_of(LedgerError) - {LedgerError.code}
    assert codes == set(ledger_kinds())
    assert all(400 <= kind.status < 500 for kind in ledger_kinds().values())


def test_no_code_has_two_meanings() -> None:
    codes = [kind.code for kind in API_KINDS]
    assert len(set(codes)) == len(codes)
    assert not set(codes) & set(ledger_kinds())


def test_unlisted_error_is_never_a_server_error() -> None:
    class Strange(LedgerError):
        pass

    assert problem_of_error(Strange("odd")).status == 422


def test_temporary_refusal_says_when_to_come_back() -> None:
    result = SubmitResult(None, "rejected", "sender_quota", "too many", retry_after_s=3)
    problem = problem_of_rejection(result)
    assert (problem.status, problem.headers) == (429, {"Retry-After": "3"})


def test_problem_of_unknown_code_is_a_refusal() -> None:
    assert Problem("something_new", "x").status == 422


async def test_every_code_has_a_page(api: Api) -> None:
    for code, kind in all_kinds().items():
        answer = await api.get(f"/problems/{code}")
        assert answer.status == 200
        assert f"<code>{code}</code>, HTTP status {kind.status}" in answer.body.decode()


CODE_PLACE = {"Problem": 0, "SubmissionRefused": 0, "_refuse": 1, "Places": 2, "SubmitResult": 2}
"""Calls that name a code which a client may see, and which argument it is."""


def codes_in_source() -> Iterator[str]:
    for path in Path(node.__path__[0]).rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            code = call.args[CODE_PLACE[name] :][:1] if name in CODE_PLACE else []
            if code and isinstance(code[0], ast.Constant) and isinstance(code[0].value, str):
                yield code[0].value


def test_every_code_that_the_node_names_is_documented() -> None:
    codes = set(codes_in_source())
    assert {"not_found", "mempool_full", "sender_quota", "nonce_reserved", "nonce_used"} <= codes
    assert codes <= set(all_kinds())


async def test_pages_allow_nothing_foreign(api: Api) -> None:
    for path in ("/", "/docs", "/problems"):
        answer = await api.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert b"http://" not in answer.body
        assert b"https://" not in answer.body
        assert b"<script>" not in answer.body


async def test_server_does_not_say_what_it_runs_on(api: Api) -> None:
    """A9: versions of libraries are nobody's business."""
    for path in ("/v1/status", "/nowhere", "/"):
        answer = await api.get(path)
        assert "aiohttp" not in answer.headers.get("Server", "").lower()
        assert "python" not in answer.headers.get("Server", "").lower()


async def test_rejection_of_a_transaction_has_its_code(api: Api) -> None:
    api.node.refuse_with = SubmitResult(None, "rejected", "insufficient_signatures", "1 of 2")
    answer = await api.post("/v1/transactions", json=wire_hex(b"x"))
    assert_problem(answer, 422, "insufficient_signatures")


async def test_full_mempool_is_503_with_retry_after(api: Api) -> None:
    """A8: overload is told apart from refusal."""
    api.node.refuse_with = SubmitResult(None, "rejected", "mempool_full", "full", retry_after_s=2)
    answer = await api.post("/v1/transactions", json=wire_hex(b"x"))
    assert_problem(answer, 503, "mempool_full")
    assert answer.headers["Retry-After"] == "2"


async def test_not_ready_lists_every_check(api: Api) -> None:
    from node.api.ports import Check

    api.node.checks = [Check("quorum", False, 2, 3, "missing: com-1"), Check("synced", True, 0, 16)]
    answer = await api.get("/readyz")
    assert_problem(answer, 503, "not_ready")
    assert [check["name"] for check in answer.json["checks"]] == ["quorum", "synced"]
    assert answer.json["checks"][0]["limit"] == 3
    assert "com-1" in answer.json["detail"]
