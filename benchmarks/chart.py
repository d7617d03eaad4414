"""Charts of lines as SVG, with the pen of docs/pictures/draw.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from docs.pictures.draw import LINE, PALE, Picture

WIDTH, HEIGHT = 860, 380
LEFT, RIGHT, TOP, BOTTOM = 70, 640, 60, 320
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#db2777", "#6b7280")
TICKS = 5


@dataclass(frozen=True)
class Line:
    """One curve; `dash` marks figures of others."""

    name: str
    points: Sequence[tuple[float, float]]
    dash: bool = False


def chart(
    title: str,
    below: str,
    lines: Sequence[Line],
    *,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
    unit: str = "",
) -> str:
    """The SVG. x is a number, logarithmic if asked; y begins at 0 unless a range is given."""
    picture = Picture(WIDTH, HEIGHT, title)
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    low, high = y_range or (0.0, max(ys, default=1.0) * 1.05 or 1.0)
    first, last = min(xs, default=0.0), max(xs, default=1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        a, b, c = (math.log(v) for v in (first, x, last)) if log_x else (first, x, last)
        part = (b - a) / ((c - a) or 1.0)
        level = min(1.0, max(0.0, (y - low) / ((high - low) or 1.0)))
        return LEFT + (RIGHT - LEFT) * part, BOTTOM - (BOTTOM - TOP) * level

    picture.text(LEFT - 40, 32, title, 16, bold=True)
    for i in range(TICKS + 1):
        value = low + (high - low) * i / TICKS
        _, y = place(first, value)
        picture.path(f"M{LEFT} {y:.1f}H{RIGHT}", LINE, 1)
        picture.text(LEFT - 8, y + 4, f"{value:.3g}{unit}", 11, at="end", fill=PALE)
    steps = range(TICKS + 1)
    marks = (
        sorted({first * (last / first) ** (i / TICKS) for i in steps})
        if log_x
        else [first + (last - first) * i / TICKS for i in steps]
    )
    for value in marks:
        x, _ = place(value, low)
        picture.text(x, BOTTOM + 18, f"{value:,.4g}", 11, at="middle", fill=PALE)
    picture.text((LEFT + RIGHT) / 2, BOTTOM + 42, below, 12, at="middle")
    for index, line in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        dots = [place(x, y) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in dots)
        if path:
            picture.path("M" + path, colour, 2, dash=line.dash)
        y = TOP + 12 + 24 * index
        picture.path(f"M{RIGHT + 20} {y - 4}H{RIGHT + 48}", colour, 2, dash=line.dash)
        picture.text(RIGHT + 56, y, line.name, 12)
    return picture.svg()
