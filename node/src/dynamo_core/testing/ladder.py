"""The message sequence of a history as text: one column for each node, one line for each event.

Frequent messages are left out: heartbeats, knocks, compared roots.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynamo_core.protocol.frames import decode_frame
from dynamo_core.protocol.messages import Message, Roots, RootsReply
from dynamo_core.protocol.ring_messages import Admit, Gossip
from dynamo_core.testing.message_text import ActorName, message_text, number_of

BACKGROUND: tuple[type[Message], ...] = (Admit, Gossip, Roots, RootsReply)
COLUMN = 10


class Ladder:
    """Collects lines. `names` are the nodes in the order of their columns; messages of the types in
    `hidden` are left out; `actor_name` gives an actor its name."""

    def __init__(
        self,
        names: Sequence[str],
        lines_max: int = 5000,
        actor_name: ActorName = number_of,
        hidden: tuple[type[Message], ...] = BACKGROUND,
        column: int = COLUMN,
    ) -> None:
        self._names = names
        self._lines_max = lines_max
        self._actor_name = actor_name
        self._hidden = hidden
        self._column = column
        self._dropped = 0
        self.lines = [" " * 11 + "".join(name.center(column) for name in names)]

    def note(self, now: float, text: str) -> None:
        """Adds an event that is not a frame."""
        self._add(f"{now:9.4f}  {text}")

    def frame(self, now: float, sender: str, receiver: str, data: bytes, mark: str) -> None:
        """One frame between two nodes; `mark` says so if it does not arrive."""
        messages = [m for m in decode_frame(data).messages if not isinstance(m, self._hidden)]
        if not messages:
            return
        first, second = sorted((self._names.index(sender), self._names.index(receiver)))
        width = self._column * (second - first) - 2
        right = sender < receiver
        arrow = "-" * (width - 1) + ">" if right else "<" + "-" * (width - 1)
        lane = " " * (self._column * first + self._column // 2) + "|" + arrow + "|"
        lane = lane.ljust(self._column * len(self._names))
        said = "; ".join(message_text(message, self._actor_name) for message in messages)
        self._add(f"{now:9.4f}  {lane} {mark + ' ' if mark else ''}{said}")

    def _add(self, line: str) -> None:
        if len(self.lines) < self._lines_max:
            self.lines.append(line)
        else:
            self._dropped += 1

    def text(self) -> str:
        """The whole picture."""
        tail = [f"... {self._dropped} more lines"] if self._dropped else []
        return "\n".join(line.rstrip() for line in self.lines + tail)
