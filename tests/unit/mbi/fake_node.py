"""A small HTTP server in the shape of a node's API, for tests of clients and commands."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

CHAIN_ID = "11" * 32


@dataclass
class FakeNode:
    """What the fake answers; tests change it while it runs."""

    height: int = 7
    ready: bool = True
    role: str = "observer"
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Answer to a status query, by transaction id."""
    on_submit: Callable[[bytes], tuple[int, dict[str, Any]]] = lambda _: (
        202,
        {"id": "ab" * 32, "status": "pending"},
    )
    submitted: list[bytes] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    url: str = ""
    blocks: dict[int, list[bytes]] = field(default_factory=dict)
    """Ids per height."""
    listing: list[dict[str, Any]] | None = None
    """Blocks, newest first; None for the heights alone."""
    batches: int = 0
    refused: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    """Code and seconds to wait of transactions that a batch may not contain."""
    documents: dict[str, Any] = field(default_factory=dict)
    """Answers to further GET routes, by path."""
    outcome: dict[str, Any] = field(
        default_factory=lambda: {"receipt": {"code": "ok"}, "detail": None}
    )
    """Answer to a dry run."""
    simulated: list[bytes] = field(default_factory=list)
    cuts: dict[str, bytes] = field(default_factory=dict)
    """Paths whose requests arrive, and what of the answer is sent before the connection breaks."""


def problem(status: int, code: str, detail: str, **extra: Any) -> web.Response:
    """Return a problem document."""
    body = {"status": status, "code": code, "detail": detail, "request_id": "r-1", **extra}
    headers = {"Retry-After": str(extra["retry_after"])} if "retry_after" in extra else None
    return web.json_response(
        body, status=status, content_type="application/problem+json", headers=headers
    )


def make_app(node: FakeNode) -> web.Application:
    """Return the application."""
    app = web.Application(middlewares=[_cutting(node)])
    _add_queries(app, node)
    _add_transactions(app, node)
    _add_oddities(app)
    _add_documents(app, node)
    return app


def _cutting(node: FakeNode) -> Middleware:
    @web.middleware
    async def cut(request: web.Request, handler: Handler) -> web.StreamResponse:
        begin = node.cuts.get(request.path)
        if begin is None:
            return await handler(request)
        await request.read()
        headers = {"Content-Length": "1000", "Content-Type": "application/json"}
        response = web.StreamResponse(headers=headers)
        if begin:
            await response.prepare(request)
            await response.write(begin)
        assert request.transport is not None
        request.transport.close()
        return response

    return cut


def _add_queries(app: web.Application, node: FakeNode) -> None:
    async def readyz(_: web.Request) -> web.Response:
        checks = [{"name": "peers", "ok": node.ready, "value": "1", "limit": "3"}]
        if node.ready:
            return web.json_response({"ready": True, "checks": checks})
        return problem(503, "not_ready", "peers: 1", checks=checks)

    async def status(_: web.Request) -> web.Response:
        return web.json_response(
            {
                "chain_id": CHAIN_ID,
                "height": node.height,
                "name": "gov-1",
                "version": "9",
                "network_height": node.height,
                "syncing": not node.ready,
                "role": node.role,
            }
        )

    async def blocks(request: web.Request) -> web.Response:
        if node.listing is not None:
            page = {"items": node.listing, "next_cursor": None, "latest_height": node.height}
            return web.json_response(page)
        start, limit = int(request.query.get("cursor", "0")), int(request.query["limit"])
        items = [{"height": h} for h in range(start, min(start + limit, node.height + 1))]
        end = start + len(items)
        cursor = str(end) if end <= node.height else None
        return web.json_response({"items": items, "next_cursor": cursor, "latest_height": 7})

    async def ids(request: web.Request) -> web.Response:
        height = int(request.match_info["height"])
        if height not in node.blocks:
            return problem(404, "not_found", "no such block")
        if request.headers["Accept"] != "application/msgpack":
            texts = [identifier.hex() for identifier in node.blocks[height]]
            return web.json_response({"height": height, "time_ms": 1000 * height, "ids": texts})
        body = msgspec.msgpack.encode([height, 1000 * height, node.blocks[height]])
        return web.Response(body=body, content_type="application/msgpack")

    app.router.add_get("/readyz", readyz)
    app.router.add_get("/v1/status", status)
    app.router.add_get("/v1/blocks", blocks)
    app.router.add_get("/v1/blocks/{height}/ids", ids)


