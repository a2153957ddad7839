"""Pages for people: what is here, the API viewer, and one page for each problem code.

Everything comes from this node, nothing from elsewhere; the content security policy allows no more.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import Final

from aiohttp import web

from node.api.headers import DATA_HEADERS, PAGE_HEADERS
from node.api.parameters import InvalidText, Parameter
from node.api.problems import Problem, all_kinds
from node.api.routing import JSON_TYPE, Answer, Call, Route

ASSETS: Final = {"viewer.js": "text/javascript", "style.css": "text/css"}
"""Files that pages load, with their types; nothing else is served from disk."""
CODE_LENGTH_MAX: Final = 64

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/assets/style.css">
{head}</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _page(title: str, body: str, head: str = "") -> web.Response:
    text = _PAGE.format(title=escape(title), body=body, head=head)
    return web.Response(text=text, content_type="text/html", headers=PAGE_HEADERS)


async def index(call: Call) -> web.Response:
    """Say what is here."""
    view = call.context.view
    name = f"{view.status().name} - {view.genesis.network}"
    links = (
        ("/docs", "API documentation"),
        ("/openapi.json", "The same for programs"),
        ("/v1/status", "This node"),
        ("/v1/consensus", "Consensus"),
        ("/v1/blocks", "Blocks"),
        ("/v1/transactions", "Transactions"),
        ("/v1/validators", "Validators"),
        ("/v1/assets", "Assets"),
        ("/problems", "Error codes"),
        ("/metrics", "Metrics"),
    )
    items = "\n".join(
        f'<li><a href="{path}">{escape(text)}</a> <code>{path}</code></li>' for path, text in links
    )
    return _page(name, f"<h1>{escape(name)}</h1>\n<ul>\n{items}\n</ul>")


async def docs(call: Call) -> web.Response:
    """Show the OpenAPI document to a person."""
    head = '<script type="module" src="/assets/viewer.js"></script>\n'
    return _page("API", '<h1>API</h1>\n<div id="viewer">Loading /openapi.json ...</div>', head)


async def openapi(call: Call) -> web.Response:
    """Return the OpenAPI document."""
    return web.Response(
        body=call.context.openapi_document, content_type=JSON_TYPE, headers=DATA_HEADERS
    )


async def asset_file(call: Call) -> web.Response:
    """Return a file that a page loads."""
    name = call.path["name"]
    body = files("node.api").joinpath("assets", name).read_bytes()
    return web.Response(body=body, content_type=ASSETS[name], charset="utf-8", headers=PAGE_HEADERS)


async def problem_index(call: Call) -> web.Response:
    """List every problem code."""
    rows = "\n".join(
        f'<tr><td><a href="/problems/{escape(kind.code)}"><code>{escape(kind.code)}</code></a></td>'
        f"<td>{kind.status}</td><td>{escape(kind.title)}</td></tr>"
        for _, kind in sorted(all_kinds().items())
    )
    return _page("Error codes", f"<h1>Error codes</h1>\n<table>\n{rows}\n</table>")


async def problem(call: Call) -> web.Response:
    """Explain one problem code."""
    kind = all_kinds().get(call.path["code"])
    if kind is None:
        raise Problem("not_found", "no such code; /problems lists them all")
    return _page(
        kind.code,
        f"<h1>{escape(kind.title)}</h1>\n<p><code>{escape(kind.code)}</code>, HTTP status "
        f'{kind.status}</p>\n<p>{escape(kind.help)}</p>\n<p><a href="/problems">All codes</a></p>',
    )


def _parse_asset(text: str) -> str:
    if text not in ASSETS:
        raise InvalidText("one of " + ", ".join(ASSETS))
    return text


def _parse_code(text: str) -> str:
    if not (0 < len(text) <= CODE_LENGTH_MAX and text.isascii()):
        raise InvalidText("a problem code")
    return text


_HTML: Final = {200: Answer("Page", media_type="text/html")}

ROUTES: Final = (
    Route("GET", "/", "documentation", "What is here", index, _HTML),
    Route("GET", "/docs", "documentation", "This documentation for people", docs, _HTML),
    Route(
        "GET",
        "/openapi.json",
        "documentation",
        "This documentation for programs",
        openapi,
        {200: Answer("OpenAPI 3.1 document", {"type": "object"})},
    ),
    Route(
        "GET",
        "/assets/{name}",
        "documentation",
        "Files of the pages",
        asset_file,
        {200: Answer("File", media_type="text/plain")},
        path_parameters=(
            Parameter("name", _parse_asset, {"type": "string", "enum": list(ASSETS)}, "File."),
        ),
    ),
    Route("GET", "/problems", "documentation", "All error codes", problem_index, _HTML),
    Route(
        "GET",
        "/problems/{code}",
        "documentation",
        "What an error code means and what to do",
        problem,
        _HTML,
        path_parameters=(Parameter("code", _parse_code, {"type": "string"}, "Problem code."),),
        problems=("not_found",),
    ),
)
