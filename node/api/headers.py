"""Headers that every answer carries."""

from __future__ import annotations

from typing import Final

BASE_HEADERS: Final = {"Server": "mbi", "X-Content-Type-Options": "nosniff"}
"""No version of any library; the type of an answer is the declared one."""
DATA_HEADERS: Final = {**BASE_HEADERS, "Cache-Control": "no-store"}
"""On data: it is stale at once."""
PAGE_HEADERS: Final = {
    **BASE_HEADERS,
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
"""On pages: everything comes from this node."""
