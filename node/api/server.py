"""The running HTTP server: binds, guards connections, stops in bounded time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from node.api.application import build_application
from node.api.guard import ConnectionGuard, GuardedConnection

if TYPE_CHECKING:
    from node.api.context import Context

LISTEN_BACKLOG: Final = 512
"""Connections that the kernel holds while the loop is busy."""
STOP_TIMEOUT_S: Final = 2.0
"""Time for requests in progress to end when the node stops; the node as a whole has 5 s."""


class ApiServer:
    """Serves the API of one node on one address.

    :meth:`start` binds, :meth:`stop` ends every stream and connection. Both are called once.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._guard = ConnectionGuard(context.limits, context.metrics.http)
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        context.metrics.before_scrape(
            lambda: context.metrics.http.connections.set(len(self._guard))
        )

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen, and return the bound address; port 0 lets the system choose.

        Raises:
            OSError: the address cannot be bound.
        """
        runner = web.AppRunner(
            build_application(self._context), access_log=None, shutdown_timeout=STOP_TIMEOUT_S
        )
        await runner.setup()
        self._runner = runner
        server = runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server in setup")
        loop = asyncio.get_running_loop()

        def connect() -> GuardedConnection:
            return GuardedConnection(server, self._guard, loop=loop)

        self._listener = await loop.create_server(connect, host, port, backlog=LISTEN_BACKLOG)
        self._sweep_later(loop)
        bound: tuple[Any, ...] = self._listener.sockets[0].getsockname()
        return bound[0], bound[1]

    async def stop(self) -> None:
        """Stop listening, end the streams, give other requests a moment, close everything."""
        if self._sweep is not None:
            self._sweep.cancel()
        if self._listener is not None:
            self._listener.close()
        self._context.end_streams()
        if self._runner is not None:
            await self._runner.cleanup()

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        def sweep() -> None:
            self._guard.sweep(loop.time())
            self._sweep_later(loop)

        self._sweep = loop.call_later(self._guard.sweep_interval_s, sweep)
