"""A simulated network: every directed link has its own latency, losses, duplicates and cuts.

Frames that are lost, doubled, overtaken or delivered minutes late are more than TCP allows; a core
that survives them does not depend on what a link promises. A cut is silent, or breaks the
connection so that the sender learns it.
"""

from __future__ import annotations

from random import Random

import msgspec

REDIAL_S_MIN, REDIAL_S_MAX = 0.05, 1.0
"""As the links of the shell: a link that broke is dialled again after a pause that doubles."""


class Weather(msgspec.Struct):
    """Rates for a whole history; times in seconds."""

    latency_s: float = 0.001
    spread_s: float = 0.002
    slow_tail: float = 0.0
    """Share of frames that take a hundred times as long."""
    loss: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    """Share of frames that arrive once more, up to `late_s_max` later."""
    late_s_max: float = 30.0


class Network:
    """Which frames arrive, and when. Addresses are names here."""

    def __init__(self, weather: Weather, rng: Random) -> None:
        self.weather = weather
        self.calm = False
        self._random = rng.random
        self._cuts: dict[tuple[str, str], list[bool]] = {}
        self._full: dict[tuple[str, str], float] = {}
        """By link that takes no more: until when."""
        self._pauses: dict[tuple[str, str], tuple[float, float]] = {}
        """By link that broke: until when it backs off, and how long the next pause is."""

    def broke(self, sender: str, receiver: str, now: float) -> float:
        """The link broke or was refused; in how many seconds it is dialled again."""
        until, pause = self._pauses.get((sender, receiver), (now, REDIAL_S_MIN))
        if until <= now:
            until = now + pause * (0.5 + self._random())
            self._pauses[sender, receiver] = (until, min(2 * pause, REDIAL_S_MAX))
        return until - now

    def backs_off(self, sender: str, receiver: str, now: float) -> bool:
        """Whether frames are dropped until the link may be dialled again."""
        return now < self._pauses.get((sender, receiver), (0.0, 0.0))[0]

    def dialled(self, sender: str, receiver: str) -> None:
        """A frame has arrived: the link holds, and its receiver need not wait to dial back."""
        self._pauses.pop((sender, receiver), None)
        until, pause = self._pauses.get((receiver, sender), (0.0, 0.0))
        if until:
            self._pauses[receiver, sender] = (0.0, pause)

    def started(self, name: str) -> None:
        """A new process has no link yet."""
        self._pauses = {pair: line for pair, line in self._pauses.items() if pair[0] != name}

    def cut(self, sender: str, receiver: str, silent: bool) -> None:
        """Nothing gets from one to the other any more."""
        self._cuts.setdefault((sender, receiver), []).append(silent)

    def mend(self, sender: str, receiver: str, silent: bool) -> None:
        """Takes one cut back; others may overlap it."""
        cuts = self._cuts.get((sender, receiver), [])
        if silent in cuts:
            cuts.remove(silent)

    def fill(self, sender: str, receiver: str, until: float) -> None:
        """The link takes no more: what waits on it is not read."""
        self._full[sender, receiver] = max(until, self._full.get((sender, receiver), 0.0))

    def is_full(self, sender: str, receiver: str, now: float) -> bool:
        """Whether the link drops what its sender says, and stands all the same."""
        return now < self._full.get((sender, receiver), 0.0)

    def heal(self) -> None:
        """Every link works, and no frame is lost or doubled from here on."""
        self._cuts.clear()
        self._full.clear()
        self._pauses.clear()
        self.calm = True

    def is_cut(self, sender: str, receiver: str) -> bool:
        """Whether frames vanish."""
        return bool(self._cuts.get((sender, receiver)))

    def breaks(self, sender: str, receiver: str) -> bool:
        """Whether the sender learns that the link is cut."""
        return False in self._cuts.get((sender, receiver), ())

    def delays(self) -> list[float]:
        """When copies of one frame arrive, in seconds from now; none when it is lost."""
        weather, random = self.weather, self._random
        delay = weather.latency_s + weather.spread_s * random()
        if self.calm:
            return [delay]
        if weather.slow_tail and random() < weather.slow_tail:
            delay *= 100
        found = [delay]
        if weather.loss and random() < weather.loss:
            found = []
        if weather.duplicate and random() < weather.duplicate:
            found.append(delay + weather.spread_s * random())
        if weather.late and random() < weather.late:
            found.append(weather.late_s_max * random())
        return found
