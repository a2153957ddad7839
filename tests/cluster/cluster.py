"""A network of real node processes for tests: start, kill, pause, wipe, and compare.

Everything is judged from outside: over HTTP, by exit codes, and by what a process printed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from ledger.crypto import SigningKey
from ledger.types import Digest
from mbi.localnet.builder import build_network
from mbi.localnet.layout import Network, NodeEntry
from mbi.localnet.ports import is_free
from mbi.localnet.processes import child_environment, node_command
from mbi.localnet.topology import plan
from mbi.wallet import Wallet
from tests.cluster.api import Api
from tests.cluster.programs import NODE, run
from tests.cluster.secrets_watch import SecretsWatch
from tests.cluster.waiting import wait_until

READY_S: Final = 30.0
"""Generous: other work may run on the same two cores."""
CONVERGE_S: Final = 20.0
AT_HEAD_S: Final = 20.0
"""From the start of the process of a node that was away to its being at the head."""
HEAD_BLOCKS: Final = 3
"""Two answers under load are never of one moment: so close is at the head."""
STOP_S: Final = 5.0
"""What a node promises from the signal to its end."""
LOG_TAIL_LINES: Final = 12
# Below the range from which systems take ports of outgoing connections.
PORT_FIRST, PORT_LAST = 12_000, 32_000


def free_port(nodes: int) -> int:
    """Return the first port of a network of so many nodes, all of whose ports are free now."""

    def choose() -> int | None:
        port = random.randrange(PORT_FIRST, PORT_LAST)
        ports = plan(nodes, 0, port).ports
        return port if all(is_free(port) for port in ports) else None

    return wait_until("free ports", 10.0, choose)


class Node:
    """One node and, while it runs, its process."""

    def __init__(self, entry: NodeEntry, watch: Callable[[bytes], None]) -> None:
        self.entry = entry
        self.name = entry.name
        self.home = entry.home_path
        self.is_validator = entry.role == "validator"
        self.api = Api(entry.http, watch=watch)
        self.process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def __repr__(self) -> str:
        return f"Node({self.name})"

    @property
    def pid(self) -> int:
        """Process id; the node must have been started."""
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self.process is not None and self.process.poll() is None

    def start(self, **environment: str) -> None:
        """Start the process; it ends with this one, so a killed test run leaves no nodes."""
        assert not self.is_running, f"{self.name} runs already"
        with self.entry.log_path.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                node_command(self.entry),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(exit_with_parent=True) | environment,
            )

    def wait_ready(self, deadline_s: float = READY_S) -> None:
        """Wait until ``/readyz`` says 200; a process that ends fails the test at once."""

        def is_ready() -> bool:
            if not self.is_running:
                raise RuntimeError(f"{self.name} ended:\n{self.log_tail()}")
            answer = self.api.request("GET", "/readyz")
            assert answer.status == 200, answer.body.decode()
            return True

        wait_until(f"{self.name} ready", deadline_s, is_ready)

    def wait_height(self, height: int, deadline_s: float = CONVERGE_S) -> None:
        """Wait until the node has executed the block at ``height``."""
        what = f"{self.name} at height {height}"
        wait_until(what, deadline_s, lambda: self.api.height() >= height)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process without any chance to write."""
        self.signal(signal.SIGKILL)
        self.wait_exit()

    def terminate(self) -> tuple[int, float]:
        """Ask the process to stop; return its exit code and how long that took, in seconds."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.wait_exit()
        return code, time.monotonic() - began

    def wait_exit(self, deadline_s: float = 3 * STOP_S) -> int:
        """Wait for the end of the process; return its exit code."""
        assert self.process is not None
        self.api.close()
        return self.process.wait(deadline_s)

    def wipe(self) -> None:
        """Delete the database, as a lost disk would; what lies beside it stays."""
        assert not self.is_running
        shutil.rmtree(self.home / "data")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m node`` with arguments and this home to its end."""
        return run(*NODE, *arguments, "--home", str(self.home))

    def log(self) -> str:
        """Return what the process printed since its last start."""
        with self.entry.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def log_tail(self) -> str:
        """Return the last lines of the log, for a report."""
        if not self.entry.log_path.exists():
            return "(no log)"
        lines = self.log().splitlines()[-LOG_TAIL_LINES:]
        return "\n".join(line[:500] for line in lines)

    def describe(self) -> str:
        """Return state and last words, for a failed test."""
        if self.process is None:
            state = "never started"
        else:
            code = self.process.poll()
            state = f"running as {self.pid}" if code is None else f"ended with {code}"
        return f"--- {self.name}: {state}\n{self.log_tail()}"


