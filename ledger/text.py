"""Names and free text: what identifiers look like and which characters people may write.

Free text is refused if two different byte strings could look alike or hide something: it must be
in Unicode normalisation form C, without controls, format and bidirectional marks, private or
unassigned characters, and its only space is U+0020. "Assigned" means in Unicode 3.2: that table
is frozen and part of every Python, so nodes on different Python versions can never disagree about
a character. Normative text: ``docs/protocol.md`` section 1.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ledger.errors import InvalidName, InvalidText

ORGANISATION_PATTERN: Final = r"[a-z][a-z0-9-]{1,31}"
ASSET_CODE_PATTERN: Final = r"[A-Z][A-Z0-9.]{0,11}"

ASSET_ID_BYTES_MAX: Final = 32 + 1 + 12
"""Organisation id, slash, code."""

MEMO_BYTES_MAX: Final = 256
NAME_BYTES_MAX: Final = 128
"""Display names of organisations, assets, validators and networks."""

_ORGANISATION = re.compile(ORGANISATION_PATTERN)
_ASSET = re.compile(f"({ORGANISATION_PATTERN})/({ASSET_CODE_PATTERN})")
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def validate_text(text: str, bytes_max: int) -> None:
    """Raise InvalidText unless ``text`` can be shown to people as it is."""
    if text.isascii():
        if len(text) > bytes_max:
            raise InvalidText(f"expected at most {bytes_max} bytes of text, got {len(text)}")
        if not text.isprintable():
            raise InvalidText("expected no control characters")
        return
    if len(text) > bytes_max:  # bounds the work below; the exact limit is in bytes
        raise InvalidText(f"expected at most {bytes_max} bytes of text")
    for character in text:
        category = unicodedata.ucd_3_2_0.category(character)
        if category in _HIDDEN_CATEGORIES and character != " ":
            raise InvalidText(f"character U+{ord(character):04X} is not allowed in text")
    if len(text.encode()) > bytes_max:
        raise InvalidText(f"expected at most {bytes_max} bytes of text, got {len(text.encode())}")
    if unicodedata.normalize("NFC", text) != text:
        raise InvalidText("expected text in Unicode normalisation form C")


def validate_organisation_id(text: str) -> None:
    """Raise InvalidName unless ``text`` is an organisation id."""
    if _ORGANISATION.fullmatch(text) is None:
        raise InvalidName(f"expected an organisation id {ORGANISATION_PATTERN}, got {text[:64]!r}")


def organisation_of_asset(asset: str) -> str:
    """Return ORG of an asset id ``ORG/CODE``; raises InvalidName."""
    match = _ASSET.fullmatch(asset)
    if match is None:
        raise InvalidName(
            f"expected an asset id {ORGANISATION_PATTERN}/{ASSET_CODE_PATTERN}, got {asset[:64]!r}"
        )
    return match.group(1)
