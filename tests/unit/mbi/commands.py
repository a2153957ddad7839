"""Runs the command in the test's own process."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from mbi import cli


class Outcome(NamedTuple):
    """What one run of the command gave."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


class Runner:
    """Runs the command in this process, away from the user's own files."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *words: str) -> Outcome:
        self._capture.readouterr()
        code = cli.run(list(words))
        captured = self._capture.readouterr()
        return Outcome(int(code), captured.out, captured.err)
