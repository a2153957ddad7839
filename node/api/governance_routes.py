"""Routes about governance: proposals and what became of them, evidence against members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ledger.governance import refusal_text
from ledger.json import to_json
from ledger.records import EVIDENCE_PREFIX, PROPOSAL_PREFIX, ChangeProposal, proposal_key
from ledger.types import ProposalId
from node.api import schemas
from node.api.parameters import HEIGHT_SCHEMA, PAGE_BY_NAME, PAGE_BY_TIME, Parameter, parse_height
from node.api.problems import Problem
from node.api.record_pages import record_page
from node.api.render import time_text
from node.api.routing import Answer, Call, Route, json_response

if TYPE_CHECKING:
    from aiohttp import web


def proposal_document(proposal: ChangeProposal) -> dict[str, Any]:
    """Return the JSON form of a proposal, with its times and refusal as text, too."""
    return {
        **to_json(proposal),
        "created": time_text(proposal.created_ms),
        "expires": time_text(proposal.expires_ms),
        "effective": time_text(proposal.effective_ms) if proposal.effective_ms else None,
        "reason": refusal_text(proposal.refusal) if proposal.refusal is not None else "",
    }


async def proposals(call: Call) -> web.Response:
    """List the proposals by number."""
    return record_page(call, PROPOSAL_PREFIX, proposal_document)


async def proposal(call: Call) -> web.Response:
    """Return one proposal."""
    number = ProposalId(call.path["id"])
    found = call.context.view.state.record(proposal_key(number))
    if not isinstance(found, ChangeProposal):
        raise Problem("not_found", f"no proposal {number}")
    return json_response(proposal_document(found))


async def evidence(call: Call) -> web.Response:
    """List the evidence on chain, by accused key."""
    return record_page(call, EVIDENCE_PREFIX)


async def pending_evidence(call: Call) -> web.Response:
    """Return what this node holds and the chain does not; one item per validator and epoch."""
    items = [
        {
            "validator": to_json(accused),
            "first": to_json(proof.first),
            "second": to_json(proof.second),
            "height": None,
        }
        for proof, accused in call.context.view.unreported_evidence()
    ]
    return json_response({"items": items})


async def parameters(call: Call) -> web.Response:
    """Return the limits in force, which governance can change."""
    return json_response(to_json(call.context.view.state.parameters))


PROPOSAL_ID: Final = Parameter("id", parse_height, HEIGHT_SCHEMA, "Number of the proposal.")

ROUTES: Final = (
    Route(
        "GET",
        "/v1/governance/proposals",
        "governance",
        "Proposed changes of members and rules, with their votes",
        proposals,
        {200: Answer("Page of proposals", schemas.page("Proposal"))},
        query_parameters=PAGE_BY_TIME,
        problems=("invalid_cursor",),
    ),
    Route(
        "GET",
        "/v1/governance/proposals/{id}",
        "governance",
        "One proposal",
        proposal,
        {200: Answer("Proposal", schemas.ref("Proposal"))},
        path_parameters=(PROPOSAL_ID,),
        problems=("not_found",),
    ),
    Route(
        "GET",
        "/v1/evidence",
        "governance",
        "Proof on chain that validators signed two votes that exclude each other",
        evidence,
        {200: Answer("Page of evidence", schemas.page("Evidence"))},
        query_parameters=PAGE_BY_NAME,
        problems=("invalid_cursor",),
    ),
    Route(
        "GET",
        "/v1/evidence/pending",
        "governance",
        "Proof that this node holds and that is not on chain yet",
        pending_evidence,
        {200: Answer("Evidence", schemas.listing("Evidence"))},
    ),
    Route(
        "GET",
        "/v1/governance/parameters",
        "governance",
        "Limits in force",
        parameters,
        {200: Answer("Parameters", schemas.ref("Parameters"))},
    ),
)
