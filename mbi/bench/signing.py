"""Signs the transactions of a benchmark before its clock starts."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from ledger.crypto import SigningKey, sha256
from ledger.transaction import TRANSACTION_TAG, TRANSACTION_VERSION
from ledger.types import Digest
from mbi.bench.plan import Plan
from mbi.bench.workload import Compose, Prepared

VALID_FOR_S: Final = 120
"""From when a transaction is due: nodes remember a used nonce as long, so less of it needs less
memory. It is four times the drain, and nothing that waits longer is worth anything."""
SIGNING_S: Final = 60e-6
"""Of one transaction, rather too much: the load begins when all are signed, and when that will be
has to be guessed first. A minute too early or six too late do no harm."""
SIGN_CHUNK: Final = 250
"""Transactions signed between two turns of the event loop: some 10 ms."""

encode: Final = msgspec.msgpack.Encoder().encode


async def sign_all(
    chain_id: Digest, plan: Plan, compose: Compose, progress: Callable[[int], None]
) -> Prepared:
    """Sign the transactions of a plan, each valid from now to some time after it is due."""
    count, batch = plan.transactions, plan.request_size
    prepared = Prepared(compose, batch)
    begin_ms = time.time_ns() // 1_000_000 + int((count * SIGNING_S + VALID_FOR_S) * 1000)
    # In a closed loop nobody knows when a transaction will be due: all are valid to the end.
    due_s = iter(plan.due_s()) if plan.in_flight is None else None
    valid_until = begin_ms + int(plan.duration_s * 1000)
    first_nonce = secrets.randbits(32) << 31
    wires: list[bytes] = []
    for number in range(count):
        if due_s is not None and not wires:
            valid_until = begin_ms + int(next(due_s) * 1000)
        draft = compose(number)
        fields = (
            TRANSACTION_VERSION,
            draft.sender,
            first_nonce + number,
            valid_until,
            draft.operations,
            "",
        )
        identifier, wire = sign(chain_id, fields, draft.signers)
        wires.append(wire)
        prepared.ids.append(identifier)
        if len(wires) == batch or number == count - 1:
            prepared.bodies.append(wires[0] if batch == 1 else encode(wires))
            wires = []
        if number % SIGN_CHUNK == SIGN_CHUNK - 1:
            progress(SIGN_CHUNK)
            await asyncio.sleep(0)
    return prepared


def sign(
    chain_id: Digest, fields: tuple[Any, ...], keys: Sequence[SigningKey]
) -> tuple[Digest, bytes]:
    """Return id and bytes: ``sign_transaction`` without its checks, at a third of the cost."""
    preimage = TRANSACTION_TAG + chain_id + encode(fields)
    signatures = [(key.public_key, key.sign(preimage)) for key in keys]
    if len(signatures) > 1:
        signatures.sort()
    return sha256(preimage), encode((*fields, signatures))
