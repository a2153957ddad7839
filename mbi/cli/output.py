"""Where a command's words go: results to stdout, everything else to stderr.

With ``--json`` stdout carries exactly one JSON document (or JSON lines for streams) and nothing
else. Colours follow the terminal and ``NO_COLOR``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

WIDE_COLUMNS: Final = 200
"""Width where no terminal limits it: a pipe must not cut hashes."""


class Output:
    """Prints for people or for programs."""

    def __init__(self, is_json: bool) -> None:
        self.is_json = is_json
        self._out = _console(stderr=False)
        self._err = _console(stderr=True)

    def document(self, value: Any) -> None:
        """Print the one JSON document of a command; nothing in human mode."""
        if self.is_json:
            self._write(json.dumps(value, indent=2, ensure_ascii=False))

    def stream_item(self, value: Any) -> None:
        """Print one line of a JSON stream; nothing in human mode."""
        if self.is_json:
            self._write(json.dumps(value, ensure_ascii=False))

    def text(self, line: str, style: str = "") -> None:
        """Print one line of the result for people."""
        if not self.is_json:
            self._show(Text(line, style))

    def fields(self, values: Mapping[str, Any], title: str = "") -> None:
        """Print names and values below each other; empty values are left out."""
        if self.is_json:
            return
        if title:
            self._show(Text(title, "bold"))
        shown = {name: value for name, value in values.items() if value not in (None, "", [], {})}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            text = Text.assemble((f"  {name.ljust(width)}  ", "dim"), _plain(value))
            self._show(text)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table."""
        if self.is_json:
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(Text(_plain(value)) for value in row))
        self._show(table)

    def note(self, line: str, style: str = "dim") -> None:
        """Tell about progress, on stderr."""
        self._err.print(Text(line, style), soft_wrap=True)

    def warn(self, line: str) -> None:
        """Tell about something that needs attention, on stderr."""
        self.note(f"warning: {line}", "yellow")

    def error(self, line: str) -> None:
        """Tell why the command failed, on stderr."""
        self._err.print(Text.assemble(("error: ", "bold red"), line), soft_wrap=True)

    def progress(self) -> Progress:
        """Return a progress display on stderr; invisible unless stderr is a terminal."""
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._err,
            transient=True,
            disable=not self._err.is_terminal,
        )

    def busy(self, message: str) -> AbstractContextManager[object]:
        """Show that something takes a while; on stderr."""
        return self._err.status(message)

    def clear(self) -> None:
        """Clear the terminal before a repeated display; nothing elsewhere."""
        self._out.clear()

    def _show(self, what: RenderableType) -> None:
        self._out.print(what, soft_wrap=isinstance(what, Text))
        # A reader at the other end of a pipe gets a command's words when they are said.
        self._out.file.flush()

    def _write(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = WIDE_COLUMNS
    return console


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
