"""Books of the bytes that all links of a node hold together, each with a bound (T-4).

*Arriving*: the beginnings of frames that are not whole yet. When they take all that they may, the
links that hold them are read no further, but for one, whose frame gets whole, so the book empties.
A link that holds nothing is still read, a little at a time: heartbeats pass.

*Waiting*: frames that their link has not sent yet. Half of the bytes go to the links that ask
first, the other half to each in an equal share, so a peer that does not read cannot take what the
others need. What has no room is refused, which the core takes as a lost frame.

A frame may be longer than there is room for (`MESSAGE_BYTES_MAX`), and must arrive all the same: in
each book one at a time goes beyond. So neither holds more than `bytes_max` and one frame; arriving
has `READ_BYTES_MIN` more for each link.
"""

from __future__ import annotations

from typing import Protocol

from dynamo_core.protocol.frames import MESSAGE_BYTES_MAX

ARRIVING_BYTES_MAX = 64 * 1024 * 1024
WAITING_BYTES_MAX = 96 * 1024 * 1024
READ_BYTES_MAX, READ_BYTES_MIN = 256 * 1024, 4 * 1024
"""Read from one link at once, and while there is no room."""


class LinkBytes:
    """How much is held, and how much may be."""

    __slots__ = ("bytes_max", "used")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0

    @property
    def most(self) -> int:
        """The bound in the worst case: with the one frame that goes beyond."""
        return self.bytes_max + MESSAGE_BYTES_MAX


class Reader(Protocol):
    """A link that is read."""

    counted: int
    """Of its bytes, as the book knows them; the book's own."""

    def pause(self) -> None:
        """Reads no more."""

    def resume(self) -> None:
        """Reads again."""


class Arriving(LinkBytes):
    """Beginnings of frames."""

    __slots__ = ("_first", "_paused")

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self._first: Reader | None = None
        """Its frame gets whole although there is no room."""
        self._paused: dict[Reader, None] = {}

    def room(self, link: Reader) -> int:
        """So many bytes the link may read next."""
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
    """Of its bytes, as the book knows them; the book's own."""

    def waiting(self) -> int:
        """Its bytes that have not been sent."""


class Waiting(LinkBytes):
    """Frames to be sent."""

    __slots__ = ("_half", "_holders", "_passing", "_passing_bytes")

    def __init__(self, bytes_max: int) -> None:
        super().__init__(bytes_max)
        self._half = bytes_max // 2
        self._holders: set[Sender] = set()
        self._passing: Sender | None = None
        self._passing_bytes = 0
        """Of the frame that goes beyond; not in `used`."""

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
        """The link is gone, and what waited with it."""
        self._know(link, 0)
        self._holders.discard(link)

    def _share(self, link: Sender, count: int) -> bool:
        """Looks at every link again; then whether there is room."""
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
