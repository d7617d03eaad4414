"""The two clocks of a process. No other module of the shell reads the time."""

from __future__ import annotations

from time import monotonic as now_s
from time import time

__all__ = ["now_s", "wall_ms"]


def wall_ms() -> int:
    """Wall clock in ms since 1970; only expiries and last-writer stamps use it (C15)."""
    return int(time() * 1000)
