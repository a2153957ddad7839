"""Which pages and which names may reach a node: protection against DNS rebinding and foreign sites.

A page of another site can make a browser send requests to a node on the same machine. It cannot
send them without an ``Origin`` header that names the site, and after rebinding its own name to the
node's address it cannot hide that name from the ``Host`` header. An address in ``Host`` is always
fine, because rebinding needs a name. Threat line A6.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

LOCAL_NAMES: Final = frozenset({"localhost", "localhost.localdomain"})
_CACHE_SIZE: Final = 256
"""Verdicts remembered; the same few values come with every request."""


@lru_cache(_CACHE_SIZE)
def is_allowed_host(host: str, names: frozenset[str]) -> bool:
    """Tell whether a ``Host`` header names this node: an address, localhost, or one of `names`."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if name is None:
        return False
    if name in LOCAL_NAMES or name in names:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@lru_cache(_CACHE_SIZE)
def is_allowed_origin(origin: str, host: str | None, origins: frozenset[str]) -> bool:
    """Tell whether a page of `origin` may use this node: its own pages, and listed ones."""
    if origin in origins:
        return True
    scheme, separator, place = origin.partition("://")
    return scheme in ("http", "https") and separator != "" and place == host
