"""A simulated network: every directed link has its own latency, losses, duplicates and cuts.

Lost, repeated and reordered frames, and frames that arrive minutes late, are more than TCP allows;
a core that survives them does not depend on a link's promises. A cut is silent, or it breaks the
connection so that the sender learns of it.
"""

from __future__ import annotations

from enum import Enum
from math import log
from random import Random

import msgspec

REDIAL_S_MIN, REDIAL_S_MAX = 0.05, 1.0
"""As in the shell: a broken link is dialled again after a pause that doubles each time."""

Link = tuple[str, str]
"""Sender and receiver."""


class LinkState(Enum):
    """What becomes of a frame."""

    UP = "it goes"
    BACKS_OFF = "it is dropped: the link broke and is dialled again later"
    BROKEN = "it is dropped, and the sender learns that the link is cut"
    FULL = "it is dropped: the link takes no more, and stands all the same"
    CUT = "it vanishes"


UP, BACKS_OFF, BROKEN, FULL, CUT = LinkState


class Weather(msgspec.Struct):
    """Rates for a whole history; times in seconds."""

    latency_s: float = 0.001
    spread_s: float = 0.002
    exponential_s: float = 0.0
    """The mean of a further delay of each frame, with an exponential distribution."""
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
        self._plain = not (weather.slow_tail or weather.loss or weather.duplicate or weather.late)
        """Each frame arrives once."""
        self._random = rng.random
        self.cuts: dict[Link, list[bool]] = {}
        """The links that are cut, each with whether the cut is silent, for each of its cuts."""
        self.full: dict[Link, float] = {}
        """By link that accepts nothing more: until when."""
        self.pauses: dict[Link, tuple[float, float]] = {}
        """By broken link: the end of its pause, and the length of the next pause."""

    def broke(self, sender: str, receiver: str, now: float) -> float:
        """The link broke or was refused; returns the seconds until it is dialled again."""
        until, pause = self.pauses.get((sender, receiver), (now, REDIAL_S_MIN))
        if until <= now:
            until = now + pause * (0.5 + self._random())
            self.pauses[sender, receiver] = (until, min(2 * pause, REDIAL_S_MAX))
        return until - now

    def state(self, link: Link, now: float) -> LinkState:
        """What becomes of a frame that its sender hands to the link now."""
        if now < self.pauses.get(link, (0.0, 0.0))[0]:
            return BACKS_OFF
        cuts = self.cuts.get(link, ())
        if False in cuts:
            return BROKEN
        if now < self.full.get(link, 0.0):
            return FULL
        return CUT if cuts else UP

    def dialled(self, link: Link) -> None:
        """A frame has arrived: the link works, and its receiver may dial back at once."""
        self.pauses.pop(link, None)
        back = link[::-1]
        until, pause = self.pauses.get(back, (0.0, 0.0))
        if until:
            self.pauses[back] = (0.0, pause)

    def started(self, name: str) -> None:
        """A new process has no link yet."""
        self.pauses = {pair: line for pair, line in self.pauses.items() if pair[0] != name}

    def cut(self, sender: str, receiver: str, silent: bool) -> None:
        """No frame gets from one to the other any more."""
        self.cuts.setdefault((sender, receiver), []).append(silent)

    def mend(self, sender: str, receiver: str, silent: bool) -> None:
        """Ends one cut; others may overlap it."""
        link = (sender, receiver)
        cuts = self.cuts.get(link, [])
        if silent in cuts:
            cuts.remove(silent)
        if not cuts:
            self.cuts.pop(link, None)

    def fill(self, sender: str, receiver: str, until: float) -> None:
        """The link accepts nothing more: its receiver does not read."""
        self.full[sender, receiver] = max(until, self.full.get((sender, receiver), 0.0))

    def heal(self) -> None:
        """Every link works, and no frame is lost or repeated from now on."""
        self.cuts.clear()
        self.full.clear()
        self.pauses.clear()
        self._plain = True

    def is_cut(self, link: Link) -> bool:
        """Whether frames vanish."""
        return bool(self.cuts.get(link))

    def delays(self) -> list[float]:
        """When copies of one frame arrive, in seconds from now; empty if the frame is lost."""
        weather, random = self.weather, self._random
        delay = weather.latency_s + weather.spread_s * random()
        if weather.exponential_s:
            delay -= weather.exponential_s * log(1.0 - random())
        if self._plain:
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
