"""What a node has for its clients, in shares (T-5, C16).

A client may hold eight times what is left free. So one client alone gets eight ninths of all, and
there is always something left for the next; each more that asks lowers what the others may hold,
until all hold the same. Nothing is set aside for clients that do not ask, and nothing taken back: a
client above its share gets no more until it is below it again. A client that holds nothing gets
something as long as anything is free.

(The rule is that of switches which share one memory: Choudhury and Hahne, Dynamic queue length
thresholds, 1998.)
"""

from __future__ import annotations

FREE_TIMES = 8
"""Higher: more for one client alone, less left at once for the next."""
SHARE_USED, ALL_USED = 429, 503
"""The statuses of a refusal."""


class Shares:
    """Slots, bytes or connections: so many in all, and who holds how many of them."""

    __slots__ = ("_held", "total", "used")

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._held: dict[str, int] = {}

    def held(self, client: str) -> int:
        """How many the client holds."""
        return self._held.get(client, 0)

    def refusal(self, client: str, amount: int = 1) -> int:
        """The status with which the client is refused so many more now, 0 when it gets them."""
        free = self.total - self.used - amount
        held = self._held.get(client, 0)
        if free >= 0 and (not held or held + amount <= FREE_TIMES * free):
            return 0
        # The share is used up where the client holds more than an equal part; else all is.
        return SHARE_USED if held and held * len(self._held) >= self.used else ALL_USED

    def take(self, client: str, amount: int = 1) -> None:
        """The client holds so many more, whether it should or not: `refusal` is asked before."""
        self.used += amount
        self._held[client] = self._held.get(client, 0) + amount

    def give(self, client: str, amount: int = 1) -> None:
        """The client holds so many less."""
        self.used -= amount
        left = self._held[client] - amount
        if left:
            self._held[client] = left
        else:
            del self._held[client]

    def greediest(self) -> str:
        """Who holds most; "" when nobody holds anything."""
        return max(self._held, key=self._held.__getitem__, default="")
