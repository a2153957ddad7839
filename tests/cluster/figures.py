"""What the cluster tests measured, by name: shown at the end of a run, whatever its result."""

from __future__ import annotations


class Figures(dict[str, float | str]):
    """Name, with unit, and value."""
