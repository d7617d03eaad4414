"""What a part of the simulated world may reach, in place of the whole `World`."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Protocol

from dynamo_core.settings import Settings
from dynamo_core.testing.history import Event
from dynamo_core.testing.network import Network
from dynamo_core.testing.process import Call, Process


class Surroundings(Protocol):
    """Time, the processes and the network between them, the history so far."""

    now: float
    healed: bool
    rng: Random
    settings: Settings
    network: Network
    processes: list[Process]
    counters: Counter[str]
    events: list[Event]

    def count(self, name: str) -> None:
        """A state that a long run must reach at least once."""

    def note(self, line: str) -> None:
        """A line of the ladder, when one is drawn."""

    def later(self, delay: float, call: Call) -> None:
        """Arrange a call."""

    def start(self, process: Process) -> None:
        """Start the process unless it runs."""

    def stop(self, process: Process) -> None:
        """kill -9."""

    def enter(self, process: Process, call: Call) -> None:
        """One call into the node."""

    def arrive(self, sender: Process, receiver: Process, address: str, frame: bytes) -> None:
        """A frame has come through the network."""

    def lost(self, sender: Process, life: int, address: str) -> None:
        """The sender learns that its link is broken."""
