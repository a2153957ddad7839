"""Each operation's own rule, one test per sentence."""

from __future__ import annotations

import pytest

from ledger.errors import InvalidName, InvalidText
from ledger.events import (
    AccountRegistered,
    AssetCreated,
    Burned,
    EventBase,
    HolderAuthorised,
    KeysChanged,
    Minted,
    StatusChanged,
    Transferred,
    event_accounts,
    event_objects,
)
from ledger.operations import (
    REGISTRY,
    AuthoriseHolder,
    Burn,
    CreateAsset,
    Mint,
    Operation,
    RegisterAccount,
    SetKeys,
    SetStatus,
    Transfer,
)
from ledger.receipt import Receipt, ReceiptStatus
from ledger.records import DAY_MS, AccountStatus, AssetClass, AssetPolicy
from ledger.types import AMOUNT_MAX, Amount
from tests.unit.ledger.builders import (
    GENESIS_TIME_MS,
    MYR,
    OPEN_POLICY,
    Chain,
    address,
    key_weight,
    make_genesis,
)


def pay(to: str, amount: int, asset: str = MYR) -> Transfer:
    return Transfer(None, address(to), asset, Amount(amount))


def mint(to: str, amount: int, asset: str = MYR) -> Mint:
    return Mint(None, asset, address(to), Amount(amount))


def create(asset: str, asset_class: AssetClass = AssetClass.E_MONEY) -> CreateAsset:
    return CreateAsset(None, asset, "Name", asset_class, 2, address("issuer"), OPEN_POLICY)


def policy(
    *,
    holder_authorisation: bool = False,
    transfer_max: int | None = None,
    day_max: int | None = None,
    memo_required: bool = False,
) -> AssetPolicy:
    return AssetPolicy(
        holder_authorisation,
        None if transfer_max is None else Amount(transfer_max),
        None if day_max is None else Amount(day_max),
        memo_required,
    )


def register(name: str, organisation: str = "bank") -> RegisterAccount:
    return RegisterAccount(None, organisation, (key_weight(name),), 1, 1)


def event(receipt: Receipt) -> EventBase:
    assert receipt.status is ReceiptStatus.OK, receipt.code
    assert receipt.code == "ok"
    assert receipt.operation_index == -1
    (only,) = receipt.events
    return only


@pytest.fixture
def chain() -> Chain:
    return Chain()


def test_tags_and_names_are_unique_and_match_the_wire() -> None:
    assert len({spec.tag for spec in REGISTRY}) == len({spec.name for spec in REGISTRY})
    assert [spec.tag for spec in REGISTRY] == list(range(1, len(REGISTRY) + 1))
    assert [spec.structure.__struct_config__.tag for spec in REGISTRY] == [
        spec.tag for spec in REGISTRY
    ]


# --- register_account ---------------------------------------------------------------------------


def test_the_admin_registers_an_account_that_can_then_act(chain: Chain) -> None:
    assert event(chain.run("bank", register("dave"))) == AccountRegistered(
        address("dave"), "bank", address("bank")
    )
    account = chain.state.account(address("dave"))
    assert account is not None
    assert account.organisation == "bank"
    assert account.created_height == 1
    assert event(chain.run("alice", pay("dave", 10)))
    assert event(chain.run("dave", pay("bob", 10)))


@pytest.mark.parametrize(
    ("sender", "operation", "code"),
    [
        ("alice", register("dave"), "not_organisation_admin"),
        ("regulator", register("dave"), "not_organisation_admin"),
        ("bank", register("dave", "nobody"), "organisation_unknown"),
        ("bank", register("alice"), "account_exists"),
        ("dave", register("dave"), "account_unknown"),
    ],
)
def test_registration_is_refused(
    chain: Chain, sender: str, operation: Operation, code: str
) -> None:
    assert chain.run(sender, operation).code == code


# --- set_keys -----------------------------------------------------------------------------------


