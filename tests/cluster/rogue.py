"""A peer with a genuine identity that says whatever a test wants: frames by hand over TLS 1.3."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgpack
from cryptography.hazmat.primitives.serialization import load_pem_private_key

ANSWER_S: Final = 5.0
HELLO_TAG: Final = 32
VERSION: Final = 1


def frame(payload: bytes) -> bytes:
    """Prefix a payload with its length."""
    return len(payload).to_bytes(4, "big") + payload


class Rogue:
    """One connection to a node's port for peers, with the keys found in a home."""

    def __init__(self, address: str, keys: Path, chain_id: bytes) -> None:
        """Connect and say hello; ``address`` is host:port."""
        host, _, port = address.rpartition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(keys / "ca.crt")
        context.load_cert_chain(keys / "node.crt", keys / "node.pem")
        raw = socket.create_connection((host, int(port)), ANSWER_S)
        self._socket = context.wrap_socket(raw)
        key: Any = load_pem_private_key((keys / "node.pem").read_bytes(), password=None)
        node_id = key.public_key().public_bytes_raw()
        self.send(
            frame(msgpack.packb([HELLO_TAG, VERSION, VERSION, chain_id, node_id, 0, "rogue"]))
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def read_message(self) -> list[Any]:
        """Return the next message of the node; raises ConnectionError at the end of the stream."""
        length = int.from_bytes(self._read(4), "big")
        message: list[Any] = msgpack.unpackb(self._read(length))
        return message

    def read_to_end(self) -> list[list[Any]]:
        """Return all messages until the node closes the connection."""
        messages = []
        while True:
            try:
                messages.append(self.read_message())
            except (ConnectionError, ssl.SSLError):
                return messages

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionResetError("the node closed the connection")
            data += part
        return data
