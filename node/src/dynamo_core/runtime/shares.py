"""What a node has for its clients, in shares (T-5, C16).

A client may hold eight times what is free. So one client alone gets eight ninths of all, and
something is always left for the next client. Each further client lowers what the others may hold,
until all hold the same. The node reserves nothing for clients that do not ask, and takes nothing
back: a client above its share gets no more until it is below its share again. A client that holds
nothing gets something while anything is free.

(The rule is that of switches which share one memory: Choudhury and Hahne, Dynamic queue length
thresholds, 1998.)
"""

from __future__ import annotations

FREE_TIMES = 8
"""Higher: one client alone gets more, and less is free at once for the next client."""
SHARE_USED, ALL_USED = 429, 503
"""The statuses of a refusal."""


class Shares:
    """Slots, bytes or connections: how many there are, and how many each client holds."""

    __slots__ = ("_held", "total", "used")

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._held: dict[str, int] = {}

    def held(self, client: str) -> int:
        """How many the client holds."""
        return self._held.get(client, 0)

    def refusal(self, client: str, amount: int = 1) -> int:
        """The status that refuses the client `amount` more now, 0 if it may have them."""
        free = self.total - self.used - amount
        held = self._held.get(client, 0)
        if free >= 0 and (not held or held + amount <= FREE_TIMES * free):
            return 0
        # If the client holds more than an equal part, its share is used up; else all is used.
        return SHARE_USED if held and held * len(self._held) >= self.used else ALL_USED

    def take(self, client: str, amount: int = 1) -> None:
        """The client holds `amount` more. This checks nothing: the caller asks `refusal` first."""
        self.used += amount
        self._held[client] = self._held.get(client, 0) + amount

    def give(self, client: str, amount: int = 1) -> None:
        """The client holds `amount` less."""
        self.used -= amount
        left = self._held[client] - amount
        if left:
            self._held[client] = left
        else:
            del self._held[client]

    def greediest(self) -> str:
        """The client that holds most; "" when no client holds anything."""
        return max(self._held, key=self._held.__getitem__, default="")
