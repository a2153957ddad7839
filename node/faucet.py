"""Development funds: only on networks whose genesis says that they are for development."""

from __future__ import annotations

import secrets
from typing import Final

from ledger.address import address_of
from ledger.crypto import SigningKey
from ledger.operations.assets import Transfer
from ledger.transaction import sign_transaction
from ledger.types import Address, Amount, Digest, Nonce, TimeMs
from mbi.keyfiles import read_passphrase_file
from node.errors import HomeError
from node.home import OpenHome

VALIDITY_MS: Final = 60_000
NONCE_BITS: Final = 64


class Faucet:
    """Signs transfers from the faucet account."""

    def __init__(self, chain_id: Digest, account: Address, key: SigningKey) -> None:
        """``key`` is a key of ``account``."""
        self._chain_id = chain_id
        self._account = account
        self._key = key

    def transfer(self, to: Address, asset: str, amount: Amount, now_ms: TimeMs) -> bytes:
        """Return a signed transfer of ``amount`` minor units."""
        operation = Transfer(source=None, asset=asset, to=to, amount=amount)
        return sign_transaction(
            self._chain_id,
            self._account,
            Nonce(secrets.randbits(NONCE_BITS)),
            TimeMs(now_ms + VALIDITY_MS),
            (operation,),
            "faucet",
            (self._key,),
        )


def load_faucet(home: OpenHome) -> Faucet | None:
    """Return the faucet if the network is a development one and this node has its key.

    Raises:
        HomeError: a faucet key on another network, or one that is not the faucet's.
    """
    path = home.config.faucet_seed_file
    if path is None:
        return None
    if home.genesis.faucet is None:
        raise HomeError(
            "keys.faucet_seed_file is set, but the genesis of this network has no faucet"
        )
    text = read_passphrase_file(path).decode("ascii", errors="replace")
    try:
        key = SigningKey.from_seed(bytes.fromhex(text))
    except ValueError as error:
        raise HomeError(f"{path}: expected 64 hex digits") from error
    if address_of(key.public_key) != home.genesis.faucet:
        raise HomeError(f"{path}: this is not the key of the network's faucet account")
    return Faucet(home.chain_id, home.genesis.faucet, key)
