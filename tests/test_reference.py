"""The guides name what there is: every command, option and route, and nothing else."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mbi.cli import cli
from mbi.settings import parse_timeout
from node.api.routes import ROUTES
from node.metrics import Metrics

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted([*DOCS.glob("*.md"), DOCS.parent / "README.md"])
GLOBAL_OPTIONS = {"--node", "--timeout", "--json"}
"""Of every command; said once in the guide."""


def _commands(command: click.Command, name: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the name and the long options of each command below this one."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            found = command.get_command(context, word)
            assert found is not None
            yield from _commands(found, f"{name} {word}")
        return
    options = (option for option in command.params if isinstance(option, click.Option))
    names = (name for option in options for name in (*option.opts, *option.secondary_opts))
    yield name, frozenset(name for name in names if name.startswith("--"))


COMMANDS = dict(_commands(cli, "mbi"))


def test_guide_lists_every_command_with_its_options_and_no_other() -> None:
    page = (DOCS / "cli.md").read_text().partition("## Every command")[2]
    words = dict(re.findall(r"^\| (\*\w+\*) \| (.+) \|$", page, re.MULTILINE))
    for word, options in words.items():
        page = page.replace(word, options)
    rows = re.findall(r"^\| `(mbi [a-z -]+)` \| (.+) \|$", page, re.MULTILINE)
    listed = {name: set(re.findall(r"`(--[a-z0-9-]+)`", options)) for name, options in rows}
    assert listed == {name: options - GLOBAL_OPTIONS for name, options in COMMANDS.items()}


def test_guide_lists_every_route_and_no_other() -> None:
    page = (DOCS / "http.md").read_text().partition("## Every route")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([A-Z]+) (\S+)` \|", page, re.MULTILINE)
    assert listed == [(route.method, route.path) for route in ROUTES]


def _examples(page: Path) -> Iterator[list[str]]:
    """Yield the words after `mbi` of each command line in the code blocks of a page."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    for line in text.splitlines():
        found = re.match(r"\s*(?:\.venv/bin/|docker-compose run --rm (?:-T )?)?(mbi [a-z].*)", line)
        if found and (line.startswith(("    ", ".venv", "docker")) or line == found[1]):
            for part in re.split(r"\s(?:&&|\|)\s", found[1]):
                words = shlex.split(part, comments=True)
                if words[0].endswith("mbi"):
                    yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_command_lines_in_documents_exist(page: Path) -> None:
    for words in _examples(page):
        names = [name for n in range(1, 4) if (name := " ".join(["mbi", *words[:n]])) in COMMANDS]
        assert names, f"no such command: mbi {' '.join(words)}"
        unknown = {word for word in words if word.startswith("--")} - COMMANDS[names[0]]
        is_operation = names[0] in {"mbi tx op", "mbi tx build"}
        assert not unknown or is_operation, f"mbi {' '.join(words)}: no option {unknown}"
        if "--timeout" in words:
            assert parse_timeout(words[words.index("--timeout") + 1]) > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_in_documents_exist(page: Path) -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)", Metrics().exposition().decode(), re.MULTILINE))
    families = "chain|consensus|mempool|p2p|http|node"
    named = re.findall(rf"`(mbi_(?:{families})_\w*[a-z])`", page.read_text())
    assert set(named) <= exposed
