"""What peers are told, who takes what they send, and who may connect."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from consensus.inputs import Input, PeerConnected, PeerDisconnected, PeerId, Received
from consensus.types import Proposal
from ledger.block_rules import transactions_root
from ledger.operations import Transfer
from ledger.types import Amount, Digest, Epoch, Era, Signature, TimeMs, View
from ledger.votes import NULL_VALUE, Vote, VoteKind
from node import peering
from node.config import PeerEntry
from node.costs import Costs
from node.errors import FatalError
from node.mempool import Mempool
from node.metrics import Metrics
from node.peering import ERAS_TOLD_MAX, REGOSSIP_MS, REGOSSIP_TRANSACTIONS, Inbox, Peering
from p2p.config import PeerConfig
from p2p.messages import (
    BlockAnswer,
    EraMessage,
    EvidenceMessage,
    GetBlock,
    Message,
    Priority,
    TransactionBatch,
)
from p2p.peers import PeerInfo
from tests.unit.consensus.kit import genesis, validators
from tests.unit.ledger.builders import GENESIS_TIME_MS, MYR, Chain, address

MEMBERS = validators(2, 2)
VALIDATOR = PeerId(MEMBERS[1].node_key)
OBSERVER = PeerId(b"o" * 32)
OTHER = PeerId(b"x" * 32)
CHAIN_ID = Digest(b"c" * 32)
VOTE = Vote(VoteKind.NULLIFY, Era(0), Epoch(0), View(1), NULL_VALUE, 1, Signature(bytes(64)))
EVIDENCE = EvidenceMessage(VOTE, VOTE)


@dataclass
class Wire:
    """The network as calls on it."""

    gossiped: list[tuple[list[bytes], tuple[PeerId, ...]]] = field(default_factory=list)
    sent: list[tuple[PeerId | None, Message, Priority]] = field(default_factory=list)
    excluded: list[tuple[PeerId, ...]] = field(default_factory=list)
    penalties: list[tuple[PeerId, str]] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    up: list[PeerId] = field(default_factory=lambda: [VALIDATOR, OBSERVER])

    def gossip(self, wires: Sequence[bytes], *, exclude: Collection[PeerId] = ()) -> None:
        self.gossiped.append((list(wires), tuple(exclude)))

    def send(self, peer: PeerId, message: Message, *, priority: Priority) -> bool:
        self.sent.append((peer, message, priority))
        return True

    def broadcast(
        self, message: Message, *, priority: Priority, exclude: Collection[PeerId] = ()
    ) -> None:
        self.sent.append((None, message, priority))
        self.excluded.append(tuple(exclude))

    def penalise(self, peer: PeerId, reason: str, points: int) -> None:
        assert points > 0
        self.penalties.append((peer, reason))

    def update_peers(self, configs: Iterable[PeerConfig]) -> None:
        self.peers = [config.name for config in configs]

    def connected(self) -> list[PeerId]:
        return self.up

    def bind(self) -> None:
        raise OSError(98, "Address already in use")


@dataclass
class Desk:
    """A node's side of its connections, with everything around it recorded."""

    wire: Wire = field(default_factory=Wire)
    chain: Chain = field(default_factory=Chain)
    mempool: Mempool = field(default_factory=lambda: Mempool({}))
    events: list[Input] = field(default_factory=list)
    received: list[tuple[PeerId, Sequence[bytes]]] = field(default_factory=list)
    accused: list[PeerId] = field(default_factory=list)
    members: dict[bytes, str] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=Metrics)
    era: int = 0

    def __post_init__(self) -> None:
        configured = (PeerConfig("far", OTHER, "198.51.100.7", 26100),)
        home = SimpleNamespace(
            chain_id=CHAIN_ID,
            plans=(),
            network_config=lambda: SimpleNamespace(peers=configured),
            config=SimpleNamespace(p2p=SimpleNamespace(host="127.0.0.1", port=26100)),
        )
        epochs = SimpleNamespace(
            present=SimpleNamespace(era=Era(self.era)), members_ahead=lambda: self.members
        )
        inbox = Inbox(
            consensus=self.events.append,
            transactions=lambda peer, wires: self.received.append((peer, wires)),
            evidence=lambda peer, _: self.accused.append(peer),
            answer=lambda request: BlockAnswer(request.request_id, None),
            unreported=lambda: [EVIDENCE],
            validators=lambda: MEMBERS,
        )
        consensus = self.metrics.consensus
        parts: tuple[Any, ...] = (home, epochs, self.mempool, inbox)
        self.peering = Peering(*parts, metrics=consensus, costs=Costs())

    def admit(self, count: int, received_ms: int = GENESIS_TIME_MS) -> list[bytes]:
        """Let transactions wait in the mempool; return their bytes."""
        operation = Transfer(None, address("bob"), MYR, Amount(1))
        transactions = [self.chain.transaction("alice", operation) for _ in range(count)]
        for transaction in transactions:
            self.mempool.add(transaction, "bank", TimeMs(received_ms))
        return [transaction.wire for transaction in transactions]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    wire = Wire()
    monkeypatch.setattr(peering, "Network", lambda *_: wire)
    return Desk(wire)


