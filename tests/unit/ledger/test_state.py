"""The authenticated state: what is in it, what is not, and the same after a restart."""

from __future__ import annotations

import msgspec
import pytest

from ledger import state as state_module
from ledger.encoding import encode
from ledger.errors import InvariantViolation, LedgerError, ProofError
from ledger.operations import RegisterAccount, Transfer
from ledger.records import account_key, asset_key, holding_key
from ledger.state import State, StateRecord, first_records, tree_of
from ledger.state_proof import STATE_PROOF_DECODER, StateProof, verify_state_proof
from ledger.transaction import DecodedTransaction
from ledger.transition import BlockExecution, BlockOutcome
from ledger.types import Amount
from tests.unit.ledger.builders import MYR, Chain, address, key_weight, make_header


@pytest.fixture
def chain() -> Chain:
    return Chain()


def pay(chain: Chain, to: str = "bob", amount: int = 1) -> DecodedTransaction:
    return chain.transaction("alice", Transfer(None, address(to), MYR, Amount(amount)))


def register(chain: Chain, *names: str) -> list[DecodedTransaction]:
    return [
        chain.transaction("bank", RegisterAccount(None, "bank", (key_weight(name),), 1, 1))
        for name in names
    ]


def execute_unstored(chain: Chain, *transactions: DecodedTransaction) -> BlockOutcome:
    """Execute a block whose writes do not reach the reader yet."""
    execution = BlockExecution(chain.state, make_header(chain.state.height + 1, transactions), 0)
    for transaction in transactions:
        assert execution.apply(transaction).code == "ok"
    return execution.finish()


def assert_same_after_restart(chain: Chain) -> None:
    reopened = chain.reopen()
    assert reopened.root == chain.state.root
    assert reopened.history.root == chain.state.history.root


def test_keys_form_one_ascending_list_from_the_sentinel(chain: Chain) -> None:
    chain.execute(*register(chain, *(f"n{number}" for number in range(50))))
    key, seen = b"", []
    while True:
        record = chain.reader.records[key]
        seen.append(key)
        if record.next_key == b"":
            break
        assert record.next_key > key
        key = record.next_key
    assert sorted(seen) == seen
    assert len(seen) == len(chain.reader.records)
    numbers = sorted(record.index for record in chain.reader.records.values())
    assert numbers == list(range(len(seen)))


def test_new_keys_are_numbered_in_ascending_order(chain: Chain) -> None:
    """The numbers do not depend on the order in which transactions created the keys."""
    before = len(chain.reader.records)
    chain.execute(*register(chain, "n3", "n1", "n2"))
    created = sorted(account_key(address(name)) for name in ("n1", "n2", "n3"))
    assert [chain.reader.records[key].index for key in created] == [before, before + 1, before + 2]


def test_a_restart_finds_the_same_state(chain: Chain) -> None:
    assert_same_after_restart(chain)
    for height in range(1, 20):
        names = [f"n{height} {number}" for number in range(height % 4)]
        chain.execute(pay(chain), *register(chain, *names))
        assert_same_after_restart(chain)


def test_values_and_absence_are_proved(chain: Chain) -> None:
    chain.execute(*register(chain, "dave"), pay(chain))
    root = chain.state.root
    present = [account_key(address("dave")), asset_key(MYR), holding_key(address("bob"), MYR)]
    absent = [
        account_key(address("nobody")),
        holding_key(address("dave"), MYR),
        b"\x00",
        b"\xff" * 40,
        asset_key(MYR) + b"\x00",
    ]
    for key in present:
        value = verify_state_proof(root, key, chain.state.prove(key))
        assert value is not None
        assert value == chain.state.get(key)
    for key in absent:
        assert verify_state_proof(root, key, chain.state.prove(key)) is None
        assert chain.state.get(key) is None


def test_a_proof_shows_nothing_else(chain: Chain) -> None:
    chain.execute(pay(chain))
    root, other_root = chain.state.root, Chain().state.root
    bob, carol = (holding_key(address(name), MYR) for name in ("bob", "carol"))
    proof = chain.state.prove(bob)
    for changed in (
        {"value": chain.state.get(carol)},
        {"key": carol},
        {"next_key": b""},
        {"next_key": b"\xff"},
        {"index": proof.index + 1},
        {"count": proof.count + 1},
        {"path": proof.path[:-1]},
    ):
        with pytest.raises(ProofError):
            verify_state_proof(root, bob, msgspec.structs.replace(proof, **changed))
    with pytest.raises(ProofError):
        verify_state_proof(other_root, bob, proof)
    with pytest.raises(ProofError):
        verify_state_proof(root, b"", chain.state.prove(b""))


