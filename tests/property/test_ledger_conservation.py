"""The ledger against a model of a few dozen lines: balances, supply and outcomes agree, always.

The machine sends transactions, good and bad, alone and several to a block, restarts the node, and
replays finished blocks into a second ledger. After every step the supply equals the sum of
balances.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.operations import Burn, Mint, Operation, Transfer
from ledger.records import Holding
from ledger.state import State
from ledger.transaction import DecodedTransaction
from ledger.types import AMOUNT_MAX, Amount
from tests.unit.ledger.builders import MYR, Chain, address

HOLDERS = ["alice", "bob", "carol", "issuer"]
NAMES = [*HOLDERS, "nobody"]

names = st.sampled_from(NAMES)
amounts = st.one_of(st.integers(1, 1_500), st.sampled_from([AMOUNT_MAX, AMOUNT_MAX - 3_000]))


@dataclass
class Model:
    """What the rules say about one asset, in the plainest form."""

    balances: dict[str, int] = field(
        default_factory=lambda: {"alice": 1_000, "bob": 1_000, "carol": 1_000, "issuer": 0}
    )

    def transfer(self, source: str, to: str, amount: int) -> str:
        if to == source:
            return "self_transfer"
        if to not in self.balances:
            return "account_unknown"
        if self.balances[source] < amount:
            return "insufficient_balance"
        self.balances[source] -= amount
        self.balances[to] += amount
        return "ok"

    def mint(self, sender: str, to: str, amount: int) -> str:
        if sender != "issuer":
            return "not_issuer"
        if sum(self.balances.values()) + amount > AMOUNT_MAX:
            return "supply_overflow"
        if to not in self.balances:
            return "account_unknown"
        self.balances[to] += amount
        return "ok"

    def burn(self, sender: str, amount: int) -> str:
        if sender != "issuer":
            return "not_issuer"
        if self.balances["issuer"] < amount:
            return "insufficient_balance"
        self.balances["issuer"] -= amount
        return "ok"

    def apply(self, sender: str, operations: list[tuple[str, str, int]]) -> str:
        """Apply all operations or none; return the code of the first that is refused."""
        if sender not in self.balances:
            return "account_unknown"
        before = dict(self.balances)
        for kind, to, amount in operations:
            if kind == "transfer":
                code = self.transfer(sender, to, amount)
            elif kind == "mint":
                code = self.mint(sender, to, amount)
            else:
                code = self.burn(sender, amount)
            if code != "ok":
                self.balances = before
                return code
        return "ok"


def make(kind: str, to: str, amount: int) -> Operation:
    if kind == "transfer":
        return Transfer(None, address(to), MYR, Amount(amount))
    if kind == "mint":
        return Mint(None, MYR, address(to), Amount(amount))
    return Burn(None, MYR, Amount(amount))


plans = st.tuples(
    names,
    st.lists(
        st.tuples(st.sampled_from(["transfer", "transfer", "mint", "burn"]), names, amounts),
        min_size=1,
        max_size=4,
    ),
)


class Conservation(RuleBasedStateMachine):
    """T8, C12: the supply changes only by mint and burn, failed transactions change nothing."""

    @initialize()
    def start(self) -> None:
        self.chain = Chain()
        self.model = Model()
        self.blocks: list[list[DecodedTransaction]] = []

    @rule(block=st.lists(plans, max_size=5))
    def execute(self, block: list[tuple[str, list[tuple[str, str, int]]]]) -> None:
        transactions = []
        expected = []
        for sender, operations in block:
            made = [make(*operation) for operation in operations]
            transactions.append(self.chain.transaction(sender, *made))
            expected.append(self.model.apply(sender, operations))
        outcome = self.chain.execute(*transactions)
        assert [receipt.code for receipt in outcome.receipts] == expected
        self.blocks.append(transactions)

    @rule()
    def restart(self) -> None:
        reopened = self.chain.reopen()
        assert reopened.root == self.chain.state.root
        self.chain.state = reopened

    @rule()
    def replay(self) -> None:
        other = Chain()
        for block in self.blocks:
            other.execute(*block)
        assert other.state.root == self.chain.state.root
        assert other.state.history.root == self.chain.state.history.root

    @invariant()
    def the_balances_are_those_of_the_model(self) -> None:
        if not hasattr(self, "chain"):
            return
        for name, amount in self.model.balances.items():
            assert self.chain.balance(name) == amount
        assert self.chain.balance("nobody") == 0

    @invariant()
    def the_supply_is_the_sum_of_all_holdings(self) -> None:
        if not hasattr(self, "chain"):
            return
        assert self.chain.supply() == total(self.chain.state, self.chain.reader.records)
        assert self.chain.supply() == sum(self.model.balances.values()) <= AMOUNT_MAX


def total(state: State, keys: Iterable[bytes]) -> int:
    """Add up every holding in the state, found by its key."""
    records = (state.record(key) for key in keys if key)
    return sum(record.amount for record in records if isinstance(record, Holding))


TestConservation = Conservation.TestCase
