"""The JSON form of what the API shows of blocks, transactions, validators and peers.

Ledger values have their own JSON form (``ledger.json``); here it is completed with what belongs to
a running node. Times are RFC 3339 in UTC with milliseconds, hashes lower-case hex, amounts and
nonces decimal strings, heights and sizes integers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ledger.json import receipt_json, to_json, transaction_to_json
from ledger.transaction import decode_transaction
from ledger.validators import members_of

if TYPE_CHECKING:
    from consensus.status import EngineStatus
    from consensus.types import Certificate
    from ledger.block import Header
    from ledger.records import ValidatorsRecord
    from ledger.types import Digest
    from ledger.validators import ValidatorSet
    from node.api.ports import Check, Participation, StageTimes, TransactionStatus
    from p2p.peers import PeerInfo
    from storage.chain_store import ExecutedBlock

MS_PER_S: Final = 1000
TIME_TEXT_MS_MAX: Final = 253_402_300_799_999
"""The last millisecond that RFC 3339 can write; a later time is shown as this one."""


def time_text(time_ms: int) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    seconds, milliseconds = divmod(min(time_ms, TIME_TEXT_MS_MAX), MS_PER_S)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def optional_time(time_ms: int | None) -> str | None:
    """Return a time, or None if it is not known."""
    return None if time_ms is None else time_text(time_ms)


def executed_json(executed: ExecutedBlock) -> dict[str, Any]:
    """Return the summary of an executed block, as lists and streams show it."""
    header = executed.header
    return {
        "height": header.height,
        "hash": executed.block_hash.hex(),
        "parent_hash": header.parent_hash.hex(),
        "time": time_text(header.time_ms),
        "epoch": header.epoch,
        "view": header.view,
        "proposer": header.proposer,
        "transaction_count": header.transaction_count,
        "body_bytes": header.body_bytes,
        "state_root": executed.state_root.hex(),
        "history_root": executed.history_root.hex(),
        "receipts_root": executed.receipts_root.hex(),
    }


def header_json(header: Header) -> dict[str, Any]:
    """Return every field of a header: what the votes for the block commit to."""
    return {**to_json(header), "time": time_text(header.time_ms)}


def certificate_json(certificate: Certificate, validators: ValidatorSet) -> dict[str, Any]:
    """Return a certificate with the names of its signers, in the order of the signatures."""
    mask = int.from_bytes(certificate.bitmap, "little")
    signatures = certificate.signatures
    signers = [
        {
            "index": index,
            "name": validators[index].name,
            "chamber": validators[index].chamber.name.lower(),
            "consensus_key": validators[index].consensus_key.hex(),
            "signature": signatures[64 * place : 64 * place + 64].hex(),
        }
        for place, index in enumerate(members_of(mask))
    ]
    return {
        "kind": certificate.kind.name.lower(),
        "era": certificate.era,
        "epoch": certificate.epoch,
        "view": certificate.view,
        "parent_view": certificate.value.parent_view,
        "block_hash": certificate.value.block_hash.hex(),
        "signers": signers,
    }


def transaction_json(chain_id: Digest, wire: bytes) -> dict[str, Any]:
    """Return a transaction with its id, wire hash, bytes and every field."""
    shown = transaction_to_json(decode_transaction(chain_id, wire))
    return {**shown, "wire": wire.hex()}


def times_json(times: StageTimes) -> dict[str, Any]:
    """Return when each stage was reached."""
    return {
        "received": optional_time(times.received_ms),
        "proposed": optional_time(times.proposed_ms),
        "finalized": optional_time(times.finalized_ms),
        "executed": optional_time(times.executed_ms),
    }


def status_json(
    status: TransactionStatus, chain_id: Digest, *, with_transaction: bool
) -> dict[str, Any]:
    """Return the state of a transaction."""
    shown: dict[str, Any] = {
        "id": status.id.hex(),
        "status": status.stage,
        "height": status.height,
        "index": status.index,
        "code": status.code,
        "detail": status.detail,
        "receipt": None if status.receipt is None else receipt_json(status.receipt),
        "times": times_json(status.times),
    }
    if with_transaction:
        wire = status.wire
        shown["transaction"] = None if wire is None else transaction_json(chain_id, wire)
    return shown


def check_json(check: Check) -> dict[str, Any]:
    """Return one condition of readiness."""
    return {
        "name": check.name,
        "ok": check.ok,
        "value": check.value,
        "limit": check.limit,
        "detail": check.detail,
    }


def validator_json(
    validators: ValidatorSet, index: int, seen: Participation, *, is_connected: bool
) -> dict[str, Any]:
    """Return a member of the validator set with what it did since this node started."""
    member = validators[index]
    return {
        "index": index,
        "name": member.name,
        "chamber": member.chamber.name.lower(),
        "organisation": member.organisation,
        "consensus_key": member.consensus_key.hex(),
        "node_key": member.node_key.hex(),
        "connected": is_connected,
        "proposed": seen.proposed,
        "signed": seen.signed,
        "missed": seen.missed,
    }


def consensus_json(
    status: EngineStatus, validators: ValidatorSet, record: ValidatorsRecord
) -> dict[str, Any]:
    """Return the engine's report with names instead of indices; ``record`` is of the state."""
    names = [member.name for member in validators]
    shortfall = status.shortfall
    is_settled = record.scheduled == record.members
    return {
        "era": status.era,
        "epoch": status.epoch,
        "epoch_base_height": record.opened_height,
        "scheduled": None if is_settled else [member.name for member in record.scheduled],
        "view": status.view,
        "leader": names[status.leader],
        "active": status.active,
        "validator": None if status.me is None else names[status.me],
        "votes": {
            kind.name.lower(): [names[index] for index in indices]
            for kind, indices in status.votes.items()
        },
        "connected": [names[index] for index in status.connected],
        "missing": [names[index] for index in status.missing],
        "shortfall": {
            "members": shortfall.members,
            "government": shortfall.government,
            "commercial": shortfall.commercial,
        },
        "timers": sorted({timer.kind.value for timer in status.timers}),
        "backoff_thousandths": status.backoff,
        "finalized": {
            "height": status.finalized_height,
            "view": status.finalized_view,
            "hash": status.finalized_hash.hex(),
        },
        "executed_height": status.executed_height,
        "certified_view": status.certified_view,
        "work_pending": status.work_pending,
        "quarantined": status.quarantined,
        "halted": _halt_reason(status, names),
    }


