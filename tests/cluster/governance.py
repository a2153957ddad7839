"""Organisations of a network of real nodes that decide together: propose, vote, wait, compare."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from ledger.crypto import SigningKey
from ledger.operations import Operation
from ledger.operations.governance import ProposeChange, VoteChange, sign_readiness
from ledger.records import (
    AddValidator,
    Change,
    RemoveValidator,
    RotateKey,
)
from ledger.types import ProposalId, PublicKey, TimeMs
from ledger.validators import Chamber, Validator
from mbi.keyfiles import read_key, write_key
from mbi.localnet.genesis import admin_label
from mbi.localnet.identities import KeySource
from mbi.wallet import Wallet
from tests.cluster.cluster import Cluster, Node
from tests.cluster.waiting import wait_until

READINESS_S: Final = 600
"""How long a node's word counts here."""
FINAL_S: Final = 10
EPOCH_S: Final = 15.0
"""From an approval to the epoch it leads to: a second of notice and a few blocks."""


class Government:
    """The organisations of a network that was built from a seed, one per first validator."""

    def __init__(self, cluster: Cluster, seed: str) -> None:
        self._cluster = cluster
        self._source = KeySource(seed)
        self.organisations = [node.name for node in cluster.validators]

    def send(self, organisation: str, operation: Operation, through: Node | None = None) -> Any:
        """Submit an operation of an organisation's admin; return the final status document."""
        node = self._cluster.running[0] if through is None else through
        signed = self._admin(organisation).sign([operation])
        answer = node.api.submit(signed.wire, f"?wait=finalized&timeout={FINAL_S}")
        assert answer.status in (200, 202), f"{answer.status} {answer.body!r}"
        assert answer.document["status"] in ("finalized", "failed"), answer.document
        return answer.document

    def simulate(self, organisation: str, operation: Operation) -> Any:
        """Return what a node says that an operation would do."""
        signed = self._admin(organisation).sign([operation])
        api = self._cluster.running[0].api
        kind = "application/msgpack"
        answer = api.request("POST", "/v1/transactions/simulate", signed.wire, Content_Type=kind)
        return answer.document

    def _admin(self, organisation: str) -> Wallet:
        return Wallet(self._cluster.chain_id, [self._source.key(admin_label(organisation))])

    # ------------------------------------------------------------------ changes

    def propose(self, change: Change, by: str | None = None) -> int:
        """Propose a change; return its number."""
        document = self.send(by or self.organisations[0], ProposeChange(None, change))
        assert document["status"] == "finalized", document
        return int(document["receipt"]["events"][0]["proposal"])

    def carry(self, change: Change) -> int:
        """Propose a change and vote for it until it is approved; return its number."""
        number = self.propose(change)
        status = "open"
        for organisation in self.organisations[1:]:
            if status == "open":
                vote = VoteChange(None, ProposalId(number), approve=True)
                document = self.send(organisation, vote)
                assert document["status"] == "finalized", document
                status = document["receipt"]["events"][0]["status"]
        assert status == "approved", f"proposal {number} is {status}"
        return number

    def prove_ready(self, validator: Validator, key: SigningKey) -> None:
        """Post the word of a joining validator that it is ready."""
        expires_ms = TimeMs(time.time_ns() // 1_000_000 + READINESS_S * 1_000)
        word = sign_readiness(self._cluster.chain_id, validator, expires_ms, key)
        document = self.send(validator.organisation, word)
        assert document["status"] == "finalized", document

    def proposal(self, number: int) -> Any:
        """Return a proposal as the nodes show it."""
        return self._cluster.running[0].api.get(f"/v1/governance/proposals/{number}")

    # ------------------------------------------------------------------ members

    def joiner(self, node: Node, organisation: str, key: SigningKey) -> Validator:
        """Return what an observer is as a validator of an organisation."""
        node_key = SigningKey.from_seed(read_key(node.home / "keys" / "node.pem", None))
        chamber = Chamber.GOVERNMENT if organisation.startswith("gov") else Chamber.COMMERCIAL
        return Validator(node.name, organisation, chamber, key.public_key, node_key.public_key)

    def admit(self, node: Node, organisation: str) -> Validator:
        """Make a running observer a validator: give it a key, let it prove itself, vote."""
        label = f"validator/{node.name}"
        key = self._source.key(label)
        path = node.home / "keys" / "validator.pem"
        if not path.exists():
            write_key(path, self._source.seed(label), None)
        member = self.joiner(node, organisation, key)
        self.prove_ready(member, key)
        self.carry(AddValidator(member))
        return member

    def rotate(self, node: Node) -> PublicKey:
        """Give a running validator another consensus key; return the new one."""
        member = members(node)[node.name]
        label = f"validator/{node.name}/next"
        key = self._source.key(label)
        write_key(node.home / "keys" / "validator-next.pem", self._source.seed(label), None)
        old_key = PublicKey(bytes.fromhex(member["consensus_key"]))
        node_key = PublicKey(bytes.fromhex(member["node_key"]))
        chamber = Chamber[member["chamber"].upper()]
        after = Validator(member["name"], member["organisation"], chamber, key.public_key, node_key)
        self.prove_ready(after, key)
        self.carry(RotateKey(old_key, key.public_key, node_key))
        return key.public_key

    def dismiss(self, name: str) -> int:
        """Vote a validator out of the set; return the number of the proposal."""
        member = members(self._cluster.running[0])[name]
        return self.carry(RemoveValidator(PublicKey(bytes.fromhex(member["consensus_key"]))))

    def grow_to(self, joiners: Iterable[tuple[str, str]]) -> None:
        """Admit observers, each for an organisation, that are not validators yet."""
        present = sorted(members(self._cluster.running[0]))
        for name, organisation in joiners:
            if name not in present:
                self.admit(self._cluster.node(name), organisation)
                present.append(name)
                wait_members(self._cluster.running, present)

    def shrink_to(self, names: Iterable[str]) -> None:
        """Dismiss every validator but these."""
        wanted = set(names)
        present = sorted(members(self._cluster.running[0]))
        for name in [name for name in present if name not in wanted]:
            self.dismiss(name)
            present.remove(name)
            wait_members(self._cluster.running, present)


def members(node: Node) -> dict[str, dict[str, Any]]:
    """Return the validators of the present epoch by name."""
    return {item["name"]: item for item in node.api.items("/v1/validators")}


def consensus_key(node: Node, name: str) -> str:
    """Return the key with which a validator votes in the present epoch, as a node sees it."""
    return str(members(node)[name]["consensus_key"])


def epoch(node: Node) -> int:
    """Return the epoch that a node is in."""
    return int(node.api.get("/v1/consensus")["epoch"])


def wait_members(nodes: Iterable[Node], names: Iterable[str], deadline_s: float = EPOCH_S) -> None:
    """Wait until all nodes are in an epoch with exactly these validators."""
    wanted = sorted(names)
    for node in nodes:

        def has_members(node: Node = node) -> bool:
            found = sorted(members(node))
            assert found == wanted, found
            return True

        wait_until(f"{node.name} counts votes of {', '.join(wanted)}", deadline_s, has_members)