def test_rotated_keys_replace_the_old_ones_and_the_address_stays(chain: Chain) -> None:
    keys = (key_weight("alice 2"), key_weight("alice 3"))
    assert event(chain.run("alice", SetKeys(None, keys, 1, 2))) == KeysChanged(
        address("alice"), keys, 1, 2
    )
    assert chain.run("alice", pay("bob", 1)).code == "superfluous_signature"
    assert event(chain.run("alice", pay("bob", 1), signers=["alice 2"]))
    back = SetKeys(None, (key_weight("alice"),), 1, 1)
    assert chain.run("alice", back, signers=["alice 3"]).code == "insufficient_signatures"
    assert event(chain.run("alice", back, signers=["alice 2", "alice 3"]))
    assert event(chain.run("alice", pay("bob", 1)))


def test_a_new_key_cannot_sign_for_a_later_operation_of_its_transaction(chain: Chain) -> None:
    rotate = SetKeys(None, (key_weight("new"),), 1, 1)
    receipt = chain.run("alice", rotate, pay("bob", 1), signers=["alice", "new"])
    assert receipt.code == "superfluous_signature"


# --- set_status ---------------------------------------------------------------------------------


def test_a_suspended_account_neither_acts_nor_receives(chain: Chain) -> None:
    suspend = SetStatus(None, address("alice"), AccountStatus.SUSPENDED)
    assert event(chain.run("bank", suspend)) == StatusChanged(
        address("alice"), AccountStatus.SUSPENDED, address("bank")
    )
    assert chain.run("alice", pay("bob", 1)).code == "account_suspended"
    assert chain.run("bob", pay("alice", 1)).code == "account_suspended"
    assert chain.run("issuer", mint("alice", 1)).code == "account_suspended"
    joint = Transfer(address("alice"), address("bob"), MYR, Amount(1))
    assert chain.run("bob", joint, signers=["alice", "bob"]).code == "account_suspended"
    event(chain.run("bank", SetStatus(None, address("alice"), AccountStatus.ACTIVE)))
    assert event(chain.run("alice", pay("bob", 1)))


@pytest.mark.parametrize(
    ("sender", "target", "code"),
    [
        ("regulator", "alice", "not_organisation_admin"),
        ("alice", "alice", "not_organisation_admin"),
        ("bank", "nobody", "account_unknown"),
        ("bank", "bank", "admin_lockout"),
    ],
)
def test_suspension_is_refused(chain: Chain, sender: str, target: str, code: str) -> None:
    operation = SetStatus(None, address(target), AccountStatus.SUSPENDED)
    assert chain.run(sender, operation).code == code


# --- create_asset -------------------------------------------------------------------------------


def test_an_admin_creates_an_asset_of_a_licensed_class(chain: Chain) -> None:
    receipt = chain.run("bank", create("bank/USD"))
    assert event(receipt) == AssetCreated(
        "bank/USD", AssetClass.E_MONEY, address("issuer"), address("bank")
    )
    assert chain.supply("bank/USD") == 0
    assert event(chain.run("issuer", mint("alice", 5, "bank/USD")))
    assert chain.balance("alice", "bank/USD") == 5


@pytest.mark.parametrize(
    ("sender", "operation", "code"),
    [
        ("bank", create("bank/SHARE", AssetClass.SECURITY), "licence_missing"),
        ("bank", create(MYR), "asset_exists"),
        ("alice", create("bank/USD"), "not_organisation_admin"),
        ("regulator", create("bank/USD"), "not_organisation_admin"),
        ("bank", create("regulator/USD"), "not_organisation_admin"),
        ("bank", create("nobody/USD"), "organisation_unknown"),
        ("regulator", create("regulator/USD"), "licence_missing"),
        (
            "bank",
            CreateAsset(
                None, "bank/USD", "x", AssetClass.E_MONEY, 2, address("regulator"), OPEN_POLICY
            ),
            "foreign_issuer",
        ),
        (
            "bank",
            CreateAsset(None, "bank/USD", "x", AssetClass.E_MONEY, 2, address("x"), OPEN_POLICY),
            "account_unknown",
        ),
    ],
)
def test_creation_is_refused(chain: Chain, sender: str, operation: Operation, code: str) -> None:
    assert chain.run(sender, operation).code == code


