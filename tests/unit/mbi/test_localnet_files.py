"""What a local network consists of on disk."""

from __future__ import annotations

import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.address import address_of, format_address
from ledger.crypto import SigningKey
from ledger.genesis import parse_genesis
from mbi.cli.node import node_key
from mbi.errors import ProcessFailed, UsageError
from mbi.keyfiles import read_key
from mbi.localnet import addition, builder
from mbi.localnet.addition import add_node
from mbi.localnet.builder import build_network, keep_or_build_network
from mbi.localnet.certificates import issue_certificate, make_authority
from mbi.localnet.identities import KeySource
from mbi.localnet.layout import NotANetwork, load_network
from mbi.localnet.topology import plan, plan_containers


@pytest.fixture(autouse=True)
def _without_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Databases are made by the node's own command; here only the files count."""
    for module in (builder, addition):
        monkeypatch.setattr(module, "initialise_databases", lambda _: None)


def test_stated_seed_gives_the_same_network_again(tmp_path: Path) -> None:
    first = build_network(tmp_path / "a", plan(4, 1), "demo")
    second = build_network(tmp_path / "b", plan(4, 1), "demo")
    other = build_network(tmp_path / "c", plan(4, 1), "other")
    assert (first.chain_id, first.accounts) == (second.chain_id, second.accounts)
    assert first.chain_id != other.chain_id


def test_without_a_seed_every_network_is_another(tmp_path: Path) -> None:
    """K4: keys come from the operating system unless a seed is stated."""
    first = build_network(tmp_path / "a", plan(1, 0), None)
    second = build_network(tmp_path / "b", plan(1, 0), None)
    keys = {account.private_key for account in (*first.accounts, *second.accounts)}
    assert len(keys) == len(first.accounts) + len(second.accounts)


def test_network_is_loaded_as_it_was_built(tmp_path: Path) -> None:
    built = build_network(tmp_path / "n", plan(4, 1), "x")
    assert load_network(tmp_path / "n") == built


def test_files_with_secrets_are_private(tmp_path: Path) -> None:
    """K2: no key of a local network can be read by other users."""
    build_network(tmp_path / "n", plan(2, 1), "x")
    secrets = [*tmp_path.rglob("*.pem"), *tmp_path.rglob("*.seed"), *tmp_path.rglob("network.json")]
    assert len(secrets) > 10
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}


def test_every_node_lists_all_others_and_shares_one_genesis(tmp_path: Path) -> None:
    network = build_network(tmp_path / "n", plan(4, 1), "x")
    for node in network.nodes:
        config = tomllib.loads((node.home_path / "config.toml").read_text())
        others = [other for other in network.nodes if other.name != node.name]
        assert config["node"]["name"] == node.name
        assert [peer["name"] for peer in config["p2p"]["peers"]] == [o.name for o in others]
        assert [peer["address"] for peer in config["p2p"]["peers"]] == [o.p2p for o in others]
    contents = {(node.home_path / "genesis.json").read_bytes() for node in network.nodes}
    assert len(contents) == 1


def test_nodes_listen_on_loopback_only(tmp_path: Path) -> None:
    """O2: nothing of a local network is reachable from another machine."""
    network = build_network(tmp_path / "n", plan(4, 1), "x")
    for node in network.nodes:
        config = tomllib.loads((node.home_path / "config.toml").read_text())
        assert config["http"]["host"] == config["p2p"]["host"] == "127.0.0.1"


def test_only_validators_hold_a_validator_key_that_genesis_names(tmp_path: Path) -> None:
    network = build_network(tmp_path / "n", plan(2, 1), "x")
    genesis = parse_genesis((tmp_path / "n" / "genesis.json").read_bytes())
    named = {member.name: member.consensus_key for member in genesis.validators}
    for node in network.nodes:
        path = node.home_path / "keys" / "validator.pem"
        if node.role == "observer":
            assert not path.exists()
        else:
            key = SigningKey.from_seed(read_key(path, None))
            assert key.public_key == named[node.name]


