"""Free text and names: nothing hidden, no two spellings of one look."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InvalidName, InvalidText
from ledger.text import organisation_of_asset, validate_organisation_id, validate_text


@pytest.mark.parametrize("text", ["", "invoice 4711", "Überweisung", "転送", "حوالة", 'a~!"#'])
def test_ordinary_text_is_accepted(text: str) -> None:
    validate_text(text, 64)


@pytest.mark.parametrize(
    "text",
    [
        "a\x00b",
        "line\nbreak",
        "tab\t",
        "\x7f",
        "\x85",
        "cafe\u0301",  # NFD twin of café
        "\u202eabc",  # right-to-left override
        "\u2066abc\u2069",  # isolates
        "a\u200bb",  # zero width space
        "a\u200db",  # joiner
        "\ufeffa",  # byte order mark
        "a\u00a0b",  # looks like a space
        "\ue000",  # private use
        "\ud800",  # lone surrogate
        "\u0378",  # unassigned
        "\u20bd",  # assigned in Unicode 7
        "\U0001fae8",  # assigned in Unicode 15, so 3.11 and 3.12 would disagree
        "\u2028",
    ],
    ids=lambda text: ascii(text),
)
def test_text_that_hides_or_imitates_is_refused(text: str) -> None:
    """T15: controls, bidi marks, look-alike spaces, normalisation twins, surrogates."""
    with pytest.raises(InvalidText) as refusal:
        validate_text(text, 64)
    assert refusal.value.code == "invalid_text"


def test_the_limit_counts_bytes() -> None:
    validate_text("é" * 32, 64)
    with pytest.raises(InvalidText):
        validate_text("é" * 33, 64)
    with pytest.raises(InvalidText):
        validate_text("a" * 65, 64)
    with pytest.raises(InvalidText):
        validate_text("é" * 10**6, 64)


@given(st.text(max_size=50))
def test_accepted_text_is_its_own_normal_form(text: str) -> None:
    """T15: two different accepted texts never normalise to the same one."""
    try:
        validate_text(text, 256)
    except InvalidText:
        return
    assert unicodedata.normalize("NFC", text) == text


@pytest.mark.slow
def test_every_accepted_character_has_been_assigned_since_unicode_3_2() -> None:
    """C10: the answer must not depend on the Unicode tables of the Python in use."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        try:
            validate_text(character, 4)
        except InvalidText:
            continue
        assert unicodedata.ucd_3_2_0.category(character) != "Cn"


def test_an_asset_id_names_its_organisation() -> None:
    assert organisation_of_asset("bank-1/MYR.A1") == "bank-1"


@pytest.mark.parametrize(
    "text",
    [
        "bank",
        "bank/",
        "/MYR",
        "bank/myr",
        "Bank/MYR",
        "b/MYR",
        "bank/1YR",
        "bank/MYR\n",
        "bank/MYRMYRMYRMYRM",
        "bank//MYR",
        "bаnk/MYR",  # Cyrillic a
        "b" * 33 + "/MYR",
        "a" * 10**6,
    ],
)
def test_other_asset_ids_are_refused(text: str) -> None:
    """T15, R6: look-alikes and endless input, in linear time."""
    with pytest.raises(InvalidName):
        organisation_of_asset(text)


@pytest.mark.parametrize("text", ["", "a", "A1", "1a", "a_b", "a" * 33, "ab\n", "é1"])
def test_other_organisation_ids_are_refused(text: str) -> None:
    validate_organisation_id("a1")
    with pytest.raises(InvalidName):
        validate_organisation_id(text)
