"""Every bound of the HTTP API, with its reason. Threat lines A1 to A10 of the threat model.

The constants are the defaults; :class:`Limits` carries the values in use, so that an operator or a
test can set others. A limit that depends on no deployment (page size, hex lengths) is a constant
only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEAD_TIMEOUT_S: Final = 10.0
"""A client that has not sent a whole request head by then is cut; aiohttp alone waits for ever."""
BODY_TIMEOUT_S: Final = 15.0
"""The largest body passes in this time at 70 KB/s; a slower sender is answered 408."""
KEEP_ALIVE_S: Final = 30.0
"""Silence between two requests of one connection."""
WRITE_STALL_S: Final = 30.0
"""A client that reads nothing for so long, with our send buffer full, is cut."""
LINGER_S: Final = 2.0
"""Time to read the rest of a refused body, so that the client sees the answer and not a reset."""
CONNECTIONS_MAX: Final = 1000
"""Leaves file descriptors for the database and the peers within the usual limit of 1,024 or
more."""
CONNECTIONS_PER_ADDRESS_MAX: Final = 64
"""One machine needs few; one IPv6 network of 64 bits counts as one address."""
CONNECTIONS_LOOPBACK_MAX: Final = 512
"""The loopback address stands for every program of this machine: explorer, wallets and
benchmark."""

BODY_BYTES_MAX: Final = 1024 * 1024
"""A block's worth of transactions."""
HEADERS_MAX: Final = 128
HEADER_BYTES_MAX: Final = 8190
"""Longest request line and longest header field."""

BATCH_TRANSACTIONS_MAX: Final = 1000
"""Transactions in one batch: 60 ms of signature checks in the verifier's thread."""
PAGE_ITEMS_DEFAULT: Final = 20
PAGE_ITEMS_MAX: Final = 100
"""A greater `limit` is clamped to this, so that a page is made within one turn of the event
loop."""
SCAN_SLICE: Final = 64
"""Items rendered or examined before the event loop gets a turn: a few milliseconds of work."""

WAIT_DEFAULT_S: Final = 10
WAIT_MAX_S: Final = 30
"""Longest `timeout` of `wait=finalized`; a greater one is clamped."""
WAITERS_MAX: Final = 1000
"""Requests that wait for finality at a time; one more is answered as if its time were over."""

WEBSOCKET_CLIENTS_MAX: Final = 100
WEBSOCKET_SUBSCRIPTIONS_MAX: Final = 5
"""Per client."""
WEBSOCKET_MESSAGE_BYTES_MAX: Final = 64 * 1024
WEBSOCKET_HEARTBEAT_S: Final = 30.0
WEBSOCKET_CLOSE_S: Final = 1.0
"""Time for the client to answer our closing frame; the node may be stopping."""
WEBSOCKET_MESSAGES_PER_S: Final = 20
"""Requests of one client per second, with a burst of as many; more closes the channel (1008)."""
SSE_CLIENTS_MAX: Final = 200
STREAM_LAG_BLOCKS: Final = 256
"""A stream that had caught up and then falls so far behind is told where to resume, and ended."""
STREAM_HEARTBEAT_S: Final = 15.0
"""A comment line on a silent SSE stream, below the idle timeouts of common proxies."""
TOPICS_MAX: Final = 16
"""Topics of one subscription."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that a deployment or a test may set; defaults are the constants above."""

    head_timeout_s: float = HEAD_TIMEOUT_S
    body_timeout_s: float = BODY_TIMEOUT_S
    keep_alive_s: float = KEEP_ALIVE_S
    write_stall_s: float = WRITE_STALL_S
    linger_s: float = LINGER_S
    connections_max: int = CONNECTIONS_MAX
    connections_per_address_max: int = CONNECTIONS_PER_ADDRESS_MAX
    connections_loopback_max: int = CONNECTIONS_LOOPBACK_MAX
    waiters_max: int = WAITERS_MAX
    websocket_clients_max: int = WEBSOCKET_CLIENTS_MAX
    sse_clients_max: int = SSE_CLIENTS_MAX
    stream_lag_blocks: int = STREAM_LAG_BLOCKS
    stream_heartbeat_s: float = STREAM_HEARTBEAT_S
