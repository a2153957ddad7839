"""What a signature check costs on this machine at this moment, with nothing else of ours running.

A virtual machine shares its host: the same check was seen to cost 55 and 105 us within minutes.
Figures of two runs can be compared only as far as this one is the same.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Final

from ledger.crypto import SigningKey, verify_many

ROUNDS: Final = 9
SIGNATURES: Final = 40
"""Of a round: 2 ms, short enough that most rounds are not interrupted."""
MESSAGE_BYTES: Final = 150
"""About the size of a transfer."""


def signature_us() -> float:
    """Return the processor time of one check in microseconds: the median of some rounds."""
    key = SigningKey.from_seed(bytes(32))
    message = bytes(MESSAGE_BYTES)
    items = [(key.public_key, message, key.sign(message))] * SIGNATURES
    found = []
    for _ in range(ROUNDS):
        started_s = time.thread_time()
        verify_many(items)
        found.append((time.thread_time() - started_s) / SIGNATURES)
    return round(median(found) * 1e6, 1)
