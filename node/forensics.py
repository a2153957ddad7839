"""Keeps the evidence when consensus halts: a file an auditor can read without this software."""

from __future__ import annotations

import json
import os
from pathlib import Path

from consensus.effects import Halt
from consensus.types import Certificate
from node.clock import now_ms


def write_bundle(home: Path, halt: Halt) -> Path:
    """Write reason and certificates to a new file in ``home`` and return its path."""
    path = home / f"halt-{now_ms()}.json"
    bundle = {
        "reason": halt.reason,
        "certificates": [_certificate_json(certificate) for certificate in halt.certificates],
    }
    with path.open("x", encoding="utf-8") as file:
        json.dump(bundle, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    return path


def _certificate_json(certificate: Certificate) -> dict[str, object]:
    return {
        "kind": certificate.kind.name.lower(),
        "era": certificate.era,
        "epoch": certificate.epoch,
        "view": certificate.view,
        "parent_view": certificate.value.parent_view,
        "block_hash": certificate.value.block_hash.hex(),
        "bitmap": certificate.bitmap.hex(),
        "signatures": certificate.signatures.hex(),
    }
