"""Draws the ring: a circle of partitions in the colours of their first owners."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan2, hypot, pi

from rich.text import Text

COLOURS = (
    "dodger_blue1", "orange1", "green3", "magenta", "yellow3", "cyan", "red", "medium_purple1",
    "spring_green2", "hot_pink", "grey70", "tan",
)  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ACROSS = 36
"""Columns and half lines: a half block is as high as it is wide."""
THICK = 5.5


def mark(number: int, colours: bool) -> Text:
    """The mark of a member: a colour, or a letter if there are no colours."""
    if colours:
        return Text("██", COLOURS[number % len(COLOURS)])
    return Text(LETTERS[number % len(LETTERS)])


def _owner(first: Sequence[int], column: int, row: int) -> int | None:
    """The member at a point of the picture; partition 0 is at the top, then clockwise."""
    x, y = column - (ACROSS - 1) / 2, row - (ACROSS - 1) / 2
    if not ACROSS / 2 - THICK <= hypot(x, y) <= ACROSS / 2:
        return None
    turn = atan2(x, -y) / (2 * pi) % 1
    return first[int(turn * len(first)) % len(first)]


def circle(first: Sequence[int], words: Sequence[str], colours: bool) -> Text:
    """The circle, with words in its middle; `first` has the number of each partition's first owner.
    If there are more partitions than points, it draws a sample."""
    picture = Text()
    begins = ACROSS // 4 - len(words) // 2
    for line in range(ACROSS // 2):
        said = words[line - begins] if 0 <= line - begins < len(words) else ""
        at = (ACROSS - len(said)) // 2
        for column in range(ACROSS):
            if said and at <= column < at + len(said):
                picture.append(said[column - at])
                continue
            top, bottom = (_owner(first, column, 2 * line + half) for half in (0, 1))
            if not colours:
                owner = top if top is not None else bottom
                picture.append(" " if owner is None else LETTERS[owner % len(LETTERS)])
            else:
                picture.append(*_blocks(top, bottom))
        picture.append("\n")
    picture.rstrip()
    return picture


def _blocks(top: int | None, bottom: int | None) -> tuple[str, str]:
    upper, lower = (COLOURS[i % len(COLOURS)] if i is not None else "" for i in (top, bottom))
    if upper and lower:
        return "▀", f"{upper} on {lower}"
    return ("▀", upper) if upper else ("▄", lower) if lower else (" ", "")
