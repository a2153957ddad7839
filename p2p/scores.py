"""How much a peer has misbehaved lately.

Each fault costs points, points fade with time, and a peer that collects :data:`BAN_POINTS` is
disconnected and refused for :data:`BAN_S`. A ban is always temporary: the list of peers is the
consortium's decision, and a validator that was repaired must come back without an operator. Nothing
in consensus depends on scores.
"""

from __future__ import annotations

from typing import Final

BAN_POINTS: Final = 100
FADE_POINTS_PER_S: Final = 1
BAN_S: Final = 60.0
"""Long enough to make a flood cheap to us, short enough to repair by itself."""


class Score:
    """Points of one peer; bounded, since there is one per configured peer."""

    def __init__(self) -> None:
        self._points = 0.0
        self._updated_s = 0.0
        self._banned_until_s = 0.0

    def points(self, now_s: float) -> int:
        """Return the points that have not faded yet."""
        return int(self._faded(now_s))

    def add(self, points: int, now_s: float) -> bool:
        """Charge points; return whether this is what bans the peer now."""
        self._points = self._faded(now_s) + points
        self._updated_s = now_s
        if self._points < BAN_POINTS:
            return False
        self._points = 0.0
        self._banned_until_s = now_s + BAN_S
        return True

    def banned_for_s(self, now_s: float) -> float:
        """Return the seconds left of the present ban; 0 if there is none."""
        return max(0.0, self._banned_until_s - now_s)

    def _faded(self, now_s: float) -> float:
        return max(0.0, self._points - (now_s - self._updated_s) * FADE_POINTS_PER_S)
