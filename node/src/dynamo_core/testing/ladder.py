"""The message sequence of a history as text: one column a node, one line an event.

What every second brings is left out: heartbeats, knocks, roots that are compared.
"""

from __future__ import annotations

from dynamo_core.frames import decode_frame
from dynamo_core.messages import Message, Roots, RootsReply
from dynamo_core.operations import Operation, Outcome
from dynamo_core.ring_messages import Admit, Gossip

BACKGROUND = (Admit, Gossip, Roots, RootsReply)
COLUMN = 10
FIELD_BYTES_MAX = 40


class Ladder:
    """Collects lines."""

    def __init__(self, names: str, lines_max: int = 5000) -> None:
        self._names = names
        self._lines_max = lines_max
        self._dropped = 0
        self.lines = [" " * 11 + "".join(name.center(COLUMN) for name in names)]

    def note(self, now: float, text: str) -> None:
        """Something that is not a frame."""
        self._add(f"{now:9.4f}  {text}")

    def frame(self, now: float, sender: str, receiver: str, data: bytes, mark: str) -> None:
        """One frame between two nodes; `mark` says when it does not arrive."""
        messages = [m for m in decode_frame(data).messages if not isinstance(m, BACKGROUND)]
        if not messages:
            return
        first, second = sorted((self._names.index(sender), self._names.index(receiver)))
        width = COLUMN * (second - first) - 2
        right = sender < receiver
        arrow = "-" * (width - 1) + ">" if right else "<" + "-" * (width - 1)
        lane = " " * (COLUMN * first + COLUMN // 2) + "|" + arrow + "|"
        lane = lane.ljust(COLUMN * len(self._names))
        said = "; ".join(short(message) for message in messages)
        self._add(f"{now:9.4f}  {lane} {mark + ' ' if mark else ''}{said}")

    def _add(self, line: str) -> None:
        if len(self.lines) < self._lines_max:
            self.lines.append(line)
        else:
            self._dropped += 1

    def text(self) -> str:
        """The whole picture."""
        tail = [f"... {self._dropped} more lines"] if self._dropped else []
        return "\n".join(self.lines + tail)


def short(message: Message | Operation | Outcome) -> str:
    """Its name and what its fields say, without those that say nothing."""
    fields = []
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if value and value != (0, 0):
            text = repr(value)
            long = len(text) > FIELD_BYTES_MAX
            fields.append(f"{name}={text[:FIELD_BYTES_MAX]}{'…' if long else ''}")
    return f"{type(message).__name__}({', '.join(fields)})"