def _halt_reason(status: EngineStatus, names: list[str]) -> str | None:
    """Say why no block can be made: this node stopped for good, or too few validators are there."""
    if status.halted is not None:
        return status.halted
    shortfall = status.shortfall
    if not any(shortfall):
        return None
    return (
        f"no quorum: {shortfall.members} more validators needed "
        f"({shortfall.government} government, {shortfall.commercial} commercial); "
        f"missing: {', '.join(names[index] for index in status.missing)}"
    )


def peer_json(peer: PeerInfo) -> dict[str, Any]:
    """Return a configured peer."""
    round_trip_s, connected_s, statistics = peer.round_trip_s, peer.connected_s, peer.statistics
    return {
        "name": peer.name,
        "node_id": peer.peer_id.hex(),
        "connected": peer.is_connected,
        "address": peer.address,
        "inbound": peer.is_inbound,
        "agent": peer.agent,
        "height": peer.height,
        "round_trip_ms": None if round_trip_s is None else round(round_trip_s * MS_PER_S, 3),
        "connected_seconds": None if connected_s is None else round(connected_s, 3),
        "penalty_points": peer.points,
        "banned_seconds": round(peer.banned_for_s, 3),
        "last_error": peer.last_error or None,
        "bytes_in": statistics.bytes_in,
        "bytes_out": statistics.bytes_out,
        "messages_in": statistics.messages_in,
        "messages_out": statistics.messages_out,
        "dropped": dict(sorted(statistics.drops.items())),
        "refused": dict(sorted(statistics.refusals.items())),
    }