def _add_transactions(app: web.Application, node: FakeNode) -> None:
    async def submit(request: web.Request) -> web.Response:
        node.queries.append(request.query_string)
        wire = await request.read()
        node.submitted.append(wire)
        code, document = node.on_submit(wire)
        if code >= 400:
            code_text = str(document.pop("code"))
            return problem(code, code_text, "refused by the test", **document)
        return web.json_response(document, status=code)

    async def batch(request: web.Request) -> web.Response:
        wires = msgspec.msgpack.decode(await request.read(), type=list[bytes])
        node.batches += 1
        node.submitted += wires
        results = []
        for wire in wires:
            code, wait_s = node.refused.get(wire, (None, None))
            status = "accepted" if code is None else "rejected"
            results.append([wire[:32], status, code, None, None, wait_s])
        if request.headers["Accept"] == "application/msgpack":
            body = msgspec.msgpack.encode(results)
            return web.Response(body=body, content_type="application/msgpack")
        items = [{"id": wire[:32].hex(), "status": "accepted"} for wire in wires]
        return web.json_response({"items": items})

    async def simulate(request: web.Request) -> web.Response:
        node.simulated.append(await request.read())
        return web.json_response(node.outcome)

    async def transaction(request: web.Request) -> web.Response:
        found = node.statuses.get(request.match_info["id"])
        if found is None:
            return problem(404, "not_found", "no such transaction")
        return web.json_response(found)

    app.router.add_post("/v1/transactions", submit)
    app.router.add_post("/v1/transactions/batch", batch)
    app.router.add_post("/v1/transactions/simulate", simulate)
    app.router.add_get("/v1/transactions/{id}", transaction)


def _add_documents(app: web.Application, node: FakeNode) -> None:
    async def document(request: web.Request) -> web.Response:
        found = node.documents.get(request.path)
        if found is None:
            return problem(404, "not_found", f"nothing at {request.path}")
        if isinstance(found, list):
            found = {"items": found, "next_cursor": None, "latest_height": node.height}
        return web.json_response(found)

    app.router.add_get("/{path:.*}", document)


def _add_oddities(app: web.Application) -> None:
    """Add a stream that ends, an answer of something else, and one that does not come."""

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b': hello\n\nid: 1.0.0\nevent: transferred\ndata: {"a": 1}\n\n')
        await response.write(b'id: 1.0.1\nevent: lagged\ndata: {"resume_from": "1.0.0"}\n\n')
        return response

    async def garbage(_: web.Request) -> web.Response:
        return web.Response(text="<html>proxy</html>", content_type="text/html", status=502)

    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.json_response({})

    app.router.add_get("/v1/events", events)
    app.router.add_get("/v1/peers", garbage)
    app.router.add_get("/v1/mempool", slow)


@asynccontextmanager
async def serving(node: FakeNode) -> AsyncIterator[FakeNode]:
    """Serve on a free loopback port, on the running loop."""
    runner = web.AppRunner(make_app(node), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    node.url = f"http://{host}:{port}"
    try:
        yield node
    finally:
        await runner.cleanup()


@contextmanager
def serving_in_thread(node: FakeNode) -> Iterator[FakeNode]:
    """Serve from another thread, for blocking clients."""
    started, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with serving(node):
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        if not started.wait(10):
            raise TimeoutError("the fake node did not start")
        yield node
    finally:
        stop.set()
        thread.join()