def test_presence_cannot_be_denied(chain: Chain) -> None:
    """The predecessor's leaf of another key does not prove that this key is absent."""
    keys = sorted(key for key in chain.reader.records if key)
    for key in keys:
        for other in keys:
            proof = chain.state.prove(other)
            if other == key:
                continue
            with pytest.raises(ProofError):
                verify_state_proof(chain.state.root, key, proof)


def test_every_flipped_bit_of_a_proof_is_noticed(chain: Chain) -> None:
    key = holding_key(address("bob"), MYR)
    honest = chain.state.prove(key)
    data = encode(honest)
    assert STATE_PROOF_DECODER.decode(data) == honest
    for position in range(len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        try:
            proof: StateProof = STATE_PROOF_DECODER.decode(bytes(flipped))
            value = verify_state_proof(chain.state.root, key, proof)
        except LedgerError:
            continue
        pytest.fail(f"byte {position} changed and {value!r} was proved")


def test_blocks_on_their_way_to_disk_are_answered_from_memory(chain: Chain) -> None:
    """Several blocks ahead of the reader, with new keys between keys that are new themselves."""
    twin = Chain()
    outcomes = []
    for names in (("n1", "n2"), ("n3",), ("n4", "n5", "n6")):
        transactions = [*register(chain, *names), pay(chain)]
        outcomes.append(execute_unstored(chain, *transactions))
        twin.execute(*transactions)
        assert chain.state.root == twin.state.root
    assert chain.balance("bob") == 1_003
    for name in ("n1", "n3", "n6", "nobody"):
        key = account_key(address(name))
        value = verify_state_proof(chain.state.root, key, chain.state.prove(key))
        assert (value is None) == (name == "nobody")
    assert chain.state.history_path(4, outcomes[0].height) == twin.state.history_path(
        4, outcomes[0].height
    )
    for outcome in outcomes:
        chain.reader.write(outcome)
        chain.state.stored(outcome.height)
        assert chain.balance("bob") == 1_003
    assert_same_after_restart(chain)
    assert not chain.state._pending


def test_blocks_that_are_never_stored_stop_the_node(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that forgets to report stored blocks would fill the memory without a word."""
    monkeypatch.setattr(state_module, "PENDING_BLOCKS_MAX", 2)
    execute_unstored(chain)
    execute_unstored(chain)
    with pytest.raises(InvariantViolation, match="state_pending_blocks"):
        execute_unstored(chain)


def test_new_accounts_do_not_fill_the_memory(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block brings new records and loads none: it must forget old ones all the same."""
    monkeypatch.setattr(state_module, "CACHE_RECORDS_MAX", 20)
    monkeypatch.setattr(state_module, "_CACHE_EVICTION", 2)
    for height in range(10):
        chain.execute(*register(chain, *(f"n{height}-{number}" for number in range(10))))
        assert len(chain.state._cache) <= 20
    assert_same_after_restart(chain)


def test_the_cache_is_bounded_and_forgetting_changes_nothing(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "CACHE_RECORDS_MAX", 4)
    monkeypatch.setattr(state_module, "_CACHE_EVICTION", 2)
    twin = Chain()
    for height in range(10):
        transactions = [pay(chain), *register(chain, f"n{height}")]
        chain.execute(*transactions)
        monkeypatch.setattr(state_module, "CACHE_RECORDS_MAX", 1_000)
        twin.execute(*transactions)
        monkeypatch.setattr(state_module, "CACHE_RECORDS_MAX", 4)
        for name in ("alice", "bob", "carol", "bank", "issuer", "n0"):
            chain.state.account(address(name))
    assert chain.state.root == twin.state.root
    assert len(chain.state._cache) < 20


@pytest.mark.parametrize("damage", ["gap", "duplicate"])
def test_damaged_leaf_numbers_stop_the_start(chain: Chain, damage: str) -> None:
    records = dict(chain.reader.records)
    keys = sorted(records)
    if damage == "gap":
        del records[keys[3]]
    else:
        other = records[keys[3]]
        records[keys[4]] = StateRecord(other.index, b"", b"")
    with pytest.raises(InvariantViolation, match="state_leaf_numbers"):
        State.load(chain.chain_id, chain.reader, records.items(), chain.state.history)


def test_the_order_of_stored_records_does_not_matter() -> None:
    records = first_records([(b"\x01a", b"1"), (b"\x01b", b"2"), (b"\x02", b"3")])
    assert tree_of(records).root == tree_of(reversed(records)).root
    assert tree_of(first_records([])).count == 1
