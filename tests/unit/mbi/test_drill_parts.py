"""The parts of a drill that need no engine: choice, sides, rules, timeline, load, containers."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.crypto import SigningKey
from ledger.transaction import decode_transaction
from ledger.types import Digest
from mbi.drill import impair, project, relay
from mbi.drill.faults import halves
from mbi.drill.helpers import cut_script, program
from mbi.drill.load import Load, Payer, payers_of
from mbi.drill.plan import DRILLS, choose
from mbi.drill.project import container_of, is_node
from mbi.drill.watch import DrillNode, Timeline, Watch
from mbi.errors import OperationFailed, UsageError
from mbi.wallet import Wallet
from tests.unit.mbi.fake_node import CHAIN_ID, FakeNode, serving
from tests.unit.waiting import DEADLINE_S, until

ADDRESS = "mbi1svwayl0l3lj6nkr4rzuyvg2pmcta4cez9260vs"
CHAIN = Digest(bytes.fromhex(CHAIN_ID))


def names(chosen: tuple[Any, ...]) -> list[str]:
    return [drill.name for drill in chosen]


def test_drills_are_chosen_by_name_in_the_order_given() -> None:
    assert names(choose(["pause", "delay"], is_all=False, is_short=False)) == ["pause", "delay"]


def test_short_set_is_part_of_all() -> None:
    short = names(choose([], is_all=False, is_short=True))
    assert short == ["kill-leader", "partition-2-2", "loss", "stop-all"]
    assert set(short) < set(names(choose([], is_all=True, is_short=False)))


@pytest.mark.parametrize(
    ("chosen", "is_all", "is_short"),
    [([], False, False), (["pause"], True, False), ([], True, True), (["pauze"], False, False)],
)
def test_unclear_choice_is_refused_with_what_there_is(
    chosen: list[str], is_all: bool, is_short: bool
) -> None:
    with pytest.raises(UsageError, match=r"names, --all or --short|kill-leader"):
        choose(chosen, is_all=is_all, is_short=is_short)


def test_names_are_unique_and_every_drill_has_limits() -> None:
    assert len({drill.name for drill in DRILLS}) == len(DRILLS)
    assert all(0 < drill.limits.block_s <= drill.limits.agree_s for drill in DRILLS)


def test_killed_leader_is_replaced_within_five_seconds() -> None:
    (drill,) = choose(["kill-leader"], is_all=False, is_short=False)
    assert drill.limits.gap_s == 5.0


# ------------------------------------------------------------------ network


def node(name: str, chamber: str = "", url: str = "") -> DrillNode:
    return DrillNode(name, url, bool(chamber), chamber)


def test_halves_have_half_of_each_chamber_and_no_quorum() -> None:
    nodes = [node("com-1", "c"), node("com-2", "c"), node("gov-1", "g"), node("gov-2", "g")]
    first, second = halves([*nodes, node("obs-1")])
    assert (first, second) == (["com-1", "gov-1", "obs-1"], ["com-2", "gov-2"])


@pytest.mark.parametrize("count", [4, 5, 6, 7, 10])
def test_no_half_of_any_network_has_more_than_two_thirds(count: int) -> None:
    nodes = [node(f"v{number}", "cg"[number % 2]) for number in range(count)]
    sides = halves(nodes)
    assert sorted([*sides[0], *sides[1]]) == sorted(item.name for item in nodes)
    assert all(3 * len(side) <= 2 * count for side in sides)


def test_cut_drops_both_directions_of_every_foreign_address_at_once() -> None:
    script = cut_script(["10.0.0.2", "10.0.0.3"])
    text = script.split("'")[1]
    rules = text.replace("\\n", "\n").splitlines()
    assert [rule for rule in rules if rule.endswith("DROP")] == [
        "-A MBI-DRILL-CUT -s 10.0.0.2 -j DROP",
        "-A MBI-DRILL-CUT -s 10.0.0.3 -j DROP",
        "-A MBI-DRILL-CUT -d 10.0.0.2 -j DROP",
        "-A MBI-DRILL-CUT -d 10.0.0.3 -j DROP",
    ]
    assert rules[-1] == "COMMIT"
    assert {"-A INPUT -j MBI-DRILL-CUT", "-A OUTPUT -j MBI-DRILL-CUT"} < set(rules)


@pytest.mark.parametrize("name", ["relay", "impair"])
def test_program_for_a_helper_needs_nothing_of_this_project(name: str) -> None:
    text = program(name)
    compile(text, name, "exec")
    assert "import mbi" not in text
    assert "from mbi" not in text


def packet_message(number: int) -> bytes:
    """Return what the kernel sends for a queued packet: another attribute, then the header."""
    mark = impair.attribute(3, struct.pack(">I", 7))
    header = impair.attribute(impair.ATTR_PACKET_HEADER, struct.pack(">IHB", number, 0x0800, 3))
    return impair.message(impair.MSG_PACKET, 0, 0, mark + header)


def test_queued_packets_are_found_in_a_datagram_of_several_messages() -> None:
    assert impair.packet_numbers(packet_message(5) + packet_message(70_000)) == [5, 70_000]


def test_other_messages_and_rubbish_announce_no_packet() -> None:
    assert impair.packet_numbers(impair.verdict(5, impair.ACCEPT)) == []
    assert impair.packet_numbers(b"\0" * 40) == []
    assert impair.packet_numbers(packet_message(5)[:10]) == []


def test_verdict_names_packet_and_decision() -> None:
    assert struct.unpack(">II", impair.verdict(9, impair.DROP)[-8:]) == (impair.DROP, 9)


# ------------------------------------------------------------------ containers


def inspected(**changes: Any) -> dict[str, Any]:
    """Return what the engine says about a node's container, as far as drills read it."""
    config = {
        "Image": "mbi-node:1",
        "User": "10001:10001",
        "Cmd": ["node", "start", "--home", "/var/lib/mbi"],
        "Labels": {
            "org.opencontainers.image.title": "mbi-node",
            "com.docker.compose.service": "obs-1",
            "com.docker.compose.oneoff": "False",
        },
    }
    return {
        "Id": "abc",
        "Config": {**config, **changes},
        "State": {"Running": True},
        "NetworkSettings": {
            "Ports": {"26100/tcp": None, "26101/tcp": [{"HostIp": "127.0.0.1", "HostPort": "5"}]},
            "Networks": {"p_nodes": {"IPAddress": "10.0.0.5"}},
        },
    }


