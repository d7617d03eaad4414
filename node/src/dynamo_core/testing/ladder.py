"""The message sequence of a history as text: one column a node, one line an event."""

from __future__ import annotations

from dynamo_core.messages import Gossip, Message, decode_frame

COLUMN = 10
FIELD_BYTES_MAX = 40


class Ladder:
    """Collects lines; heartbeats alone are left out."""

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
        messages = [m for m in decode_frame(data).messages if not isinstance(m, Gossip)]
        if not messages:
            return
        first, second = sorted((self._names.index(sender), self._names.index(receiver)))
        width = COLUMN * (second - first) - 2
        right = sender < receiver
        arrow = "-" * (width - 1) + ">" if right else "<" + "-" * (width - 1)
        lane = " " * (COLUMN * first + COLUMN // 2) + "|" + arrow + "|"
        lane = lane.ljust(COLUMN * len(self._names))
        said = "; ".join(_short(message) for message in messages)
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


def _short(message: Message) -> str:
    fields = []
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if value or value == 0:
            text = repr(value)
            long = len(text) > FIELD_BYTES_MAX
            fields.append(f"{name}={text[:FIELD_BYTES_MAX]}{'…' if long else ''}")
    return f"{type(message).__name__}({', '.join(fields)})"
