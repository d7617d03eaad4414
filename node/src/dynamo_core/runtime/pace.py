"""How much may be under way so that all of it ends in time (T-5).

What cannot end within its time must not begin: it would take what others could end with. How much
the node and its peers can do at once nobody knows, so it is found as TCP finds it: each piece of
work that ended quickly lets a little more begin at once, one that took long lets much less.
"""

from __future__ import annotations

SLOW_S = 0.3
"""Work that took longer was too much at once: of the usual 1 s of a request most is left for the
way in, the way out and a second node."""
LESS = 0.7


class Pace:
    """The amount that may be under way, between `least` and `most`. It begins with `first`."""

    __slots__ = ("allowed", "least", "most", "slowed_at")

    def __init__(self, least: int, most: int, first: int = 0) -> None:
        self.least, self.most = least, most
        self.allowed = min(most, max(least, first))
        self.slowed_at = 0.0

    def ended(self, amount: int, took_s: float, now: float) -> None:
        """So much has ended after so long."""
        if took_s <= SLOW_S:
            self.allowed = min(self.most, self.allowed + amount * amount // self.allowed)
        elif now - took_s >= self.slowed_at:
            # What had begun before the last slowing says nothing of the pace since.
            self.slowed_at = now
            self.allowed = max(self.least, int(self.allowed * LESS))
