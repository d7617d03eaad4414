"""Draws the pictures of the pages as SVG files beside this one: `python docs/pictures/draw.py`.

Plain text in, plain text out: no library, so that a picture is changed where its words are. A test
draws them again and compares.
"""

from __future__ import annotations

import math
import sys
from html import escape
from pathlib import Path

INK, PALE, LINE, PAPER = "#1f2937", "#6b7280", "#d1d5db", "#ffffff"
NODE = {"n1": "#2563eb", "n2": "#059669", "n3": "#d97706", "n4": "#7c3aed", "n5": "#db2777"}
RED = "#dc2626"


class Picture:
    """Shapes on a white card, readable on light and dark pages."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            'font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif">'
            f"<title>{escape(title)}</title>"
        )
        self._parts = [
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="{INK}"/></marker>'
            '<marker id="red" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 10 5 0 10z" fill="{RED}"/></marker>'
            "</defs>",
            f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10" '
            f'fill="{PAPER}" stroke="{LINE}"/>',
        ]

    def text(self, x: float, y: float, words: str, size: int = 13, **style: object) -> None:
        """One line of text; `at` is start, middle or end."""
        fill, at = style.get("fill", INK), style.get("at", "start")
        weight = ' font-weight="bold"' if style.get("bold") else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" '
            f'text-anchor="{at}"{weight}>{escape(words)}</text>'
        )

    def path(self, d: str, stroke: str = INK, width: float = 1.5, **style: object) -> None:
        """A line; `tip` gives it a head, `dash` breaks it."""
        tip = style.get("tip")
        more = f' marker-end="url(#{tip})"' if tip else ""
        more += ' stroke-dasharray="5 4"' if style.get("dash") else ""
        fill = style.get("fill", "none")
        self._parts.append(
            f'<path d="{d}" fill="{fill}" stroke="{stroke}" stroke-width="{width:g}"{more}/>'
        )

    def box(self, x: float, y: float, w: float, h: float, fill: str, **style: object) -> None:
        """A rectangle with round corners."""
        stroke = style.get("stroke", "none")
        dash = ' stroke-dasharray="5 4"' if style.get("dash") else ""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{style.get("rx", 6)}" '
            f'fill="{fill}" stroke="{stroke}" stroke-width="1.5"{dash}/>'
        )

    def disc(self, x: float, y: float, r: float, fill: str, stroke: str = "none") -> None:
        """A circle."""
        self._parts.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{r:g}" fill="{fill}" stroke="{stroke}" '
            'stroke-width="1.5"/>'
        )

    def chip(self, x: float, y: float, name: str, **style: object) -> None:
        """A node by its name; `hollow` is a stand-in."""
        colour = NODE[name]
        if style.get("hollow"):
            self.box(x - 24, y - 15, 48, 30, PAPER, stroke=colour, dash=True)
            self.text(x, y + 5, name, 14, at="middle", fill=colour, bold=True)
        else:
            self.box(x - 24, y - 15, 48, 30, colour)
            self.text(x, y + 5, name, 14, at="middle", fill=PAPER, bold=True)

    def svg(self) -> str:
        """The file."""
        return "\n".join((self._head, *self._parts, "</svg>", ""))


def ring() -> Picture:
    """A key's way: its place on the ring, its owners, its stand-ins."""
    p = Picture(860, 384, "The ring: a key's partition, its owners and its stand-ins")
    cx, cy, outer, inner, arcs = 196, 194, 132, 104, 20
    owner = ["n1", "n2", "n3", "n4", "n5"] * 4
    for i in range(arcs):
        a, b = (math.tau * (i + gap) / arcs - math.pi / 2 for gap in (0.06, 0.94))
        far, near = (outer + 10, inner - 4) if i == 3 else (outer, inner)
        points = [(far, a), (far, b), (near, b), (near, a)]
        (x1, y1), (x2, y2), (x3, y3), (x4, y4) = (
            (cx + r * math.cos(t), cy + r * math.sin(t)) for r, t in points
        )
        p.path(
            f"M{x1:.1f} {y1:.1f}A{far} {far} 0 0 1 {x2:.1f} {y2:.1f}"
            f"L{x3:.1f} {y3:.1f}A{near} {near} 0 0 0 {x4:.1f} {y4:.1f}Z",
            PAPER,
            1,
            fill=NODE[owner[i]] if i == 3 else NODE[owner[i]] + "66",
        )
    p.text(cx, cy - 14, "the ring", 15, at="middle", bold=True)
    p.text(cx, cy + 8, "Q equal partitions,", 12, at="middle", fill=PALE)
    p.text(cx, cy + 25, "coloured by first owner", 12, at="middle", fill=PALE)
    at = math.tau * 3.5 / arcs - math.pi / 2
    x, y = cx + (outer + 14) * math.cos(at), cy + (outer + 14) * math.sin(at)
    p.path(f"M440 62C400 62 {x + 50:.0f} {y - 40:.0f} {x:.0f} {y:.0f}", tip="tip")
    p.box(440, 44, 380, 36, "#f3f4f6")
    p.text(456, 67, "cart:42", 15, bold=True)
    p.text(528, 67, "its MD5 is its place on the ring", 13, fill=PALE)

    p.text(440, 118, "preference list of that partition", 13, fill=PALE)
    for i, name in enumerate(("n4", "n2", "n5")):
        p.chip(466 + 60 * i, 148, name)
    for i, name in enumerate(("n1", "n3")):
        p.chip(668 + 60 * i, 148, name, hollow=True)
    p.text(526, 184, "N = 3 owners", 12, at="middle")
    p.text(698, 184, "stand-ins", 12, at="middle")
    p.path("M618 130V168", LINE)

    rows = (
        ("PUT", "any node takes it; an owner makes the event,",
         "and W nodes hold it before the answer"),
        ("GET", "R answers are merged; concurrent values are all",
         "shown, with a context for the next put"),
        ("n5 is down", "n1 keeps a hint for it, and delivers it later;",
         "hash trees find what was missed"),
    )  # fmt: skip
    for i, (head, first, second) in enumerate(rows):
        y = 230 + 50 * i
        p.text(440, y, head, 13, bold=True, fill=RED if i == 2 else INK)
        p.text(532, y, first, 12)
        p.text(532, y + 17, second, 12)
    return p


