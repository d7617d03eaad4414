"""The bytes that all links of a node hold together: two books, each with a bound (T-4).

*Arriving*: beginnings of frames that are not complete yet. When they use all bytes of the book, the
node stops reading the links that hold them, except one: its frame completes, so the book empties. A
link that holds nothing is still read in small parts, so heartbeats pass.

*Waiting*: frames that their link has not sent yet. Half of the bytes go to the links that ask
first, and each link has an equal share of the other half, so a peer that does not read cannot take
what other links need. A frame without room is refused; for the core it is a lost frame.

A frame may be longer than the room that is left (`MESSAGE_BYTES_MAX`), and must arrive anyway: in
each book, one frame at a time may exceed the bound. So each book holds at most `bytes_max` and one
frame; arriving has `READ_BYTES_MIN` more for each link.
"""

from __future__ import annotations

from typing import Protocol

from dynamo_core.protocol.frames import MESSAGE_BYTES_MAX

ARRIVING_BYTES_MAX = 64 * 1024 * 1024
WAITING_BYTES_MAX = 96 * 1024 * 1024
READ_BYTES_MAX, READ_BYTES_MIN = 256 * 1024, 4 * 1024
"""Bytes read from one link at once: normally, and while there is no room."""


class LinkBytes:
    """The bytes that are held, and their bound."""

    __slots__ = ("bytes_max", "used")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0

    @property
    def most(self) -> int:
        """The bound in the worst case: with the one frame that exceeds it."""
        return self.bytes_max + MESSAGE_BYTES_MAX


class Reader(Protocol):
    """A link that is read."""

    counted: int
    """The link's bytes in the book; only the book changes this."""

    def pause(self) -> None:
        """Read nothing more."""

    def resume(self) -> None:
        """Reads again."""


class Arriving(LinkBytes):
    """Beginnings of frames."""

    __slots__ = ("_first", "_paused")

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self._first: Reader | None = None
        """The one link whose frame may complete although there is no room."""
        self._paused: dict[Reader, None] = {}

    def room(self, link: Reader) -> int:
        """How many bytes the link may read next."""
        if link is self._first:
            return READ_BYTES_MAX
        return min(READ_BYTES_MAX, max(READ_BYTES_MIN, self.bytes_max - self.used))

    def hold(self, link: Reader, count: int) -> None:
        """The link holds `count` bytes now; 0: its frame is complete, or the link is closed."""
        self.used += count - link.counted
        link.counted = count
        if not count:
            self._paused.pop(link, None)
            if self._first is link:
                self._first = None
            if self._paused:
                self._go_on()
        elif self.used >= self.bytes_max and self._first is not link:
            if self._first is None:
                self._first = link
            else:
                self._paused[link] = None
                link.pause()

    def _go_on(self) -> None:
        while self._paused:
            if self.used >= self.bytes_max:
                if self._first is not None:
                    return
                self._first = next(iter(self._paused))
            link = next(iter(self._paused))
            del self._paused[link]
            link.resume()


class Sender(Protocol):
    """A link that sends."""

    counted: int
    """The link's bytes in the book; only the book changes this."""

    def waiting(self) -> int:
        """Its bytes that are not sent yet."""


class Waiting(LinkBytes):
    """Frames to be sent."""

    __slots__ = ("_half", "_holders", "_passing", "_passing_bytes")

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self._half = bytes_max // 2
        self._holders: set[Sender] = set()
        self._passing: Sender | None = None
        self._passing_bytes = 0
        """Bytes of the frame that exceeds the bound; not in `used`."""

    def take(self, link: Sender, waiting: int, count: int) -> bool:
        """Take room for `count` more bytes; `waiting` bytes are on the link already. False: there
        is no room."""
        used = self.used + waiting - link.counted + count
        if used <= self._half and link is not self._passing:
            self.used, link.counted = used, waiting + count
            self._holders.add(link)
            return True
        self._know(link, waiting)
        if self.used + count > self._half and not self._share(link, count):
            if waiting or self._passing is not None:
                return False
            self._passing, self._passing_bytes = link, count
            return True
        self.used += count
        link.counted += count
        self._holders.add(link)
        return True

    def leave(self, link: Sender) -> None:
        """The link is gone, with its waiting frames."""
        self._know(link, 0)
        self._holders.discard(link)

    def _share(self, link: Sender, count: int) -> bool:
        """Counts every link again, then says whether there is room."""
        for holder in list(self._holders):
            self._know(holder, holder.waiting())
            if not holder.counted and holder is not link:
                self._holders.discard(holder)
        if self._passing is not None:
            self._know(self._passing, self._passing.waiting())
        if self.used + count <= self._half:
            return True
        share = self._half // len(self._holders | {link})
        return self.used + count <= self.bytes_max and link.counted + count <= share

    def _know(self, link: Sender, waiting: int) -> None:
        if link is self._passing:
            if waiting:
                waiting = max(0, waiting - self._passing_bytes)
            else:
                self._passing, self._passing_bytes = None, 0
        self.used += waiting - link.counted
        link.counted = waiting
