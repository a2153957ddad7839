"""Raw connections to a server, for what no HTTP client would send."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

DEADLINE_S = 5.0


@dataclass
class Peer:
    """One raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read_all(self) -> bytes:
        """Return everything until the server closes; fail after the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def read_answer(self) -> bytes:
        """Return one answer with its body."""
        async with asyncio.timeout(DEADLINE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            return head + await self.reader.readexactly(length)

    async def close(self) -> None:
        """Close our side."""
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
