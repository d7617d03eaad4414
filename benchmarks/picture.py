"""The demo's live picture: operations, latencies, siblings, hints, owners behind, the story."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

RECENT = 5_000
"""Live latencies are those of this many last purchases."""
LINE_S = 5.0
"""Without a terminal: seconds between two lines."""
STORY_LINES = 9
COLOURS = {
    "up": "green", "killed": "red", "wiped": "red", "cut off": "yellow", "unjoined": "dim",
    "joining": "cyan", "leaving": "cyan", "left": "dim",
}  # fmt: skip


def percentiles(seconds: list[float]) -> tuple[float, float, float]:
    """p50, p99 and p99.9 in ms."""
    ordered = sorted(seconds) or [0.0]
    last = len(ordered) - 1
    p50, p99, p999 = (1e3 * ordered[round(part * last)] for part in (0.5, 0.99, 0.999))
    return p50, p99, p999


@dataclass
class Score:
    """What has happened until now."""

    total: int
    began: float = field(default_factory=time.perf_counter)
    done: int = 0
    counted: int = 0
    to_count: int = 0
    phase: str = "buying"
    latencies: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    siblings: Counter[int] = field(default_factory=Counter)
    """How many versions an update found."""
    failures: Counter[str] = field(default_factory=Counter)
    """By type of error: purchases that were repeated."""
    states: dict[str, str] = field(default_factory=dict)
    """The last action on each node."""
    story: list[tuple[float, str]] = field(default_factory=list)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By answering node: its status."""
    hints_most: int = 0
    behind_most: int = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first purchase."""
        return time.perf_counter() - self.began

    @property
    def hints(self) -> int:
        """Hints of all answering nodes, for all targets."""
        return sum(h["count"] for s in self.nodes.values() for h in s["hints"].values())

    @property
    def behind(self) -> int:
        """Owned copies that are not complete."""
        counts = [s["partitions"] for s in self.nodes.values()]
        return sum(c["owned"] - c["complete"] for c in counts)

    @property
    def peers_down(self) -> int:
        """Pairs in which one node does not hear the other."""
        return sum(list(s["peers"].values()).count("down") for s in self.nodes.values())

    @property
    def moves(self) -> tuple[int, int]:
        """Moves of the present change: done, and all, from the node that knows most."""
        last = max(self.nodes.values(), key=lambda s: int(s["epoch"]), default=None)
        if last is None or last["operation"]["state"] != "running":
            return 0, 0
        return last["operation"]["moves_done"], last["operation"]["moves_total"]

    def bought(self, seconds: float) -> None:
        """One purchase was acknowledged after this time, with all its attempts."""
        self.done += 1
        self.latencies.append(seconds)
        self.recent.append(seconds)

    def take(self, statuses: dict[str, dict[str, Any]]) -> None:
        """Takes a new look at the nodes."""
        self.nodes = statuses
        self.hints_most = max(self.hints_most, self.hints)
        self.behind_most = max(self.behind_most, self.behind)

    def sentence(self) -> str:
        """The whole run in one line."""
        p50, p99, p999 = percentiles(self.latencies)
        met = sum(count for versions, count in self.siblings.items() if versions > 1)
        return (
            f"{self.done} purchases in {self.elapsed_s:.0f} s, update p50 {p50:.1f} ms, "
            f"p99 {p99:.1f} ms, p99.9 {p999:.1f} ms; siblings met {met} times, at most "
            f"{max(self.siblings, default=0)}; at most {self.hints_most} hints held, at most "
            f"{self.behind_most} owners behind; {sum(self.failures.values())} purchases tried again"
        )


class Picture:
    """Live on a terminal, otherwise a line at intervals."""

    def __init__(self, console: Console, score: Score, names: list[str]) -> None:
        self.console = console
        self.score = score
        self.names = names
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._said_at = 0.0
        self._told = 0

    def __enter__(self) -> Picture:
        if self.console.is_terminal:
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.console.is_terminal:
            self._live.__exit__(kind, error, trace)

    def show(self) -> None:
        """Draws the present score."""
        if self.console.is_terminal:
            self._live.update(self._draw(), refresh=True)
            return
        for at, sentence in self.score.story[self._told :]:
            self.console.print(f"{at:6.1f} s  {sentence}", highlight=False, soft_wrap=True)
        self._told = len(self.score.story)
        if time.perf_counter() - self._said_at >= LINE_S:
            self._said_at = time.perf_counter()
            self.console.print(self._line(), highlight=False, soft_wrap=True)

    def _line(self) -> str:
        score = self.score
        p50, p99, p999 = percentiles(list(score.recent))
        done, total = self._progress()
        moved, moves = score.moves
        return (
            f"{score.elapsed_s:6.1f} s  {score.phase} {done}/{total}  p50 {p50:.1f} p99 {p99:.1f} "
            f"p99.9 {p999:.1f} ms  hints {score.hints}  behind {score.behind}"
            + f"  moved {moved}/{moves}"
            * bool(moves)
        )

    def _progress(self) -> tuple[int, int]:
        score = self.score
        counting = score.phase in ("recounting", "done")
        return (score.counted, score.to_count) if counting else (score.done, score.total)

    def _draw(self) -> RenderableType:
        score = self.score
        done, total = self._progress()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(f"{score.phase:10}", style="bold"),
            ProgressBar(total=max(total, 1), completed=done, width=36),
            f"{done}/{total}",
            f"{score.done / max(score.elapsed_s, 1e-9):.0f}/s" if score.phase == "buying" else "",
        )
        moved, moves = score.moves
        if moves:
            bar.add_row(
                Text("moves", style="bold"),
                ProgressBar(total=moves, completed=moved, width=36),
                f"{moved}/{moves}",
                "",
            )
        return Group(bar, self._figures(), self._table(), self._story())

    def _figures(self) -> Text:
        score = self.score
        p50, p99, p999 = percentiles(list(score.recent))
        met = sum(count for versions, count in score.siblings.items() if versions > 1)
        text = Text(f"update p50 {p50:.1f} ms  p99 {p99:.1f} ms  p99.9 {p999:.1f} ms\n")
        text.append(
            f"siblings met {met} (at most {max(score.siblings, default=0)})  "
            f"hints held {score.hints}  owners behind {score.behind}  "
            f"tried again {sum(score.failures.values())}"
        )
        return text

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("node", "state", "owned", "complete", "hints held for others", "hears"):
            table.add_column(column)
        for name in self.names:
            state = self.score.states.get(name, "up")
            status = self.score.nodes.get(name)
            mark = Text(state, style=COLOURS[state])
            if status is None:
                table.add_row(name, mark, "", "", "", "")
                continue
            counts = status["partitions"]
            hints = {to: h["count"] for to, h in status["hints"].items() if h["count"]}
            up = sum(word == "up" for word in status["peers"].values())
            table.add_row(
                name,
                mark,
                str(counts["owned"]),
                str(counts["complete"]),
                ", ".join(f"{to} {count}" for to, count in hints.items()) or "-",
                f"{up} of {len(status['peers'])}",
            )
        return table

    def _story(self) -> Text:
        lines = [f"{at:6.1f} s  {what}" for at, what in self.score.story[-STORY_LINES:]]
        return Text("\n".join(lines), style="cyan")
