"""What the cluster tests measured, by name: shown at the end of a run, whatever its result.

The tests may run in a worker of their own, which hands its figures to the process that shows them;
so this is a plugin of the whole run.
"""

from __future__ import annotations

from typing import Any, Final

import pytest


class Figures(dict[str, float | str]):
    """Name, with unit, and value."""


FIGURES: Final = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin with no figures."""
    config.stash[FIGURES] = Figures()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand a worker's figures over."""
    output, figures = getattr(session.config, "workeroutput", None), session.config.stash[FIGURES]
    if output is not None:
        output["figures"] = dict(figures)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take a worker's figures over."""
    figures: Figures = node.config.stash[FIGURES]
    figures.update(getattr(node, "workeroutput", {}).get("figures", {}))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Show the figures."""
    figures = config.stash[FIGURES]
    if figures:
        terminalreporter.section("measured by the cluster tests")
        for name, value in figures.items():
            terminalreporter.write_line(f"{name}: {value}")
