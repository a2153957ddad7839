"""A flame graph as one SVG file: width is processor time, a function stands on its caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from typing import Final

from mbi.bench.profile import Profile, Stack

WIDTH: Final = 1600
ROW: Final = 17
TITLE: Final = 30
LETTER: Final = 6.6
"""Width of a letter of the font, in pixels."""
NARROWEST: Final = 0.5
"""What is narrower than half a pixel cannot be seen."""

STYLE: Final = """text { font:11px monospace; fill:#1b1f24; pointer-events:none; }
.title { font:600 14px system-ui,sans-serif; } rect { stroke:#fff; stroke-width:.5; }
rect:hover { stroke:#1b1f24; stroke-width:1.5; } .page { fill:#fff; }"""


@dataclass(slots=True)
class _Frame:
    """A function called by one line of callers."""

    count: int = 0
    calls: dict[str, _Frame] = field(default_factory=dict)


def flame_graph(profile: Profile, title: str) -> str:
    """Return the picture. Every rectangle names its function and share when pointed at."""
    root = _tree(profile.stacks)
    scale = WIDTH / max(1, root.count)
    rectangles = list(_rectangles(root, 0.0, 0, scale, root.count))
    depth = 1 + max((level for level, _ in rectangles), default=0)
    height = TITLE + depth * ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">'
        f'<style>{STYLE}</style><rect class="page" width="{WIDTH}" height="{height}"/>'
        f'<text class="title" x="6" y="20">{escape(title)}</text>'
        f"{''.join(text for _, text in rectangles)}</svg>\n"
    )


def _tree(stacks: Counter[Stack]) -> _Frame:
    root = _Frame()
    for stack, count in stacks.items():
        root.count += count
        frame = root
        for name in stack:
            frame = frame.calls.setdefault(name, _Frame())
            frame.count += count
    return root


def _rectangles(
    frame: _Frame, left: float, level: int, scale: float, total: int
) -> Iterator[tuple[int, str]]:
    """Yield the level and the drawing of everything that a function called."""
    for name, call in sorted(frame.calls.items()):
        width = call.count * scale
        if width >= NARROWEST:
            yield level, _rectangle(name, left, level, width, call.count / total)
            yield from _rectangles(call, left, level + 1, scale, total)
        left += width


def _rectangle(name: str, left: float, level: int, width: float, share: float) -> str:
    y = TITLE + level * ROW
    shown = name[: int((width - 6) / LETTER)] if width > 6 + 3 * LETTER else ""
    words = f'<text x="{left + 3:.1f}" y="{y + 12}">{escape(shown)}</text>' if shown else ""
    return (
        f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{ROW}" fill="{_colour(name)}">'
        f"<title>{escape(name)}: {share:.1%}</title></rect>{words}"
    )


def _colour(name: str) -> str:
    """Return one warm colour for all functions of a file, so that modules can be told apart."""
    file = name.rpartition("(")[2].rpartition(":")[0]
    hue, light = sha256(file.encode()).digest()[:2]
    return f"hsl({hue % 60},75%,{62 + light % 18}%)"
