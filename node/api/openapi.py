"""The OpenAPI 3.1 document, generated from the table that registers the routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from node.api.parameters import Parameter
from node.api.problems import PROBLEM_TYPE, all_kinds
from node.api.routing import Route
from node.api.schemas import COMPONENTS, ref

OPENAPI_VERSION: Final = "3.1.0"
ANY_ROUTE_PROBLEMS: Final = (
    "bad_request",
    "unknown_parameter",
    "invalid_parameter",
    "forbidden_origin",
    "method_not_allowed",
    "unsupported_media_type",
    "internal_error",
)
"""Codes that any request can get."""
TAGS: Final = {
    "node": "This node",
    "network": "Who runs the network",
    "blocks": "Final blocks",
    "transactions": "Submission and status of transactions",
    "accounts": "Accounts and what they hold",
    "assets": "Assets",
    "governance": "Changes of members and rules, and evidence against members",
    "state": "Authenticated state",
    "proofs": "Files that prove what this node says, and what light clients need",
    "events": "Streams",
    "dev": "Development networks only",
    "documentation": "This documentation",
}
DESCRIPTION: Final = (
    "Amounts and nonces are decimal strings, heights and sizes integers, times RFC 3339 in UTC "
    "with milliseconds, hashes lower-case hex. Errors are problem documents (RFC 9457) with a "
    "stable `code` whose page is at `/problems/{code}`. Lists take `limit`, `cursor` and `order`; "
    "unknown query parameters are refused. A transaction's id is its idempotency key: posting the "
    "same bytes again returns its present state. Clients must ignore members of objects that they "
    "do not know."
)


def openapi_document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the document that describes these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "MBI node",
            "version": version,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {"schemas": dict(COMPONENTS)},
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": _operation_id(route),
        "parameters": [
            *(_parameter(parameter, "path") for parameter in route.path_parameters),
            *(_parameter(parameter, "query") for parameter in route.query_parameters),
        ],
        "responses": {**_answers(route), **_problems(route)},
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "description": route.body.description,
            "content": {kind: {"schema": schema} for kind, schema in route.body.content.items()},
        }
    return operation


def _operation_id(route: Route) -> str:
    words = [word.strip("{}.") for word in route.path.replace(".", "/").split("/") if word]
    return "_".join([route.method.lower(), *(words or ["index"])])


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": place,
        "required": place == "path",
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _answers(route: Route) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for status, answer in route.answers.items():
        content: dict[str, Any] = {
            answer.media_type: {} if answer.schema is None else {"schema": answer.schema}
        }
        content.update({kind: {} for kind in answer.other_types})
        answers[str(status)] = {"description": answer.description, "content": content}
    return answers


def _problems(route: Route) -> dict[str, Any]:
    kinds = all_kinds()
    by_status: dict[int, list[str]] = {}
    for code in (*ANY_ROUTE_PROBLEMS, *route.problems):
        by_status.setdefault(kinds[code].status, []).append(code)
    content: Mapping[str, Any] = {PROBLEM_TYPE: {"schema": ref("Problem")}}
    return {
        str(status): {"description": ", ".join(dict.fromkeys(codes)), "content": content}
        for status, codes in sorted(by_status.items())
    }