def test_container_of_a_node_is_read() -> None:
    found = container_of(inspected())
    assert (found.service, found.image, found.published) == ("obs-1", "mbi-node:1", 5)
    assert found.user == "10001:10001"
    assert found.addresses == {"p_nodes": "10.0.0.5"}


async def test_network_file_beside_the_compose_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_containers(*_: str) -> str:
        return ""

    monkeypatch.setattr(project, "docker", no_containers)
    laid_out = project.Project("p", (), tmp_path, {})
    with pytest.raises(UsageError, match=r"has network\.json"):
        await laid_out.network_file()
    (tmp_path / "network.json").write_text('{"chain_id": "aa"}')
    assert await laid_out.network_file() == {"chain_id": "aa"}


def test_only_what_runs_a_node_for_good_is_a_node() -> None:
    assert is_node(inspected())
    assert not is_node(inspected(Cmd=["localnet", "init", "/network"]))
    assert not is_node(inspected(Cmd=None))
    assert not is_node(inspected(Labels={"org.opencontainers.image.title": "prometheus"}))
    one_off = {**inspected()["Config"]["Labels"], "com.docker.compose.oneoff": "True"}
    assert not is_node(inspected(Labels=one_off))


# ------------------------------------------------------------------ timeline


def test_timeline_knows_tip_lowest_and_the_longest_gap() -> None:
    seen = Timeline(10, heights={"a": 9, "b": 9})
    assert (seen.tip, seen.lowest) == (9, 9)
    seen.note("a", 10, ["t1"], 1.0)
    seen.note("b", 10, ["t1"], 1.5)
    seen.note("a", 11, [], 4.0)
    assert (seen.tip, seen.lowest) == (11, 10)
    assert seen.all_have_s(10) == 1.5
    assert seen.longest_gap_s(0.5, 4.5) == 3.0
    assert seen.longest_gap_s(4.0, 9.0) == 5.0
    assert seen.blocks_between("a", 0.0, 9.0) == 2
    assert seen.blocks_between("b", 2.0, 9.0) == 0
    assert seen.contradictions == []


def test_transaction_at_two_heights_is_a_contradiction() -> None:
    seen = Timeline(10, heights={"a": 9, "b": 9})
    seen.note("a", 10, ["t1"], 1.0)
    seen.note("b", 11, ["t1"], 1.5)
    (reason,) = seen.contradictions
    assert reason.startswith("b has transaction t1 at height 11")


