"""The registry of operations: tag on the wire, name, structure, requirement and handler of each.

A new group of operations is a new module with its structures and ``SPECS``, an entry in
``REGISTRY`` and in the union ``Operation``; nothing else in the engine changes.
"""

from __future__ import annotations

from typing import Final

from ledger.operations import accounts, assets, governance
from ledger.operations.accounts import RegisterAccount, SetKeys, SetStatus
from ledger.operations.assets import AuthoriseHolder, Burn, CreateAsset, Mint, Transfer
from ledger.operations.base import OperationBase, OperationSpec
from ledger.operations.governance import (
    ProposeChange,
    ProveReadiness,
    ReportEvidence,
    VoteChange,
)

Operation = (
    RegisterAccount
    | SetKeys
    | SetStatus
    | CreateAsset
    | Mint
    | Burn
    | Transfer
    | AuthoriseHolder
    | ProposeChange
    | VoteChange
    | ProveReadiness
    | ReportEvidence
)

REGISTRY: Final[tuple[OperationSpec, ...]] = (*accounts.SPECS, *assets.SPECS, *governance.SPECS)

SPEC_OF: Final[dict[type[OperationBase], OperationSpec]] = {
    spec.structure: spec for spec in REGISTRY
}
SPEC_BY_NAME: Final[dict[str, OperationSpec]] = {spec.name: spec for spec in REGISTRY}

__all__ = [
    "REGISTRY",
    "SPEC_BY_NAME",
    "SPEC_OF",
    "AuthoriseHolder",
    "Burn",
    "CreateAsset",
    "Mint",
    "Operation",
    "OperationBase",
    "OperationSpec",
    "ProposeChange",
    "ProveReadiness",
    "RegisterAccount",
    "ReportEvidence",
    "SetKeys",
    "SetStatus",
    "Transfer",
    "VoteChange",
]