def dots() -> Picture:
    """One put on a record with two siblings, as a grid of events."""
    p = Picture(860, 262, "A dotted version vector: a put drops what its context covers")
    panels = (
        ("the record", "two siblings, written side by side", (3, 1),
         {("X", 2): ("b", "#2563eb"), ("X", 3): ("c", "#d97706")}),
        ("the context of a put", "its client read before c was written", (2, 1), {}),
        ("the record after the put", "b is gone, c stays, d is new", (3, 2),
         {("X", 3): ("c", "#d97706"), ("Y", 2): ("d", "#059669")}),
    )  # fmt: skip
    for i, (title, below, (of_x, of_y), siblings) in enumerate(panels):
        left = 30 + 282 * i
        p.text(left, 38, title, 15, bold=True)
        p.text(left, 58, below, 12, fill=PALE)
        for row, (actor, known) in enumerate((("X", of_x), ("Y", of_y))):
            y = 84 + 56 * row
            p.text(left + 4, y + 27, actor, 15, fill=PALE, bold=True)
            for n in (1, 2, 3, 4):
                x = left + 28 + 46 * (n - 1)
                covered = n <= known
                p.box(x, y, 40, 40, "#e5e7eb" if covered else PAPER, stroke=LINE)
                if (actor, n) in siblings:
                    letter, colour = siblings[actor, n]
                    p.disc(x + 20, y + 20, 15, colour)
                    p.text(x + 20, y + 25, letter, 15, fill=PAPER, at="middle", bold=True)
                else:
                    p.text(x + 20, y + 25, str(n), 12, fill=PALE if covered else LINE, at="middle")
        if i < 2:
            p.text(left + 240, 140, "+" if i == 0 else "→", 24, at="middle", fill=PALE)
    p.box(58, 214, 20, 20, "#e5e7eb", stroke=LINE, rx=4)
    p.text(86, 229, "an event that this history covers", 12)
    p.disc(332, 224, 10, PALE)
    p.text(350, 229, "a value that is there, at its dot", 12)
    p.text(580, 229, "X, Y: actors, born with each start of a node", 12, fill=PALE)
    return p


