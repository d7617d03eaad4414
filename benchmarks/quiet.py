"""Whether this machine does something else: then what `bench.py` measures is not for the page.

Its cores may be taken by processes of this machine, or by others of the same host (steal).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

BUSY_MAX = 0.1
"""The share of all cores that others may use before anything is measured."""
STOLEN_MAX = 0.02
"""The share that the host may take while it is measured."""
LOOK_S = 2.0
STAT = Path("/proc/stat")


class Ticks(NamedTuple):
    """Of all cores together, since the machine has started."""

    total: int
    idle: int
    stolen: int


def parsed(stat: str) -> Ticks:
    """The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal."""
    parts = [int(word) for word in stat.split("\n", 1)[0].split()[1:9]]
    return Ticks(sum(parts), parts[3] + parts[4], parts[7])


def ticks() -> Ticks:
    """As of now; nothing where the system has no such file."""
    return parsed(STAT.read_text()) if STAT.exists() else Ticks(0, 0, 0)


def stolen(before: Ticks, after: Ticks) -> str:
    """Why what was measured between them is not to be trusted, "" when it is."""
    share = (after.stolen - before.stolen) / max(1, after.total - before.total)
    return f"the host has taken {share:.1%} of the cores" if share > STOLEN_MAX else ""


def used(before: Ticks, after: Ticks) -> str:
    """Why a measurement should not begin, "" when nothing speaks against it."""
    total = after.total - before.total
    share = (total - (after.idle - before.idle)) / max(1, total)
    if share > BUSY_MAX:
        return f"others use {share:.0%} of the cores, at most {BUSY_MAX:.0%} may be"
    return stolen(before, after)


def busy() -> str:
    """The same, from a look at this machine while nothing of the bench runs."""
    before = ticks()
    time.sleep(LOOK_S)
    return used(before, ticks())
