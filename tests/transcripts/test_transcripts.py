"""Plays every scenario and compares what the engine does with what the text says.

With UPDATE_TRANSCRIPTS=1 in the environment the texts are rewritten: read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.transcripts.script import play

SCENARIOS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    text = path.read_text()
    played = play(text)
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        path.write_text(played)
    assert played == text


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 8


def test_a_scenario_that_tells_something_else_fails() -> None:
    heading = "network of 2 government and 2 commercial validators, this node is D\n"
    text = heading + "* transactions wait\n    finalise b1\n"
    assert play(text) != text


def test_an_unknown_line_is_refused() -> None:
    heading = "network of 2 government and 2 commercial validators, this node is D\n"
    with pytest.raises(ValueError, match="no scenario knows the line 'it rains'"):
        play(heading + "* it rains\n")