def quorums() -> Picture:
    """Where R + W > N meets, and where sloppy quorums do not."""
    p = Picture(860, 276, "Quorums: strict ones overlap, sloppy ones may not")
    p.text(30, 38, "all owners up: R + W > N", 15, bold=True)
    p.text(30, 58, "W = 2 and R = 2 of N = 3 share a node", 12, fill=PALE)
    for i, name in enumerate(("n4", "n2", "n5")):
        p.chip(110 + 90 * i, 150, name)
    p.box(76, 122, 158, 56, "none", stroke="#2563eb", rx=26)
    p.text(155, 110, "put, W = 2", 12, at="middle", fill="#2563eb")
    p.box(166, 116, 158, 68, "none", stroke="#d97706", rx=30)
    p.text(245, 206, "get, R = 2", 12, at="middle", fill="#d97706")
    p.text(200, 248, "the get sees the put, or what came after it", 13, at="middle")
    p.path("M418 30V250", LINE)
    p.text(446, 38, "sloppy: stand-ins count in W", 15, bold=True)
    p.text(446, 58, "n2 and n5 were away for the put, and are back for the get", 12, fill=PALE)
    for i, name in enumerate(("n4", "n2", "n5")):
        p.chip(576 + 90 * i, 150, name)
    p.chip(486, 150, "n1", hollow=True)
    p.text(486, 190, "holds a hint", 11, at="middle", fill=PALE)
    p.box(452, 122, 158, 56, "none", stroke="#2563eb", rx=26)
    p.text(531, 110, "put, W = 2", 12, at="middle", fill="#2563eb")
    p.box(632, 122, 158, 56, "none", stroke="#d97706", rx=26)
    p.text(711, 206, "get, R = 2", 12, at="middle", fill="#d97706")
    p.text(640, 248, "the get may miss the put until the hint arrives", 13, at="middle", fill=RED)
    return p


def hints() -> Picture:
    """The life of a hint, in time from left to right."""
    p = Picture(860, 318, "The life of a hint")
    lanes = {"n4": 90, "n2": 144, "n5": 198, "n1": 262}
    for name, y in lanes.items():
        p.chip(56, y, name, hollow=name == "n1")
        p.text(88, y + 5, "stand-in" if name == "n1" else "owner", 12, fill=PALE)
        p.path(f"M160 {y}H830", LINE, 1.5)
    p.path("M220 198H520", PAPER, 4)
    p.path("M220 198H520", RED, 2, dash=True)
    p.text(232, 190, "down", 12, fill=RED)
    p.text(300, 36, "put, W = 2", 13, at="middle", bold=True)
    p.path("M300 44V80", tip="tip")
    p.disc(300, 90, 6, NODE["n4"])
    p.path("M304 97C320 108 328 120 331 134", tip="tip")
    p.disc(332, 144, 6, NODE["n2"])
    p.path("M297 97C270 150 276 215 322 256", tip="tip")
    p.path("M332 262H684", NODE["n1"], 4)
    p.disc(332, 262, 6, PAPER, NODE["n1"])
    p.text(332, 290, "a hint for n5, written", 12)
    p.text(332, 306, "by n1 before it counts", 12)
    p.text(520, 36, "n5 is back", 13, at="middle", bold=True)
    p.path("M520 44V192", PALE, 1, dash=True)
    p.path("M590 254C606 240 612 226 614 209", tip="tip")
    p.disc(615, 198, 6, NODE["n5"])
    p.text(592, 232, "delivered", 12, at="end")
    p.path("M622 203C652 214 672 232 682 252", tip="tip")
    p.text(672, 226, "ack, when it is fsynced there", 12)
    p.text(684, 290, "only now it", 12)
    p.text(684, 306, "is dropped", 12)
    return p


def move() -> Picture:
    """The steps of a move, in time from left to right: n5 takes the place of n3."""
    p = Picture(860, 380, "The steps of a move")
    lanes = {"n1": 92, "n2": 146, "n3": 200, "n5": 276}
    roles = {"n1": "owner", "n2": "owner", "n3": "out", "n5": "in"}
    for name, y in lanes.items():
        p.chip(56, y, name, hollow=name == "n5")
        p.text(88, y + 5, roles[name], 12, fill=PALE)
        p.path(f"M150 {y}H830", LINE, 1.5)
    steps = ((200, "begin"), (330, "promises"), (460, "copy"), (590, "switch"), (760, "settled"))
    for x, words in steps:
        p.text(x, 36, words, 13, at="middle", bold=True)
        p.path(f"M{x} 44V300", LINE, 1, dash=True)
    p.disc(200, 276, 6, PAPER, NODE["n5"])
    p.text(190, 304, "move written", 12)
    for name in ("n1", "n2", "n3"):
        y = lanes[name]
        p.path(f"M206 272C250 250 292 {y + 40} 322 {y + 4}", tip="tip")
        p.disc(330, y, 5, NODE[name])
        p.path(f"M337 {y + 3}C380 {y + 30} 420 240 452 268", PALE, 1.2, tip="tip")
        p.path(f"M598 270C630 240 640 {y + 40} 648 {y + 6}", tip="tip")
        p.path(f"M656 {y + 4}C690 {y + 40} 730 240 752 268", PALE, 1.2, tip="tip")
    p.disc(460, 276, 6, PAPER, NODE["n5"])
    p.text(460, 304, "a full pass over each", 12, at="middle")
    p.disc(590, 276, 6, NODE["n5"])
    p.text(590, 304, "complete, next term", 12, at="middle")
    p.disc(760, 276, 6, NODE["n5"])
    p.text(760, 304, "all have learnt it", 12, at="middle")
    p.path("M200 326H590", NODE["n3"], 4)
    p.path("M590 326H830", NODE["n5"], 4)
    p.text(395, 344, "reads go to n1 n2 n3", 12, at="middle")
    p.text(710, 344, "reads go to n1 n2 n5", 12, at="middle")
    p.path("M262 360H760", RED, 4)
    p.text(511, 376, "writes need W of n1 n2 n3 and W of n1 n2 n5", 12, at="middle", fill=RED)
    return p


