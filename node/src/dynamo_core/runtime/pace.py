"""How much work may be under way so that all of it ends in time (T-5).

Work that cannot end in time must not begin: it would take resources from work that can. The node
does not know how much it and its peers can do at once. So it finds the amount as TCP does: after
each quick piece of work a little more may run at once, after a slow piece much less.
"""

from __future__ import annotations

SLOW_S = 0.3
"""Work that took longer shows that too much ran at once. A request usually has 1 s; the rest of it
is for the way in, the way out and a second node."""
LESS = 0.7


class Pace:
    """The amount that may be under way, between `least` and `most`; it starts at `first`."""

    __slots__ = ("allowed", "least", "most", "slowed_at")

    def __init__(self, least: int, most: int, first: int = 0) -> None:
        self.least, self.most = least, most
        self.allowed = min(most, max(least, first))
        self.slowed_at = 0.0

    def ended(self, amount: int, took_s: float, now: float) -> None:
        """Work of this amount has ended after `took_s` seconds."""
        if took_s <= SLOW_S:
            self.allowed = min(self.most, self.allowed + amount * amount // self.allowed)
        elif now - took_s >= self.slowed_at:
            # Work that began before the last slowing does not show the present pace.
            self.slowed_at = now
            self.allowed = max(self.least, int(self.allowed * LESS))
