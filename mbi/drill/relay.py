"""Program for a container on the nodes' network: gives each node's HTTP interface a port.

    python relay.py 9000=gov-1 9001=com-1 ...

Validators publish no port, and drills ask over HTTP only. The name is looked up for every
connection, because a node that comes back may have another address. Uses nothing but the standard
library: its text is handed to the container's own Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

NODE_PORT = 26101
CHUNK_BYTES = 65536
CONNECT_TIMEOUT_S = 2.0


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction until it ends, then end the other side's."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()


async def serve(port: int, name: str) -> asyncio.Server:
    """Listen on a port for one node; a node out of reach shows as a closed connection."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                node_reader, node_writer = await asyncio.open_connection(name, NODE_PORT)
        except (OSError, TimeoutError):
            writer.close()
            return
        await asyncio.gather(copy(reader, node_writer), copy(node_reader, writer))

    return await asyncio.start_server(forward, "0.0.0.0", port)


async def main(words: list[str]) -> None:
    """Serve all pairs for ever."""
    pairs = [word.partition("=") for word in words]
    servers = [await serve(int(port), name) for port, _, name in pairs]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