@pytest.mark.parametrize("asset", ["bank/usd", "usd", "bank/", "bаnk/USD", "bank/USD "])
def test_asset_ids_are_checked_before_any_state(chain: Chain, asset: str) -> None:
    """T15: also a Cyrillic twin."""
    with pytest.raises(InvalidName):
        chain.wire("bank", create(asset))


def test_asset_names_are_safe_text(chain: Chain) -> None:
    """T15."""
    operation = CreateAsset(
        None, "bank/USD", "US\u202eD", AssetClass.E_MONEY, 2, address("issuer"), OPEN_POLICY
    )
    with pytest.raises(InvalidText):
        chain.wire("bank", operation)


# --- mint and burn ------------------------------------------------------------------------------


def test_minting_and_burning_change_the_supply(chain: Chain) -> None:
    assert event(chain.run("issuer", mint("issuer", 500))) == Minted(
        MYR, address("issuer"), address("issuer"), Amount(500)
    )
    assert chain.supply() == 3_500
    assert event(chain.run("issuer", Burn(None, MYR, Amount(200)))) == Burned(
        MYR, address("issuer"), Amount(200)
    )
    assert chain.supply() == 3_300
    assert chain.balance("issuer") == 300


@pytest.mark.parametrize(
    ("sender", "operation", "code"),
    [
        ("alice", mint("alice", 1), "not_issuer"),
        ("bank", mint("alice", 1), "not_issuer"),
        ("issuer", mint("nobody", 1), "account_unknown"),
        ("issuer", mint("alice", 1, "bank/NONE"), "asset_unknown"),
        ("issuer", mint("alice", AMOUNT_MAX - 2_999), "supply_overflow"),
        ("issuer", Burn(None, MYR, Amount(1)), "insufficient_balance"),
        ("alice", Burn(None, MYR, Amount(1)), "not_issuer"),
        ("issuer", Burn(None, "bank/NONE", Amount(1)), "asset_unknown"),
    ],
)
def test_changing_the_supply_is_refused(
    chain: Chain, sender: str, operation: Operation, code: str
) -> None:
    """T8: the supply never exceeds 2^63 - 1 and never changes except by its rule."""
    assert chain.run(sender, operation).code == code
    assert chain.supply() == 3_000


def test_the_supply_may_reach_the_largest_amount_exactly(chain: Chain) -> None:
    """T8."""
    assert event(chain.run("issuer", mint("alice", AMOUNT_MAX - 3_000)))
    assert chain.supply() == AMOUNT_MAX
    assert event(chain.run("bob", pay("alice", 1_000)))
    assert chain.run("issuer", mint("alice", 1)).code == "supply_overflow"


# --- transfer -----------------------------------------------------------------------------------


def test_a_transfer_moves_the_amount(chain: Chain) -> None:
    moved = event(chain.run("alice", pay("bob", 1_000)))
    assert moved == Transferred(MYR, address("alice"), address("bob"), Amount(1_000))
    assert (chain.balance("alice"), chain.balance("bob")) == (0, 2_000)


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        (pay("bob", 1_001), "insufficient_balance"),
        (pay("bob", AMOUNT_MAX), "insufficient_balance"),
        (pay("alice", 1), "self_transfer"),
        (pay("nobody", 1), "account_unknown"),
        (pay("bob", 1, "bank/NONE"), "asset_unknown"),
        (pay("bob", 1, "../../etc\x00"), "asset_unknown"),
    ],
)
def test_a_transfer_is_refused(chain: Chain, operation: Operation, code: str) -> None:
    assert chain.run("alice", operation).code == code
    assert (chain.balance("alice"), chain.balance("bob")) == (1_000, 1_000)


def test_a_memo_may_be_required() -> None:
    chain = Chain(make_genesis(policy=policy(memo_required=True)))
    assert chain.run("alice", pay("bob", 1)).code == "memo_required"
    assert event(chain.run("alice", pay("bob", 1), memo="invoice 1"))