class Cluster:
    """All nodes of one network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.secrets = SecretsWatch(network.directory)
        self.nodes = [
            Node(entry, lambda body: self.secrets.check(body, "an answer of the API"))
            for entry in network.nodes
        ]
        self.chain_id = Digest(bytes.fromhex(network.chain_id))

    @classmethod
    def build(
        cls, directory: Path, validators: int = 4, observers: int = 1, seed: str | None = None
    ) -> Cluster:
        """Make the network on disk, on ports that are free now."""
        topology = plan(validators, observers, free_port(validators + observers))
        return cls(build_network(directory, topology, seed))

    # ------------------------------------------------------------------ nodes

    @property
    def validators(self) -> list[Node]:
        """The nodes that vote."""
        return [node for node in self.nodes if node.is_validator]

    @property
    def running(self) -> list[Node]:
        """The nodes with a process."""
        return [node for node in self.nodes if node.is_running]

    def node(self, name: str) -> Node:
        """Return a node by name."""
        return next(node for node in self.nodes if node.name == name)

    def others(self, *excluded: Node) -> list[Node]:
        """Return all nodes but some."""
        return [node for node in self.nodes if node not in excluded]

    def start(self, nodes: Iterable[Node] | None = None) -> None:
        """Start nodes, all by default, and wait until every one of them is ready."""
        chosen = list(self.nodes if nodes is None else nodes)
        for node in chosen:
            node.start()
        for node in chosen:
            node.wait_ready()

    def repair(self) -> None:
        """Bring every node up, whatever the test before has left."""
        for node in self.nodes:
            if node.is_running:
                node.signal(signal.SIGCONT)
        self.start([node for node in self.nodes if not node.is_running])
        for node in self.nodes:
            node.wait_ready()

    def stop(self) -> None:
        """End all processes; those that do not stop when asked are killed."""
        for node in self.running:
            node.signal(signal.SIGTERM)
            node.signal(signal.SIGCONT)
        for node in self.nodes:
            if node.process is None:
                continue
            try:
                node.wait_exit()
            except subprocess.TimeoutExpired:
                node.kill()

    def describe(self) -> str:
        """Return state and last log lines of all nodes, for a failed test."""
        return "\n".join(node.describe() for node in self.nodes)

    # ------------------------------------------------------------------ transactions

    def wallet(self, name: str = "alice") -> Wallet:
        """Return the wallet of a funded account."""
        account = next(item for item in self.network.accounts if item.name == name)
        return Wallet(self.chain_id, [SigningKey.from_seed(bytes.fromhex(account.private_key))])

    def address(self, name: str) -> str:
        """Return the text of a funded account's address."""
        return next(item.address for item in self.network.accounts if item.name == name)

    @property
    def asset(self) -> str:
        """The asset that the accounts hold."""
        return self.network.accounts[0].asset

    def transfer(
        self, amount: int = 1, sender: str = "alice", to: str = "bob"
    ) -> tuple[str, bytes]:
        """Return id and bytes of a new transfer."""
        signed = self.wallet(sender).transfer(self.asset, self.address(to), amount)
        return signed.id, signed.wire

    def finalize_one(self, node: Node, deadline_s: float = 10.0) -> str:
        """Submit a transfer to a node and wait until it calls it final; return the id."""
        identifier, wire = self.transfer()
        answer = node.api.submit(wire)
        assert answer.status in (200, 202), f"{answer.status} {answer.body!r}"
        self.wait_final(identifier, [node], deadline_s)
        return identifier

    def wait_final(
        self, identifier: str, nodes: Iterable[Node] | None = None, deadline_s: float = 10.0
    ) -> None:
        """Wait until all given nodes (by default those that run) call a transaction final."""
        for node in self.running if nodes is None else nodes:

            def is_final(node: Node = node) -> bool:
                status = node.api.transaction(identifier)
                assert status["status"] == "finalized", f"{node.name}: {status}"
                return True

            wait_until(f"{identifier} final on {node.name}", deadline_s, is_final)

    # ------------------------------------------------------------------ agreement

    def wait_at_head(self, node: Node, deadline_s: float = AT_HEAD_S) -> None:
        """Wait until a node is as high as the others are at this moment, within a few blocks."""

        def is_at_head() -> bool:
            best = max(other.api.height() for other in self.running if other is not node)
            height = node.api.height()
            assert height >= best - HEAD_BLOCKS, f"{height} of {best}"
            return True

        wait_until(f"{node.name} at the head", deadline_s, is_at_head)

    def wait_converged(self, deadline_s: float = CONVERGE_S) -> dict[str, Any]:
        """Wait until all running nodes stand at one block, with no work left; return its status."""

        def is_converged() -> dict[str, Any]:
            heads = [node.api.status() for node in self.running]
            places = {(head["height"], head["hash"], head["state_root"]) for head in heads}
            assert len(places) == 1, {head["name"]: head["height"] for head in heads}
            waiting = {
                node.name: node.api.get("/v1/mempool")["transactions"] for node in self.running
            }
            assert not any(waiting.values()), f"pending: {waiting}"
            return dict(heads[0])

        return wait_until("all nodes at one block", deadline_s, is_converged)

    def assert_equal_chains(self) -> int:
        """Compare block hash and roots of every height on every running node; return the height."""
        self.wait_converged()
        with ThreadPoolExecutor() as pool:
            chains = list(pool.map(lambda node: list(node.api.items("/v1/blocks")), self.running))
        last = min(len(chain) for chain in chains)
        reference = chains[0]
        for node, chain in zip(self.running, chains, strict=True):
            for height in range(last):
                found, expected = chain[height], reference[height]
                assert found == expected, f"{node.name} differs at height {height}"
        assert [block["height"] for block in reference] == list(range(len(reference)))
        return last - 1

    def assert_on_every_node(self, acknowledged: dict[str, int]) -> None:
        """Demand that each acknowledged id is final on each running node, once, at its height."""
        assert acknowledged, "nothing was acknowledged: the test shows nothing"
        last = max(acknowledged.values())
        for node in self.running:
            node.wait_height(last)
            found: dict[str, int] = {}
            for height in range(1, node.api.height() + 1):
                for identifier in node.api.block_ids(height):
                    assert identifier not in found, f"{node.name}: {identifier} is final twice"
                    found[identifier] = height
            lost = [item for item, height in acknowledged.items() if found.get(item) != height]
            assert not lost, (
                f"{node.name}: {len(lost)} of {len(acknowledged)} transactions that were answered "
                f"as final are not at their height, the first: {lost[0]}"
            )

    def check_logs(self) -> None:
        """Demand that no log contains a private key or an unexpected exception."""
        for node in self.nodes:
            if node.entry.log_path.exists():
                data = node.entry.log_path.read_bytes()
                self.secrets.check(data, f"the log of {node.name}")
                assert b"Traceback" not in data, (
                    f"{node.name} logged a traceback:\n{node.log_tail()}"
                )