async def running(work: Any, condition: Callable[[], bool]) -> None:
    """Run something endless until a condition holds."""
    task = asyncio.create_task(work)
    try:
        await until(condition)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_watch_reads_every_block_of_every_node_as_it_comes() -> None:
    blocks = {5: [b"\1" * 32], 6: []}
    async with serving(FakeNode(blocks=blocks)) as one, serving(FakeNode(blocks={5: []})) as two:
        watch = Watch([node("a", "g", one.url), node("b", "c", two.url)], 5)
        seen = watch.timeline
        await running(watch.run(), lambda: (seen.tip, seen.lowest) == (6, 5))
    assert seen.final == {"01" * 32: 5}


async def test_waiting_for_what_does_not_come_says_so() -> None:
    watch = Watch([node("a", "g", "http://127.0.0.1:1")], 5)
    with pytest.raises(OperationFailed, match=r"a block: not within 0\.05 s"):
        await watch.until("a block", 0.05, lambda seen: seen.tip > 4)


# ------------------------------------------------------------------ load


def payer() -> Payer:
    return Payer(Wallet(CHAIN, [SigningKey.from_seed(b"\5" * 32)]), "issuer/MYR", ADDRESS)


async def test_load_goes_to_all_nodes_and_remembers_what_they_took() -> None:
    async with serving(FakeNode()) as one, serving(FakeNode()) as two:
        load = Load([node("a", "g", one.url), node("b", "c", two.url)], [payer()], 200)
        await running(load.run(), lambda: one.batches >= 2 and two.batches >= 2)
        await load.settled()
    posted = {decode_transaction(CHAIN, wire).id.hex() for wire in one.submitted + two.submitted}
    assert load.sent.acknowledged.keys() == posted
    assert (load.sent.unanswered, load.sent.refused) == (0, set())


async def test_request_without_an_answer_goes_to_the_next_node() -> None:
    async with serving(FakeNode()) as alive:
        gone = node("a", "g", "http://127.0.0.1:1")
        load = Load([gone, node("b", "c", alive.url)], [payer()], 200)
        await running(load.run(), lambda: alive.batches >= 4)
        await load.settled()
    assert len(load.sent.acknowledged) == len(alive.submitted)
    assert load.sent.unanswered == 0


async def test_transactions_that_no_node_answers_are_counted_and_not_acknowledged() -> None:
    load = Load([node("a", "g", "http://127.0.0.1:1")], [payer()], 200)
    await running(load.run(), lambda: load.sent.unanswered >= 20)
    await load.settled()
    assert not load.sent.acknowledged


async def test_missing_transactions_are_sent_again_with_the_same_bytes() -> None:
    async with serving(FakeNode()) as alive:
        load = Load([node("a", "g", alive.url)], [payer()], 50)
        load.sent.acknowledged = {f"t{n}": bytes([n]) * 40 for n in range(7)}
        await load.send_again(["t0", "t6"])
    assert alive.submitted == [b"\0" * 40, b"\6" * 40]


def account(name: str, balance: str, asset: str = "issuer/MYR") -> dict[str, str]:
    seed = {"alice": "01", "bob": "02"}[name] * 32
    return {"address": ADDRESS, "asset": asset, "balance": balance, "private_key": seed}


def test_two_funded_accounts_pay_each_other() -> None:
    accounts = [account("alice", "0"), account("alice", "5"), account("bob", "5")]
    first, second = payers_of({"chain_id": CHAIN_ID, "accounts": accounts})
    assert first.wallet.sender != second.wallet.sender
    assert first.asset == "issuer/MYR"


def test_network_without_funded_accounts_is_refused() -> None:
    with pytest.raises(UsageError, match="two funded accounts"):
        payers_of({"chain_id": CHAIN_ID, "accounts": [account("alice", "5")]})
    mixed = [account("alice", "5"), account("bob", "5", "issuer/USD")]
    with pytest.raises(UsageError, match="two funded accounts"):
        payers_of({"chain_id": CHAIN_ID, "accounts": mixed})


# ------------------------------------------------------------------ relay


async def test_relay_passes_bytes_both_ways_and_closes_where_no_node_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(FakeNode(height=42)) as alive:
        monkeypatch.setattr(relay, "NODE_PORT", int(alive.url.rpartition(":")[2]))
        server = await relay.serve(0, "127.0.0.1")
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /v1/status HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            assert b'"height": 42' in await reader.read()
            writer.close()
            monkeypatch.setattr(relay, "NODE_PORT", 1)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b""
            writer.close()
        server.close()
