"""Evidence on the disks of a history: every version ever written, who holds it, who lost it."""

from __future__ import annotations

from collections import Counter

from dynamo_core.causality.codec import decode_record
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import History, Record, Sibling, decode_history
from dynamo_core.keys import DATA, HINTS, PREFIX_BYTES, store_key
from dynamo_core.protocol.operations import Outcome
from dynamo_core.protocol.staleness_messages import CANARY
from dynamo_core.ring.document import Entry
from dynamo_core.testing.disk import Disk
from dynamo_core.testing.expiries import WallClocks
from dynamo_core.testing.history import Damage, Dot, Event, Trouble
from dynamo_core.testing.process import Call, Process

BARE = 204
"""The status of a put whose answer shows only its own event."""


def _of_a_canary(stored: bytes) -> bool:
    """Canaries are not among the writes whose loss by a disk is known."""
    return stored.startswith(CANARY, PREFIX_BYTES)


def _fresh(after: History, before: History) -> list[tuple[int, int]]:
    """The dots that only the later history covers."""
    dots = set(after.dots)
    for actor, top in after.vector.items():
        dots |= {(actor, n) for n in range(before.vector.get(actor, 0) + 1, top + 1)}
    return sorted(dot for dot in dots if not before.covers_dot(dot))


def instead_of(target: str, entries: list[Entry], removed: bool) -> set[str]:
    """The owners of a partition, by its entries on all nodes, if no node knows the target as an
    owner of it any more."""
    if not entries:
        return set()
    newest = max(entries, key=lambda entry: (entry.term, entry.version))
    agreed = len({entry.owners for entry in entries}) == 1 and target in newest.owners
    if agreed and not removed:
        return set()
    return {name for entry in entries for name in entry.owners}