def test_funded_accounts_are_in_genesis_and_their_keys_fit(tmp_path: Path) -> None:
    network = build_network(tmp_path / "n", plan(4, 0), "x")
    genesis = parse_genesis((tmp_path / "n" / "genesis.json").read_bytes())
    balances = {format_address(item.account): str(item.amount) for item in genesis.balances}
    for account in network.accounts:
        key = SigningKey.from_seed(bytes.fromhex(account.private_key))
        assert format_address(address_of(key.public_key)) == account.address
        assert balances[account.address] == account.balance
        stored = read_key(network.accounts_directory / f"{account.name}.pem", None)
        assert stored.hex() == account.private_key


def test_an_account_shows_no_key_in_its_representation(tmp_path: Path) -> None:
    """K1: printing a network for debugging prints no private key."""
    network = build_network(tmp_path / "n", plan(1, 0), "x")
    assert not any(account.private_key in repr(network) for account in network.accounts)
    assert KeySource("canary").seed("x").hex() not in repr(KeySource("canary"))


def test_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    with pytest.raises(UsageError, match="is not empty"):
        build_network(tmp_path, plan(1, 0), None)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_missing_network_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotANetwork, match="mbi localnet init"):
        load_network(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": 2}', '{"version": 1}'])
def test_damaged_network_file_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / "network.json").write_text(content)
    with pytest.raises(NotANetwork):
        load_network(tmp_path)


def test_unknown_node_lists_the_known_ones(tmp_path: Path) -> None:
    network = build_network(tmp_path / "n", plan(2, 0), "x")
    with pytest.raises(UsageError, match="there are: gov-1, com-1"):
        network.node("gov-9")


def test_certificate_carries_the_node_key_and_is_issued_by_the_authority() -> None:
    source = KeySource("x")
    authority_pem = make_authority(source.seed("ca"), "test")
    node_key = source.key("node/gov-1").public_key
    certificate = x509.load_pem_x509_certificate(
        issue_certificate(source.seed("ca"), authority_pem, node_key, "gov-1")
    )
    authority = x509.load_pem_x509_certificate(authority_pem)
    certificate.verify_directly_issued_by(authority)
    key = certificate.public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert key.public_bytes_raw() == node_key
    now = datetime.now(UTC)
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca


def test_node_certificate_cannot_issue_others() -> None:
    authority = x509.load_pem_x509_certificate(make_authority(KeySource("x").seed("ca"), "test"))
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert constraints.ca
    assert constraints.path_length == 0


def test_volumes_mounted_in_an_empty_directory_do_not_count_as_content(tmp_path: Path) -> None:
    for name in ("gov-1", "com-1", "gov-7"):
        (tmp_path / "nodes" / name).mkdir(parents=True)
    network = build_network(tmp_path, plan_containers(2, 0), None)
    assert load_network(tmp_path) == network
    assert (tmp_path / "nodes" / "gov-1" / "config.toml").exists()
    assert list((tmp_path / "nodes" / "gov-7").iterdir()) == []


def test_home_in_a_container_holds_no_key_but_its_own(tmp_path: Path) -> None:
    """K2: whoever takes one validator's volume gets the keys of that validator only."""
    network = build_network(tmp_path, plan_containers(4, 1), "x")
    common = {"ca.crt", "node.crt", "node.pem"}
    own = {"validator": {"validator.pem", "reporter.pem"}, "observer": {"faucet.seed"}}
    for node in network.nodes:
        held = {path.name for path in (node.home_path / "keys").iterdir()}
        assert held == common | own[node.role]


def test_nodes_in_containers_reach_each_other_by_name(tmp_path: Path) -> None:
    network = build_network(tmp_path, plan_containers(2, 1), "x")
    config = tomllib.loads((network.node("gov-1").home_path / "config.toml").read_text())
    assert config["http"] == {"host": "0.0.0.0", "port": 26101, "allowed_hosts": ["gov-1"]}
    assert config["p2p"]["host"] == "0.0.0.0"
    assert [peer["address"] for peer in config["p2p"]["peers"]] == ["com-1:26100", "obs-1:26100"]
    assert network.node("com-1").http == "http://com-1:26101"


