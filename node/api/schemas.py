"""JSON Schemas of the API's answers, for the OpenAPI document.

Records of the ledger are described from their own structures; what only the API shows is described
here. All are *open*: a client must ignore members it does not know, so that adding one breaks
nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledger.block import Header
from ledger.genesis import Genesis
from ledger.receipt import Receipt
from ledger.records import (
    Account,
    Asset,
    ChangeProposal,
    EvidenceRecord,
    Holding,
    Organisation,
    Parameters,
)
from ledger.transaction import Transaction
from node.api.parameters import DIGEST_SCHEMA, HEIGHT_SCHEMA, HEX_SCHEMA, TIME_SCHEMA, JsonSchema
from node.api.record_schema import record_schema

TEXT: Final[JsonSchema] = {"type": "string"}
INTEGER: Final[JsonSchema] = {"type": "integer"}
NUMBER: Final[JsonSchema] = {"type": "number"}
FLAG: Final[JsonSchema] = {"type": "boolean"}
NAMES: Final[JsonSchema] = {"type": "array", "items": TEXT}
COUNTS: Final[JsonSchema] = {"type": "object", "additionalProperties": INTEGER}
CHAMBER: Final[JsonSchema] = {"type": "string", "enum": ["government", "commercial"]}
STAGE: Final[JsonSchema] = {
    "type": "string",
    "enum": ["pending", "finalized", "failed", "rejected", "expired", "unknown"],
}


def ref(name: str) -> JsonSchema:
    """Return a reference to a schema of :data:`COMPONENTS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def optional(schema: JsonSchema) -> JsonSchema:
    """Return a schema that also allows null."""
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: JsonSchema) -> JsonSchema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def record(**properties: JsonSchema) -> JsonSchema:
    """Return the schema of an object all of whose members are always there."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def extended(schema: JsonSchema, **properties: JsonSchema) -> JsonSchema:
    """Return an object schema with more members."""
    return record(**{**schema["properties"], **properties})


def listing(name: str) -> JsonSchema:
    """Return the schema of a whole list."""
    return record(items=array(ref(name)))


def page(name: str) -> JsonSchema:
    """Return the schema of one page of a list."""
    return record(items=array(ref(name)), next_cursor=optional(TEXT), latest_height=HEIGHT_SCHEMA)


_BLOCK: Final = record(
    height=HEIGHT_SCHEMA,
    hash=DIGEST_SCHEMA,
    parent_hash=DIGEST_SCHEMA,
    time=TIME_SCHEMA,
    epoch=INTEGER,
    view=INTEGER,
    proposer=INTEGER,
    transaction_count=INTEGER,
    body_bytes=INTEGER,
    state_root=DIGEST_SCHEMA,
    history_root=DIGEST_SCHEMA,
    receipts_root=DIGEST_SCHEMA,
)
_TRANSACTION: Final = extended(
    record_schema(Transaction), id=DIGEST_SCHEMA, wire_hash=DIGEST_SCHEMA, wire=HEX_SCHEMA
)
_STATUS: Final = record(
    id=DIGEST_SCHEMA,
    status=STAGE,
    height=optional(HEIGHT_SCHEMA),
    index=optional(INTEGER),
    code=optional(TEXT),
    detail=optional(TEXT),
    receipt=optional(ref("Receipt")),
    times=record(
        received=optional(TIME_SCHEMA),
        proposed=optional(TIME_SCHEMA),
        finalized=optional(TIME_SCHEMA),
        executed=optional(TIME_SCHEMA),
    ),
)
_CERTIFICATE: Final = record(
    kind={"type": "string", "enum": ["notarize", "nullify", "finalize"]},
    era=INTEGER,
    epoch=INTEGER,
    view=INTEGER,
    parent_view=INTEGER,
    block_hash=DIGEST_SCHEMA,
    signers=array(
        record(
            index=INTEGER,
            name=TEXT,
            chamber=CHAMBER,
            consensus_key=DIGEST_SCHEMA,
            signature=HEX_SCHEMA,
        )
    ),
)
_BALANCE: Final = extended(record_schema(Holding), asset=TEXT)
_CHECK: Final = record(
    name=TEXT,
    ok=FLAG,
    value={"type": ["string", "number"]},
    limit={"type": ["string", "number"]},
    detail=TEXT,
)

COMPONENTS: Final[Mapping[str, JsonSchema]] = {
    "Problem": record(
        type=TEXT, title=TEXT, status=INTEGER, code=TEXT, detail=TEXT, request_id=TEXT
    ),
    "Health": record(status={"const": "alive"}),
    "Readiness": record(ready=FLAG, checks=array(_CHECK)),
    "Status": record(
        name=TEXT,
        role={"type": "string", "enum": ["validator", "observer"]},
        version=TEXT,
        network=TEXT,
        dev=FLAG,
        chain_id=DIGEST_SCHEMA,
        genesis_hash=DIGEST_SCHEMA,
        height=HEIGHT_SCHEMA,
        hash=DIGEST_SCHEMA,
        time=TIME_SCHEMA,
        state_root=DIGEST_SCHEMA,
        history_root=DIGEST_SCHEMA,
        finalized_height=HEIGHT_SCHEMA,
        network_height=HEIGHT_SCHEMA,
        syncing=FLAG,
        started=TIME_SCHEMA,
        now=TIME_SCHEMA,
    ),
    "Genesis": record_schema(Genesis),
    "Consensus": record(
        era=INTEGER,
        epoch=INTEGER,
        epoch_base_height=HEIGHT_SCHEMA,
        scheduled=optional(NAMES),
        view=INTEGER,
        leader=TEXT,
        active=FLAG,
        validator=optional(TEXT),
        votes={"type": "object", "additionalProperties": NAMES},
        connected=NAMES,
        missing=NAMES,
        shortfall=record(members=INTEGER, government=INTEGER, commercial=INTEGER),
        timers=NAMES,
        backoff_thousandths=INTEGER,
        finalized=record(height=HEIGHT_SCHEMA, view=INTEGER, hash=DIGEST_SCHEMA),
        executed_height=HEIGHT_SCHEMA,
        certified_view=INTEGER,
        work_pending=FLAG,
        quarantined=FLAG,
        halted=optional(TEXT),
    ),
    "Mempool": record(
        transactions=INTEGER,
        bytes=INTEGER,
        transactions_max=INTEGER,
        bytes_max=INTEGER,
        oldest_age_ms=optional(INTEGER),
        by_organisation=COUNTS,
        dropped=COUNTS,
    ),
    "Peer": record(
        name=TEXT,
        node_id=DIGEST_SCHEMA,
        connected=FLAG,
        address=TEXT,
        inbound=FLAG,
        agent=TEXT,
        height=optional(HEIGHT_SCHEMA),
        round_trip_ms=optional(NUMBER),
        connected_seconds=optional(NUMBER),
        penalty_points=NUMBER,
        banned_seconds=NUMBER,
        last_error=optional(TEXT),
        bytes_in=INTEGER,
        bytes_out=INTEGER,
        messages_in=INTEGER,
        messages_out=INTEGER,
        dropped=COUNTS,
        refused=COUNTS,
    ),
    "Statistics": record(
        height=HEIGHT_SCHEMA,
        blocks=INTEGER,
        transactions=INTEGER,
        body_bytes=INTEGER,
        span_seconds=NUMBER,
        transactions_per_second=optional(NUMBER),
        block_interval_seconds=optional(NUMBER),
    ),
    "Validator": record(
        index=INTEGER,
        name=TEXT,
        chamber=CHAMBER,
        organisation=TEXT,
        consensus_key=DIGEST_SCHEMA,
        node_key=DIGEST_SCHEMA,
        connected=FLAG,
        proposed=INTEGER,
        signed=INTEGER,
        missed=INTEGER,
    ),
    "Block": _BLOCK,
    "BlockDetail": extended(
        _BLOCK, header=extended(record_schema(Header), time=TIME_SCHEMA), has_certificate=FLAG
    ),
    "BlockTransaction": extended(_TRANSACTION, height=HEIGHT_SCHEMA, index=INTEGER, code=TEXT),
    "BlockIds": record(height=HEIGHT_SCHEMA, time_ms=INTEGER, ids=array(DIGEST_SCHEMA)),
    "BlockCertificate": record(
        height=HEIGHT_SCHEMA, certified_height=HEIGHT_SCHEMA, certificate=_CERTIFICATE
    ),
    "WireDocument": record(tx=HEX_SCHEMA),
    "WireList": array({"anyOf": [HEX_SCHEMA, ref("WireDocument")]}),
    "Receipt": record_schema(Receipt),
    "TransactionStatus": _STATUS,
    "TransactionDetail": extended(_STATUS, transaction=optional(_TRANSACTION)),
    "TransactionSummary": record(
        id=DIGEST_SCHEMA,
        status={"type": "string", "enum": ["finalized", "failed"]},
        code=TEXT,
        height=HEIGHT_SCHEMA,
        index=INTEGER,
        time=TIME_SCHEMA,
    ),
    "BatchResult": record(
        items=array(
            record(
                id=optional(DIGEST_SCHEMA),
                status={"type": "string", "enum": ["accepted", "known", "finalized", "rejected"]},
                code=optional(TEXT),
                detail=optional(TEXT),
                height=optional(HEIGHT_SCHEMA),
                retry_after=optional(INTEGER),
            )
        )
    ),
    "Simulation": record(
        height=HEIGHT_SCHEMA, ok=FLAG, receipt=ref("Receipt"), detail=optional(TEXT)
    ),
    "ProofBundle": record(id=DIGEST_SCHEMA, height=HEIGHT_SCHEMA, proof=HEX_SCHEMA),
    "Epoch": record(epoch=INTEGER, height=HEIGHT_SCHEMA, hash=DIGEST_SCHEMA),
    "SetChange": record(epoch=INTEGER, change=HEX_SCHEMA),
    "Account": extended(
        record_schema(Account), balances=array(ref("Balance")), has_more_balances=FLAG
    ),
    "Balance": _BALANCE,
    "Asset": record_schema(Asset),
    "Organisation": record_schema(Organisation),
    "Parameters": record_schema(Parameters),
    "Evidence": extended(record_schema(EvidenceRecord), height=optional(HEIGHT_SCHEMA)),
    "Proposal": extended(
        record_schema(ChangeProposal),
        created=TIME_SCHEMA,
        expires=TIME_SCHEMA,
        effective=optional(TIME_SCHEMA),
        reason=TEXT,
    ),
    "StateProof": record(
        key=HEX_SCHEMA,
        height=HEIGHT_SCHEMA,
        state_root=DIGEST_SCHEMA,
        present=FLAG,
        value=optional(HEX_SCHEMA),
        record=optional({"type": "object"}),
        proof=HEX_SCHEMA,
    ),
    "SearchHit": record(
        type={
            "type": "string",
            "enum": ["block", "transaction", "account", "asset", "organisation", "validator"],
        },
        id=TEXT,
        path=TEXT,
    ),
    "WebSocketMessage": {
        "type": "object",
        "properties": {
            "op": {
                "type": "string",
                "enum": ["subscribed", "unsubscribed", "event", "lagged", "error"],
            }
        },
        "required": ["op"],
    },
    "FaucetRequest": {
        "type": "object",
        "properties": {"address": TEXT, "amount": TEXT, "asset": TEXT},
        "required": ["address", "amount"],
    },
    "FaucetAnswer": record(id=DIGEST_SCHEMA, status={"const": "pending"}, asset=TEXT, amount=TEXT),
}
