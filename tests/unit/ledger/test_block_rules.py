"""Bodies that no state could make valid."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.block_rules import NONCE_PERIOD_MS, UsedBefore, UsedNonces, check_body
from ledger.crypto import sha256
from ledger.errors import BlockError
from ledger.genesis import DEFAULT_PARAMETERS
from ledger.operations import Transfer
from ledger.records import Parameters
from ledger.transaction import DecodedTransaction
from ledger.types import Amount, TimeMs
from tests.unit.ledger.builders import GENESIS_TIME_MS, MYR, Chain, address, make_header

CHAIN = Chain()
PAY = Transfer(None, address("bob"), MYR, Amount(1))
TIME = GENESIS_TIME_MS + 1_000
WINDOW = DEFAULT_PARAMETERS.validity_window_ms


def make(
    nonce: int, valid_until: int = TIME, *, sender: str = "alice", memo: str = ""
) -> DecodedTransaction:
    return CHAIN.transaction(sender, PAY, nonce=nonce, valid_until=valid_until, memo=memo)


def refusal(
    transactions: list[DecodedTransaction],
    *ancestors: UsedNonces,
    time_ms: int = TIME,
    parameters: Parameters = DEFAULT_PARAMETERS,
    **header_changes: object,
) -> str | None:
    header = msgspec.structs.replace(
        make_header(1, transactions, time_ms=time_ms), **header_changes
    )
    try:
        check_body(header, transactions, parameters, UsedBefore(header.time_ms, ancestors))
    except BlockError as error:
        return error.code
    return None


def test_a_matching_body_is_valid() -> None:
    assert refusal([]) is None
    assert refusal([make(1), make(2), make(1, sender="bob")]) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("transaction_count", 1),
        ("transaction_count", 3),
        ("body_bytes", 0),
        ("transactions_root", sha256(b"other")),
    ],
)
def test_the_header_describes_the_body(field: str, value: object) -> None:
    changes = {field: value}
    assert refusal([make(1), make(2)], **changes) == "body_mismatch"  # type: ignore[arg-type]


def test_the_root_covers_the_order() -> None:
    one, two = make(1), make(2)
    root = make_header(1, [one, two]).transactions_root
    assert refusal([two, one], transactions_root=root) == "body_mismatch"


def test_the_root_covers_the_signatures() -> None:
    one = CHAIN.transaction("alice", PAY, nonce=1, valid_until=TIME)
    other = CHAIN.transaction("alice", PAY, nonce=1, valid_until=TIME, signers=["bob"])
    assert one.id == other.id
    root = make_header(1, [one]).transactions_root
    assert refusal([other], transactions_root=root) == "body_mismatch"


@pytest.mark.parametrize(
    ("limits", "is_valid"),
    [
        ({"block_transactions_max": 2}, True),
        ({"block_transactions_max": 1}, False),
        ({"block_bytes_max": 400}, True),
        ({"block_bytes_max": 300}, False),
        ({"transaction_bytes_max": 200}, True),
        ({"transaction_bytes_max": 150}, False),
    ],
)
def test_the_limits_of_the_network_hold(limits: dict[str, int], is_valid: bool) -> None:
    parameters = msgspec.structs.replace(DEFAULT_PARAMETERS, **limits)
    expected = None if is_valid else "block_too_large"
    assert refusal([make(1), make(2)], parameters=parameters) == expected


@pytest.mark.parametrize(
    ("valid_until", "is_valid"),
    [(TIME - 1, False), (TIME, True), (TIME + WINDOW, True), (TIME + WINDOW + 1, False)],
)
def test_validity_is_judged_by_block_time_alone(valid_until: int, is_valid: bool) -> None:
    """R2: no clock is read, so every node gives the same answer for ever."""
    expected = None if is_valid else "outside_validity"
    assert refusal([make(1, valid_until)]) == expected


def test_a_pair_appears_once_in_a_block() -> None:
    """T6: not even with the same bytes."""
    assert refusal([make(1), make(1)]) == "nonce_used"
    assert refusal([make(1), make(1, memo="another body")]) == "nonce_used"
    assert refusal([make(1), make(1, TIME + 120_000)]) == "nonce_used"


def test_a_pair_used_by_an_ancestor_is_refused() -> None:
    """T6: final or not; the sender's nonce is used up by any body, also by one that fails."""
    final, unfinished = UsedNonces([make(1)]), UsedNonces([make(2)])
    assert refusal([make(1, memo="another body")], final, unfinished) == "nonce_used"
    assert refusal([make(2)], final, unfinished) == "nonce_used"
    assert refusal([make(3)], final, unfinished) is None
    assert refusal([make(1, sender="bob")], final, unfinished) is None


def test_a_pair_is_free_again_when_its_minute_has_passed() -> None:
    """T6: the rule is by block time, so forgetting earlier or later makes no difference."""
    minute = (TIME // NONCE_PERIOD_MS + 5) * NONCE_PERIOD_MS
    used = UsedNonces([make(1, minute + 1)])
    same_minute = minute + NONCE_PERIOD_MS - 1
    assert refusal([make(1, same_minute)], used, time_ms=same_minute) == "nonce_used"
    assert refusal([make(1, same_minute + 1)], used, time_ms=same_minute + 1) is None


@given(
    blocks=st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=4), max_size=8
    ),
    checked=st.tuples(st.integers(0, 5), st.integers(0, 12)),
    executed=st.integers(0, 8),
)
def test_nodes_that_forget_at_different_times_agree(
    blocks: list[list[tuple[int, int]]], checked: tuple[int, int], executed: int
) -> None:
    """T6: one node has executed all ancestors, another only some; the verdict is the same."""
    step = NONCE_PERIOD_MS // 2
    made = [
        [make(nonce, TIME + height * step + ahead * step) for nonce, ahead in block]
        for height, block in enumerate(blocks)
    ]
    time_ms = TimeMs(TIME + len(blocks) * step)
    everything = UsedNonces()
    partial = UsedNonces()
    unfinished = []
    for height, block in enumerate(made):
        everything.add_block(TimeMs(TIME + height * step), block)
        if height < executed:
            partial.add_block(TimeMs(TIME + height * step), block)
        else:
            unfinished.append(UsedNonces(block))
    transaction = [make(checked[0], time_ms + checked[1] * step)]
    assert refusal(transaction, everything, time_ms=time_ms) == refusal(
        transaction, partial, *unfinished, time_ms=time_ms
    )


def test_the_window_forgets_whole_minutes() -> None:
    used = UsedNonces()
    for height in range(100):
        time_ms = TimeMs(TIME + height * 30_000)
        used.add_block(time_ms, [make(height, time_ms + WINDOW)])
    assert len(used) <= 2 * (WINDOW // NONCE_PERIOD_MS + 1)
    assert make(99).pair in used
    assert make(1).pair not in used