def tree() -> Picture:
    """Two hash trees of one partition, compared from the root down."""
    p = Picture(860, 300, "Two owners compare a partition by its hash tree")
    for left, name in ((40, "n1"), (460, "n2")):
        p.chip(left + 40, 40, name)
        p.text(left + 76, 45, "its copy of partition 7", 12, fill=PALE)
        for row, (count, y) in enumerate(((1, 90), (4, 150), (16, 210))):
            step = 360 / count
            for at in range(count):
                x = left + step * (at + 0.5)
                differs = at == (0, 2, 9)[row]
                if row:
                    above = left + step * 4 * (at // 4 + 0.5) if row == 2 else left + 180
                    p.path(f"M{above:g} {y - 50}L{x:g} {y - 9}", RED if differs else LINE, 1.2)
                wide = (90, 60, 17)[row]
                p.box(x - wide / 2, y - 10, wide, 20, RED if differs else LINE, rx=3)
    p.text(430, 96, "root", 12, at="middle", fill=PALE)
    p.text(430, 156, "branches", 12, at="middle", fill=PALE)
    p.text(430, 216, "leaves", 12, at="middle", fill=PALE)
    p.text(430, 256, "Red: the sums differ. Only what is below a red box is compared further,", 13,
           at="middle")  # fmt: skip
    p.text(430, 276, "and only the records of the last red leaf travel.", 13, at="middle")
    return p


def forgetting() -> Picture:
    """Why a tombstone stays until every owner has it."""
    p = Picture(860, 280, "When a deleted key may be forgotten")
    lanes = {"n1": 90, "n2": 144, "n3": 198}
    for name, y in lanes.items():
        p.chip(56, y, name)
        p.text(88, y + 5, "owner", 12, fill=PALE)
        p.path(f"M150 {y}H830", LINE, 1.5)
    for x, words in ((210, "value"), (330, "delete"), (560, "n3 is back"), (730, "round")):
        p.text(x, 36, words, 13, at="middle", bold=True)
        p.path(f"M{x} 44V232", LINE, 1, dash=True)
    for name, y in lanes.items():
        p.disc(210, y, 6, NODE[name])
    for name in ("n1", "n2"):
        p.box(324, lanes[name] - 6, 12, 12, INK, rx=2)
    p.path("M270 198H560", PAPER, 4)
    p.path("M270 198H560", RED, 2, dash=True)
    p.text(282, 190, "down: it still has the value", 12, fill=RED)
    p.path("M560 150C590 160 600 176 606 188", tip="tip")
    p.box(604, 192, 12, 12, INK, rx=2)
    p.text(618, 180, "the tombstone", 12)
    for y in lanes.values():
        p.disc(730, y, 6, PAPER, PALE)
    p.text(500, 252, "Square: a tombstone. The round asks every owner to prove that it has it.", 13,
           at="middle")  # fmt: skip
    p.text(500, 270, "Forgotten earlier, the value of n3 would have come back.", 13, at="middle")
    return p


PICTURES = {
    "ring": ring, "dots": dots, "quorums": quorums, "hints": hints, "move": move, "tree": tree,
    "forgetting": forgetting,
}  # fmt: skip


def main(directory: Path) -> None:
    """Writes all pictures."""
    for name, draw in PICTURES.items():
        (directory / f"{name}.svg").write_text(draw().svg())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