def test_network_that_is_there_is_kept(tmp_path: Path) -> None:
    first = keep_or_build_network(tmp_path, plan_containers(2, 1), None)
    again = keep_or_build_network(tmp_path, plan_containers(2, 1), None)
    assert again == first


def test_network_of_other_nodes_is_not_taken_for_the_wanted_one(tmp_path: Path) -> None:
    keep_or_build_network(tmp_path, plan_containers(2, 0), "x")
    with pytest.raises(UsageError, match="holds a network of gov-1, com-1, not of gov-1, com-1, g"):
        keep_or_build_network(tmp_path, plan_containers(3, 0), "x")


def test_interrupted_network_is_not_taken_for_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(builder, "initialise_databases", fail)
    with pytest.raises(OSError, match="no space"):
        keep_or_build_network(tmp_path, plan_containers(1, 0), "x")
    with pytest.raises(UsageError, match="is not empty"):
        keep_or_build_network(tmp_path, plan_containers(1, 0), "x")


def test_a_node_is_added_with_keys_of_its_own(tmp_path: Path) -> None:
    """It knows the others, they know it, and whoever loads the network finds it."""
    before = build_network(tmp_path / "n", plan(2, 1), "x")
    after, node = add_node(before, "com-9")
    assert load_network(tmp_path / "n") == after
    assert after.nodes == (*before.nodes, node)
    assert node.ports == (26130, 26131)
    added = tomllib.loads((node.home_path / "config.toml").read_text())
    assert [peer["name"] for peer in added["p2p"]["peers"]] == ["gov-1", "com-1", "obs-1"]
    own = SigningKey.from_seed(read_key(node.home_path / "keys" / "node.pem", None))
    for other in before.nodes:
        peers = tomllib.loads((other.home_path / "config.toml").read_text())["p2p"]["peers"]
        listed = {"name": "com-9", "node_id": own.public_key.hex(), "address": node.p2p}
        assert peers[-1] == listed
    certificate = x509.load_pem_x509_certificate((node.home_path / "keys/node.crt").read_bytes())
    assert node_key(node.home_path) == own.public_key
    ca = x509.load_pem_x509_certificate((tmp_path / "n" / "ca" / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(ca)
    genesis = (tmp_path / "n" / "genesis.json").read_bytes()
    assert (node.home_path / "genesis.json").read_bytes() == genesis


def test_keys_of_an_added_node_are_private_and_unpredictable(tmp_path: Path) -> None:
    """K2, K4: not derived from the network's seed, and for nobody else to read."""
    seeds = set()
    for name in ("a", "b"):
        network, node = add_node(build_network(tmp_path / name, plan(1, 0), "same"), "com-9")
        files = list((node.home_path / "keys").glob("*.pem"))
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        assert stat.S_IMODE((network.directory / "network.json").stat().st_mode) == 0o600
        seeds |= {read_key(path, None) for path in files}
    assert len(seeds) == 4


@pytest.mark.parametrize("name", ["gov-1", "obs-1", "", "Com", "a/b", "..", "x" * 33])
def test_names_of_added_nodes_are_new_and_plain(tmp_path: Path, name: str) -> None:
    network = build_network(tmp_path / "n", plan(1, 1), "x")
    with pytest.raises(UsageError):
        add_node(network, name)
    assert load_network(tmp_path / "n") == network


def test_no_node_is_added_to_nodes_on_other_machines(tmp_path: Path) -> None:
    network = build_network(tmp_path / "n", plan_containers(2, 0), "x")
    with pytest.raises(UsageError, match="machines of their own"):
        add_node(network, "com-9")


def test_a_node_whose_database_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network(tmp_path / "n", plan(1, 0), "x")
    config = (network.nodes[0].home_path / "config.toml").read_text()

    def fail(_: object) -> None:
        raise ProcessFailed("no database")

    monkeypatch.setattr(addition, "initialise_databases", fail)
    with pytest.raises(ProcessFailed):
        add_node(network, "com-9")
    assert load_network(tmp_path / "n") == network
    assert not (tmp_path / "n" / "nodes" / "com-9").exists()
    assert (network.nodes[0].home_path / "config.toml").read_text() == config
