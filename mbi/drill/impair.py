"""Program for a container in a node's network namespace: delays and loses what the node sends.

    python impair.py DELAY_MS JITTER_MS LOSS_PERCENT     until SIGTERM; prints "ready" when in force
    python impair.py clear                               removes what an earlier run left behind

The kernel's `netem` does it. Where the kernel has none, packets are queued to this program
(NFQUEUE), which holds each for its delay or drops it: the same for the node, at more processor
time. Needs CAP_NET_ADMIN, tc and iptables; uses nothing but the standard library, because its text
is handed to the container's own Python.
"""

from __future__ import annotations

import heapq
import secrets
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

CHAIN = "MBI-DRILL-DELAY"
QUEUE_PACKETS_MAX = 20_000
RECEIVE_BYTES = 1 << 20

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_queue.h
NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK = 1, 4
NLMSG_ERROR = 2
QUEUE_SUBSYSTEM = 3
MSG_PACKET, MSG_VERDICT, MSG_CONFIG = 0, 1, 2
ATTR_CONFIG_COMMAND, ATTR_CONFIG_PARAMS, ATTR_CONFIG_MAXLEN = 1, 2, 3
ATTR_PACKET_HEADER, ATTR_VERDICT_HEADER = 1, 2
COMMAND_BIND, COPY_META = 1, 1
DROP, ACCEPT = 0, 1
NETLINK_HEADER = 16
FAMILY_HEADER = 4


class Interrupted(Exception):
    """SIGTERM: undo and end."""


def say(words: str) -> None:
    """Tell the drill, which reads this container's log."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def command(*words: str) -> bool:
    """Run a command; return whether it succeeded."""
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def interfaces() -> list[str]:
    """Return all interfaces but loopback."""
    return sorted(item.name for item in Path("/sys/class/net").iterdir() if item.name != "lo")


def clear() -> None:
    """Remove every delay and loss; harmless where there is none."""
    for name in interfaces():
        command("tc", "qdisc", "del", "dev", name, "root")
    command("iptables", "-D", "OUTPUT", "!", "-o", "lo", "-j", CHAIN)
    command("iptables", "-F", CHAIN)
    command("iptables", "-X", CHAIN)


def use_netem(delay_ms: float, jitter_ms: float, loss_percent: float) -> bool:
    """Let the kernel do it; False if it cannot."""
    rule = ("delay", f"{delay_ms}ms", f"{jitter_ms}ms", "loss", f"{loss_percent}%")
    return all(
        command("tc", "qdisc", "replace", "dev", name, "root", "netem", *rule)
        for name in interfaces()
    )


def message(kind: int, flags: int, number: int, attributes: bytes) -> bytes:
    """Return a message to the queue subsystem."""
    body = struct.pack(">BBH", socket.AF_UNSPEC, 0, number) + attributes
    length = NETLINK_HEADER + len(body)
    return struct.pack("=IHHII", length, QUEUE_SUBSYSTEM << 8 | kind, flags, 0, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def open_queue() -> socket.socket:
    """Bind queue 0 of this namespace."""
    queue = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    queue.bind((0, 0))
    for attributes in (
        attribute(ATTR_CONFIG_COMMAND, struct.pack(">BBH", COMMAND_BIND, 0, socket.AF_INET)),
        attribute(ATTR_CONFIG_PARAMS, struct.pack(">IB", 0, COPY_META)),
        attribute(ATTR_CONFIG_MAXLEN, struct.pack(">I", QUEUE_PACKETS_MAX)),
    ):
        queue.send(message(MSG_CONFIG, NLM_F_REQUEST | NLM_F_ACK, 0, attributes))
        answer = queue.recv(RECEIVE_BYTES)
        (error,) = struct.unpack_from("=i", answer, NETLINK_HEADER)
        if error:
            raise OSError(-error, "cannot bind the packet queue")
    return queue


def packet_numbers(data: bytes) -> list[int]:
    """Return the numbers of the packets that a datagram from the kernel announces."""
    found: list[int] = []
    while len(data) >= NETLINK_HEADER:
        length, kind = struct.unpack_from("=IH", data)
        if kind == QUEUE_SUBSYSTEM << 8 | MSG_PACKET:
            place = NETLINK_HEADER + FAMILY_HEADER
            while place + 4 <= length:
                size, name = struct.unpack_from("=HH", data, place)
                if name == ATTR_PACKET_HEADER:
                    found.append(struct.unpack_from(">I", data, place + 4)[0])
                place += max(4, size + (-size % 4))
        data = data[max(NETLINK_HEADER, length + (-length % 4)) :]
    return found


def verdict(number: int, decision: int) -> bytes:
    """Return the message that lets a packet go, or drops it."""
    value = attribute(ATTR_VERDICT_HEADER, struct.pack(">II", decision, number))
    return message(MSG_VERDICT, NLM_F_REQUEST, 0, value)


def hold_packets(delay_ms: float, jitter_ms: float, loss_percent: float) -> None:
    """Delay and lose queued packets until SIGTERM."""
    queue = open_queue()
    queue.setblocking(False)
    command("iptables", "-N", CHAIN)
    command("iptables", "-A", CHAIN, "-j", "NFQUEUE", "--queue-num", "0", "--queue-bypass")
    if not command("iptables", "-I", "OUTPUT", "!", "-o", "lo", "-j", CHAIN):
        raise OSError("iptables cannot queue packets here, and the kernel has no netem")
    say("ready nfqueue")
    dice = secrets.SystemRandom()
    held: list[tuple[float, int]] = []
    while True:
        patience = max(0.0, held[0][0] - time.monotonic()) if held else None
        if select.select([queue], [], [], patience)[0]:
            try:
                numbers = packet_numbers(queue.recv(RECEIVE_BYTES))
            except OSError:
                continue  # the kernel dropped some for want of room: losses, as they happen
            for number in numbers:
                if dice.random() * 100 < loss_percent:
                    queue.send(verdict(number, DROP))
                    continue
                wait_s = max(0.0, delay_ms + jitter_ms * dice.uniform(-1, 1)) / 1000
                heapq.heappush(held, (time.monotonic() + wait_s, number))
        while held and held[0][0] <= time.monotonic():
            queue.send(verdict(heapq.heappop(held)[1], ACCEPT))


def main(words: list[str]) -> None:
    """Impair until SIGTERM, or clear."""
    clear()
    if words == ["clear"]:
        return

    def stop(*_: object) -> None:
        raise Interrupted

    signal.signal(signal.SIGTERM, stop)
    delay_ms, jitter_ms, loss_percent = map(float, words)
    try:
        if use_netem(delay_ms, jitter_ms, loss_percent):
            say("ready netem")
            signal.pause()
        else:
            clear()
            hold_packets(delay_ms, jitter_ms, loss_percent)
    except Interrupted:
        pass
    finally:
        clear()


if __name__ == "__main__":
    main(sys.argv[1:])