class Evidence:
    """Examines disks and writes events; the clients and the faults report their actions to it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.counters: Counter[str] = Counter()
        self.events: list[Event] = []
        self._records: dict[bytes, Record] = {}
        self._dots: set[tuple[bytes, int, int, str]] = set()
        self.dots_of: dict[int, list[tuple[int, int]]] = {}
        """The dots of each put, as records have them."""
        self.value_of: dict[tuple[bytes, bytes | str], int] = {}
        """The put of a sibling: by key and its bytes, or by its request id if it is a delete."""
        self.written: list[tuple[bytes, int]] = []
        """Key and id of every put and delete that was ever sent."""
        self.clocks = WallClocks()
        self.stamps: dict[int, set[int]] = {}
        """The time of expiry of each put's value, by attempt; 0 for never."""
        self.expiring = False
        """Whether any value is to expire."""
        self.shared_ids: set[int] = set()
        """Writes that share their request id with another write: either may remain (S-REQ-2)."""
        self.damaged: dict[int, set[str]] = {}
        self.removed: set[int] = set()
        """Ids of nodes that were removed by force: the administrator had to fence them."""

    def count(self, name: str) -> None:
        """Counts a state that a long run must reach at least once."""
        self.counters[name] += 1

    def found_record(self, stored: bytes, data: bytes) -> None:
        """Every version ever written has its own dot (C5)."""
        if data in self._records:
            return
        record = self._records[data] = decode_record(data)
        key = stored[4:]
        for sibling in record.siblings:
            name = sibling.value if sibling.value is not None else sibling.request_id
            value = self.value_of.get((key, name), 0)
            self.judge_expiry(value, sibling)
            what = f"v{value}" if value else f"{sibling.value!r} {sibling.request_id}"
            place = (key, sibling.actor, sibling.counter, what)
            if place not in self._dots:
                self._dots.add(place)
                self.events.append(Dot(*place))
                if value:
                    self.dots_of.setdefault(value, []).append(sibling.dot)
                    if len(self.dots_of[value]) > 1:
                        self.count("one request has two dots")

    def judge_expiry(self, value: int, sibling: Sibling) -> None:
        """S-TTL-1: each version of a put expires at a time that was stamped for it."""
        stamps = self.stamps.get(value)
        if stamps is not None and sibling.value is not None and sibling.expires_ms not in stamps:
            detail = f"v{value} expires at {sibling.expires_ms}, stamped were {sorted(stamps)}"
            self.events.append(Trouble("S-TTL-1", detail))

    def acknowledged(self, value: int, sent: bytes, before: Context | None, told: Outcome) -> bool:
        """Whether the answer to a put shows the put's dot. A record that was superseded in its own
        batch never shows it. A bare answer shows it by the difference of its context to the sent
        one (S-CTX-2), an answer with the record by the sibling itself."""
        if told.status == BARE and told.context is not None:
            known = decode_history(before.history) if before is not None else History()
            dots = _fresh(decode_history(told.context.history), known)
        else:
            dots = [sibling.dot for sibling in told.values if sibling.value == sent]
        mine = self.dots_of.get(value, [])
        if new := [dot for dot in dots if dot not in mine]:
            self.dots_of[value] = mine + new
        return bool(dots)

    def siblings_on(self, disk: Disk, key: bytes) -> list[Sibling]:
        """The versions of a key on a disk, also hinted ones."""
        records = map(self._records.get, disk.records(store_key(key)))
        return [s for record in records if record is not None for s in record.siblings]

    def holds(self, disk: Disk, key: bytes, value: int, durable: bool = False) -> bool:
        """Whether a disk holds a put, or a successor of the put."""
        dots = self.dots_of.get(value, ())
        for data in disk.records(store_key(key), durable):
            record = self._records.get(data)  # None: a fault has written bytes that are no record
            if record is not None and any(map(record.history.covers_dot, dots)):
                return True
        return False

    def lost_with(self, name: str, value: int) -> bool:
        """Whether a disk of that node lost the put."""
        return name in self.damaged.get(value, ())

    def held(self, disk: Disk, durable: bool = False) -> set[int]:
        """The puts that a disk holds, also as a successor."""
        return {v for key, v in self.written if self.holds(disk, key, v, durable)}

    def _rows(self, disk: Disk) -> dict[bytes, list[bytes]]:
        return {key: disk.records(store_key(key)) for key, _ in self.written}

    def damage(
        self, process: Process, change: Call, silent: bool = False, rot: bool = False
    ) -> None:
        """Change a disk and record what it lost. `rot`: written data is lost, synced or not, and a
        later fsync still reports success."""
        process.disturb(self.now)
        process.remember()
        before, rows = self.held(process.disk), self._rows(process.disk)
        durable = self.held(process.disk, durable=True)
        change()
        gone = before - self.held(process.disk)
        if gone - durable:
            self.count("written but not synced, and lost")
        if gone & durable:
            self.count("synced, and lost with its disk")
        changed = {key for key, records in self._rows(process.disk).items() if records != rows[key]}
        nameless = {v for key, v in self.written if key in changed and v not in self.dots_of}
        lasting_loss = gone if rot else gone & durable
        process.lost_some = process.lost_some or bool(lasting_loss or nameless)
        for value in sorted(gone | nameless):
            self.damaged.setdefault(value, set()).add(process.name)
            lasting = value in lasting_loss or value in nameless
            self.events.append(Damage(value, process.name, silent, lasting))

    def copy_dropped(self, process: Process, change: Call) -> None:
        """S-DEL-3: a node drops a copy that missed a round. What it held of the copy at its start
        counts as lost; records that it took since then must be in quarantine."""
        if process.node is not None and not process.node.member:
            self.count("disk of a removed node found stale")
        elif process.disk.put_back:
            self.count("rolled-back disk found stale")
        else:
            detail = f"{process.name} drops a copy although its disk was never put back"
            self.events.append(Trouble("S-DEL-3", detail))
        before = self.held(process.disk)
        change()
        process.lost_some = True
        for value in sorted((before - self.held(process.disk)) & process.held_at_start):
            self.damaged.setdefault(value, set()).add(process.name)
            self.events.append(Damage(value, process.name, silent=True))

    def record_given_up(
        self, process: Process, owners: list[Process], stored: bytes, data: bytes
    ) -> None:
        """S-MOVE-5: a node deletes data of others only when all owners hold it durably."""
        if _of_a_canary(stored):
            return
        mine = self._records[data].history
        for owner in owners:
            held = owner.disk.records(stored, durable=True)
            if not owner.lost_some and not any(
                self._records[row].history.descends(mine) for row in held
            ):
                detail = f"{process.name} gave up {stored[4:]!r}, which {owner.name} does not hold"
                self.events.append(Trouble("S-MOVE-5", detail))

    def disk_emptied(self, process: Process) -> None:
        """S-MEM-3: a replaced node empties its disk after it has handed over all its records."""
        rows = process.disk.rows
        if left := len(rows[DATA]) + len(rows[HINTS]):
            detail = f"{process.name} empties its disk with {left} records on it"
            self.events.append(Trouble("S-MEM-3", detail))

    def hint_dropped(
        self, target: Process, others: list[Process], stored: bytes, data: bytes
    ) -> None:
        """C12: a hint disappears only after its target holds it durably, or another owner if the
        target does not own the partition any more."""
        if _of_a_canary(stored):
            return
        if target.old_disks:
            self.count("hint delivered to a later life")
        hint = self._records[data].history
        keepers = [target, *others]
        if any(process.lost_some for process in keepers):
            return
        found = [row for p in keepers for row in p.disk.records(stored, durable=True)]
        if not any(self._records[mine].history.descends(hint) for mine in found):
            detail = f"a hint of {stored[4:]!r} for {target.name} was dropped before it had it"
            self.events.append(Trouble("C12", detail))
