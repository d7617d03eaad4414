"""A simulated disk: a journal with a durable prefix, and all faults of a disk.

A write is visible at once and survives a crash of the process (level wal); a power cut keeps a
random prefix of the journal, at least the durable one. `marks` are the side file (S-DISK-2): what a
start knows about the last one. A damaged row is one that the engine reports: reading it raises
Corrupt until it is written again.
"""

from __future__ import annotations

from random import Random

from dynamo_core.errors import Corrupt, StoreFailed, StoreFull
from dynamo_core.keys import DATA, HINTS, until_full
from dynamo_core.replica.store import ENDLESS, Change

Row = tuple[int, bytes]


class Marks:
    """The side file: last durable number, clean stop, doubt, boot of the machine."""

    __slots__ = ("boot", "clean", "doubted", "durable", "present")

    def __init__(self) -> None:
        self.present = False
        self.durable = 0
        self.clean = False
        self.doubted = False
        self.boot = 0

    def trusted(self, sequence: int, boot: int) -> bool:
        """The judgement of the shell at a start."""
        if not self.present:
            return sequence == 0
        if sequence < self.durable or self.doubted:
            return False
        return self.clean or self.boot == boot

    def start(self, trusted: bool, boot: int) -> None:
        """The mark of a running process."""
        self.present, self.clean, self.boot = True, False, boot
        self.doubted = not trusted

    def copy(self) -> Marks:
        """For a copy of the directory."""
        other = Marks()
        other.present, other.durable, other.clean = self.present, self.durable, self.clean
        other.doubted, other.boot = self.doubted, self.boot
        return other


class Disk:
    """A Store. `full` and `failing` make writes fail; `node_id` belongs to the disk."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.marks = Marks()
        self.rows: list[dict[bytes, bytes]] = [{}, {}, {}, {}]
        self.written = 0
        self.durable = 0
        self.full = False
        self.failing = 0.0
        self.broken = False
        self.corrupt: set[Row] = set()
        self.put_back = False
        """It is older than its node's last writes: a backup, or the disk of an earlier life."""
        self.buried: dict[bytes, list[bytes]] = {}
        """By store key: records forgotten with proof. They count as held: numbers cover them."""
        self._undo: list[tuple[int, list[Change]]] = []

    def get(self, family: int, key: bytes) -> bytes | None:
        """Raises Corrupt."""
        if self.corrupt and (family, key) in self.corrupt:
            raise Corrupt(family, key, "simulated damage")
        return self.rows[family].get(key)

    def scan(
        self, family: int, start: bytes, end: bytes | None, limit: int, bytes_max: int = ENDLESS
    ) -> list[tuple[bytes, bytes]]:
        """Rows in order. Raises Corrupt."""
        rows = self.rows[family]
        if not rows:
            return []
        keys = sorted([k for k in rows if start <= k and (end is None or k < end)])[:limit]
        if bytes_max != ENDLESS:
            keys = keys[: len(until_full([(key, rows[key]) for key in keys], bytes_max))]
        if self.corrupt:
            for key in keys:
                if (family, key) in self.corrupt:
                    raise Corrupt(family, key, "simulated damage")
        return [(key, rows[key]) for key in keys]

    def write(self, batch: list[Change]) -> int:
        """Raises StoreFull, with nothing applied, or StoreFailed, with an unknown outcome."""
        if self.full:
            raise StoreFull("simulated: no space")
        if self.broken:
            raise StoreFailed("simulated: an earlier write failed")
        if self.failing:
            # Applied if below one half: the writer cannot know.
            self.broken = True
            if self.failing < 0.5:
                self._apply(batch)
            raise StoreFailed("simulated: unknown outcome")
        self._apply(batch)
        return self.written

    def _apply(self, batch: list[Change]) -> None:
        undo: list[Change] = []
        for family, key, value in batch:
            rows = self.rows[family]
            undo.append((family, key, rows.get(key)))
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
            if self.corrupt:
                self.corrupt.discard((family, key))
        self.written += len(batch)
        self._undo.append((self.written, undo))

    def sequence(self) -> int:
        """The number of changes so far."""
        return self.written

    # ------------------------------------------------------------ calls of the world only

    def synced(self, sequence: int) -> None:
        """The fsync that began at `sequence` has ended."""
        self.durable = self.marks.durable = max(self.durable, sequence)
        self.marks.doubted = False
        self._undo = [line for line in self._undo if line[0] > sequence]

    def reopen(self) -> None:
        """Accepts writes again."""
        self.broken = False

    def power_cut(self, rng: Random) -> None:
        """Keeps a random prefix that is at least the durable one."""
        keep = rng.randint(0, len(self._undo))
        for _, undo in reversed(self._undo[keep:]):
            for family, key, value in reversed(undo):
                self.corrupt.discard((family, key))
                if value is None:
                    self.rows[family].pop(key, None)
                else:
                    self.rows[family][key] = value
        # Writes go on at the end of a cut log, so numbers are used again.
        self.written = self._undo[keep - 1][0] if keep else self.durable
        self.durable = self.written
        self._undo = []

    def copy(self) -> Disk:
        """A backup of the whole directory."""
        other = Disk(self.node_id)
        other.marks = self.marks.copy()
        other.rows = [dict(rows) for rows in self.rows]
        other.written, other.durable = self.written, self.durable
        other.corrupt = set(self.corrupt)
        other.buried = {key: list(rows) for key, rows in self.buried.items()}
        return other

    def take_journal(self, other: Disk) -> None:
        """The journal of the disk of which this is a copy: a power cut may take its end."""
        self._undo = list(other._undo)

    def salvage(self) -> None:
        """A start after lasting damage: deletes unreadable rows and distrusts the disk."""
        for family, key in self.corrupt:
            self.rows[family].pop(key, None)
        self.corrupt = set()
        self.marks.doubted = True

    def records(self, key: bytes, durable: bool = False) -> list[bytes]:
        """All records of a store key here: data, hints and buried ones; with `durable`, as of the
        last fsync."""
        places = [(DATA, key)]
        if self.rows[HINTS]:
            places += [(HINTS, k) for k in self.rows[HINTS] if k.endswith(key)]
        if durable:
            undone = [line for _, undo in self._undo for line in undo]
            places += [(f, k) for f, k, _ in undone if f == HINTS and k.endswith(key)]
        found = list(self.buried.get(key, ()))
        for place in dict.fromkeys(places):
            row = None if place in self.corrupt else self.rows[place[0]].get(place[1])
            if durable:
                row = next((v for f, k, v in undone if (f, k) == place), row)
            if row is not None:
                found.append(row)
        return found