def test_own_transactions_go_to_everyone(desk: Desk) -> None:
    desk.peering.publish([b"a"], None)
    assert desk.wire.gossiped == [([b"a"], ())]


def test_what_an_observer_sent_goes_to_everyone_else(desk: Desk) -> None:
    desk.peering.publish([b"a"], OBSERVER)
    assert desk.wire.gossiped == [([b"a"], (OBSERVER,))]


def test_what_a_validator_sent_is_not_passed_on(desk: Desk) -> None:
    """It has told every validator itself; passing on once more per link would be a storm."""
    desk.peering.publish([b"a"], VALIDATOR)
    assert desk.wire.gossiped == []


def test_evidence_goes_to_everyone_but_its_source(desk: Desk) -> None:
    desk.peering.publish_evidence(EVIDENCE, OBSERVER)
    desk.peering.publish_evidence(EVIDENCE, None)
    assert desk.wire.excluded == [(OBSERVER,), ()]


def test_only_what_waits_long_is_told_again(desk: Desk) -> None:
    """A connection may have been down when it was told first."""
    old = desk.admit(1, GENESIS_TIME_MS)
    desk.admit(1, GENESIS_TIME_MS + 1)
    desk.peering.remind(TimeMs(GENESIS_TIME_MS + REGOSSIP_MS))
    assert desk.wire.gossiped == [(old, ())]
    desk.peering.remind(TimeMs(GENESIS_TIME_MS + REGOSSIP_MS - 1))
    assert len(desk.wire.gossiped) == 1


def test_a_long_queue_is_not_told_again_whole(desk: Desk) -> None:
    desk.admit(REGOSSIP_TRANSACTIONS + 5)
    desk.peering.remind(TimeMs(GENESIS_TIME_MS + REGOSSIP_MS))
    assert [len(wires) for wires, _ in desk.wire.gossiped] == [REGOSSIP_TRANSACTIONS]


def test_a_peer_that_comes_hears_what_is_pending_and_proven(desk: Desk) -> None:
    pending = desk.admit(2)
    desk.peering.on_connected(OBSERVER, cast("PeerInfo", None))
    assert desk.events == [PeerConnected(OBSERVER)]
    assert desk.wire.gossiped == [(pending, (VALIDATOR,))]
    assert desk.wire.sent == [(OBSERVER, EVIDENCE, Priority.CONSENSUS)]
    desk.peering.on_disconnected(OBSERVER)
    assert desk.events[1:] == [PeerDisconnected(OBSERVER)]


def test_each_message_has_its_taker(desk: Desk) -> None:
    desk.peering.on_message(OBSERVER, TransactionBatch((b"w" * 100,)))
    assert desk.received == [(OBSERVER, (b"w" * 100,))]
    desk.peering.on_message(OBSERVER, GetBlock(7, CHAIN_ID))
    assert desk.wire.sent == [(OBSERVER, BlockAnswer(7, None), Priority.FETCH)]
    desk.peering.on_message(OBSERVER, EVIDENCE)
    assert desk.accused == [OBSERVER]
    desk.peering.on_message(VALIDATOR, VOTE)
    assert desk.events == [Received(VALIDATOR, VOTE)]
    assert b'mbi_consensus_votes_total{kind="nullify"} 1.0' in desk.metrics.exposition()


def test_a_proposal_with_another_payload_costs_its_sender(desk: Desk) -> None:
    """The leader signs the header only, so whoever passes it on could change the list."""
    header = msgspec.structs.replace(genesis(MEMBERS), transactions_root=transactions_root([]))
    right = Proposal(
        header.era, header.epoch, header.view, NULL_VALUE, header, b"", None, (), None, VOTE
    )
    desk.peering.on_message(OBSERVER, msgspec.structs.replace(right, payload=bytes(32)))
    assert desk.wire.penalties == [(OBSERVER, "payload_mismatch")]
    assert desk.events == []
    desk.peering.on_message(OBSERVER, right)
    assert desk.events == [Received(OBSERVER, right)]


def test_members_of_coming_sets_may_connect_and_the_configured_stay(desk: Desk) -> None:
    desk.members = {OTHER: "far by the chain", MEMBERS[0].node_key: "gov-9"}
    desk.peering.list_members()
    assert desk.wire.peers == ["far", "gov-9"]
    desk.peering.configure([PeerEntry("near", OBSERVER, "198.51.100.8", 1)])
    assert desk.wire.peers == ["near", "far by the chain", "gov-9"]


def test_an_address_in_use_is_named(desk: Desk) -> None:
    with pytest.raises(FatalError, match=r"127\.0\.0\.1:26100") as caught:
        desk.peering.bind()
    assert caught.value.cause == "address_unusable"


def test_later_eras_are_told_once_each_and_not_without_end(desk: Desk) -> None:
    """A peer may claim any era: it must neither fill the log nor the memory."""
    with capture_logs() as logs:
        for era in (1, 1, *range(2, 3 * ERAS_TOLD_MAX)):
            desk.peering.on_message(OBSERVER, EraMessage(era, CHAIN_ID))
    assert [entry["era"] for entry in logs] == list(range(1, ERAS_TOLD_MAX + 1))
    assert {entry["event"] for entry in logs} == {"plan_missing"}
