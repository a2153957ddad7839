"""A real server on a free port around a fake node, and a client for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from node.api.context import Context
from node.api.limits import Limits
from node.api.server import ApiServer
from node.metrics import Metrics
from tests.unit.node_api.fakes import FakeNode
from tests.unit.node_api.raw import Peer


@dataclass
class Answer:
    """A whole HTTP answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    json: Any


@dataclass
class Api:
    """A running server with its node."""

    node: FakeNode
    context: Context
    server: ApiServer
    host: str
    port: int
    session: aiohttp.ClientSession
    peers: list[Peer] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def connect(self, data: bytes = b"") -> Peer:
        """Open a raw connection and send something; it is closed after the test."""
        peer = Peer(*await asyncio.open_connection(self.host, self.port))
        self.peers.append(peer)
        peer.writer.write(data)
        return peer

    async def close_peers(self) -> None:
        for peer in self.peers:
            await peer.close()

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.url + path, **options) as answer:
            body = await answer.read()
            is_json = body and answer.content_type.endswith("json")
            document = json.loads(body) if is_json else None
            return Answer(answer.status, answer.headers, body, document)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        return await self.request("POST", path, **options)


StartApi = Callable[..., Coroutine[Any, Any, Api]]


@pytest.fixture
async def start_api() -> AsyncIterator[StartApi]:
    """Return a function that starts a server; limits and context fields as keyword arguments."""
    async with AsyncExitStack() as stack:

        async def start(
            node: FakeNode | None = None, *, limits: Limits | None = None, **fields: Any
        ) -> Api:
            node = node or FakeNode()
            context = Context(node, Metrics(), limits or Limits(), **fields)
            server = ApiServer(context)
            host, port = await server.start("127.0.0.1", 0)
            stack.push_async_callback(server.stop)
            session = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            api = Api(node, context, server, host, port, session)
            stack.push_async_callback(api.close_peers)
            return api

        yield start


@pytest.fixture
async def api(start_api: StartApi) -> Api:
    """Return a server with default limits."""
    return await start_api()