def test_one_transfer_may_be_limited() -> None:
    chain = Chain(make_genesis(policy=policy(transfer_max=100)))
    assert chain.run("alice", pay("bob", 101)).code == "transfer_limit_exceeded"
    assert event(chain.run("alice", pay("bob", 100)))


def test_a_day_may_be_limited() -> None:
    """The day is the UTC day of block time; failed transfers do not count."""
    chain = Chain(make_genesis(policy=policy(day_max=100)))
    midnight = (GENESIS_TIME_MS // DAY_MS + 1) * DAY_MS
    assert event(chain.run("alice", pay("bob", 60), time_ms=midnight - 2))
    assert chain.run("alice", pay("bob", 41), time_ms=midnight - 1).code == "day_limit_exceeded"
    assert event(chain.run("alice", pay("bob", 40), time_ms=midnight - 1))
    assert event(chain.run("bob", pay("alice", 100), time_ms=midnight - 1))
    assert event(chain.run("alice", pay("bob", 100), time_ms=midnight))
    assert chain.run("alice", pay("bob", 1), time_ms=midnight + DAY_MS - 1).code == (
        "day_limit_exceeded"
    )


def test_the_limits_bind_within_one_transaction_too() -> None:
    chain = Chain(make_genesis(policy=policy(day_max=100)))
    receipt = chain.run("alice", pay("bob", 60), pay("carol", 60))
    assert (receipt.code, receipt.operation_index) == ("day_limit_exceeded", 1)
    assert chain.balance("bob") == 1_000


def test_the_issuer_is_exempt_from_limits() -> None:
    chain = Chain(make_genesis(policy=policy(transfer_max=10, day_max=10)))
    event(chain.run("issuer", mint("issuer", 50)))
    assert event(chain.run("issuer", pay("alice", 50)))


# --- authorise_holder ---------------------------------------------------------------------------


def authorise(name: str, *, allowed: bool, asset: str = MYR) -> AuthoriseHolder:
    return AuthoriseHolder(None, asset, address(name), allowed)


def test_holders_may_need_authorisation() -> None:
    chain = Chain(make_genesis(policy=policy(holder_authorisation=True)))
    event(chain.run("bank", register("dave")))
    assert chain.run("alice", pay("dave", 1)).code == "holder_not_authorised"
    assert chain.run("issuer", mint("dave", 1)).code == "holder_not_authorised"
    assert event(chain.run("issuer", authorise("dave", allowed=True))) == HolderAuthorised(
        MYR, address("dave"), is_authorised=True, issuer=address("issuer")
    )
    assert event(chain.run("alice", pay("dave", 5)))
    event(chain.run("issuer", authorise("dave", allowed=False)))
    assert chain.run("alice", pay("dave", 1)).code == "holder_not_authorised"
    assert event(chain.run("dave", pay("alice", 5))), "whoever holds the asset may give it away"
    assert event(chain.run("alice", pay("issuer", 1))), "the issuer always takes its asset back"


@pytest.mark.parametrize(
    ("sender", "operation", "code"),
    [
        ("alice", authorise("alice", allowed=True), "not_issuer"),
        ("issuer", authorise("nobody", allowed=True), "account_unknown"),
        ("issuer", authorise("alice", allowed=True, asset="bank/NONE"), "asset_unknown"),
    ],
)
def test_authorisation_is_refused(
    chain: Chain, sender: str, operation: Operation, code: str
) -> None:
    assert chain.run(sender, operation).code == code


# --- events -------------------------------------------------------------------------------------


def test_events_name_every_account_and_object_once() -> None:
    transferred = Transferred(MYR, address("alice"), address("bob"), Amount(1))
    assert event_accounts(transferred) == (address("alice"), address("bob"))
    assert event_objects(transferred) == (f"asset:{MYR}",)
    minted = Minted(MYR, address("issuer"), address("issuer"), Amount(1))
    assert event_accounts(minted) == (address("issuer"),)
    registered = AccountRegistered(address("dave"), "bank", address("bank"))
    assert event_accounts(registered) == (address("dave"), address("bank"))
    assert event_objects(registered) == ("organisation:bank",)
