"""The simulated world: processes that run the real Node, their machines, and virtual time.

A heap of (time, random tiebreak, number, call) is everything that will happen; one seed is one
history. The world drives a node exactly as the shell does: tick, entries, flush at the end of the
turn, an fsync at a time, a store that is reopened with back-off, a process that ends on a failed
fsync or on damage that stays. Frames are really encoded and decoded, so nodes share no state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from random import Random
from traceback import format_exc
from zlib import crc32

from dynamo_core.errors import BadFrame, StoreError
from dynamo_core.keys import HINTS, META, partition_of
from dynamo_core.membership.stored_ring import GONE_KEY
from dynamo_core.node import Node, NodeIdentity
from dynamo_core.ring.document import Entry, Ring
from dynamo_core.testing.addresses import seeds
from dynamo_core.testing.bad_memory import spoilt
from dynamo_core.testing.edges import frames_sent, ring_changed
from dynamo_core.testing.evidence import Evidence
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.fsyncs import RESTART_S, sync, want_reopen
from dynamo_core.testing.history import Setting, Trouble
from dynamo_core.testing.ladder import Ladder
from dynamo_core.testing.network import Network
from dynamo_core.testing.person import Person
from dynamo_core.testing.plan import CREATED_S, NAMES, READY_S, Limits, Plan, settings_of
from dynamo_core.testing.process import NEVER, Call, Process, WatchedDisk
from dynamo_core.testing.switches import Switches
from dynamo_core.testing.wire import Wires


class World(Evidence):
    """Time, processes, the network between them, and the history so far."""

    def __init__(self, plan: Plan, ladder: Ladder | None = None) -> None:
        super().__init__()
        self.plan = plan
        self.ladder = ladder
        self.rng = Random(plan.seed * 2 + 1)
        self._random = self.rng.random
        self.steps = 0
        self.trail = 0
        """A checksum over everything that happened: two runs of one plan must agree."""
        self.healed = self.converged = False
        self.healed_at = 0.0
        self.steps_after = CREATED_S if plan.created else READY_S
        self.events.append(Setting(plan.n, plan.lossy, plan.quiet))
        self.network = Network(plan.weather, self.rng)
        self.wires = Wires(self) if plan.wire.bad else None
        self.person = Person(self) if plan.approved else None
        self.settings = settings_of(plan)
        self._limited = plan.limits != Limits()
        self._heap: list[tuple[float, float, int, Call]] = []
        self._number = 0
        self.processes = [Process(name) for name in NAMES[: plan.nodes]]
        self.by_address = {p.address: p for p in self.processes}
        self.cut_until: dict[tuple[str, str], float] = {}
        """By directed link: until when it was cut, or full."""
        self.moves = 0
        """How often somebody has got another address."""
        self.switches = Switches()
        self.on_stop: Callable[[Process], None] = lambda process: None

    # ------------------------------------------------------------ time

    def later(self, delay: float, call: Call) -> None:
        """Arrange a call; ties are broken at random."""
        self._number += 1
        heappush(self._heap, (self.now + delay, self._random(), self._number, call))

    def run_until(self, end: float) -> None:
        """Let everything happen that is due before `end`."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, _, call = heappop(heap)
            self.steps += 1
            call()
        self.now = end

    def note(self, line: str) -> None:
        """A line of the ladder, when one is drawn."""
        if self.ladder is not None:
            self.ladder.note(self.now, line)

    # ------------------------------------------------------------ processes

    def new_disk(self, process: Process) -> None:
        """An empty disk with a new node id."""
        disk = WatchedDisk(self.rng.getrandbits(63))
        disk.watch, disk.met = self.found_record, self.count
        disk.dropped = partial(self._hint_dropped, process)
        disk.given_up = partial(self._given_up, process)
        disk.emptied = partial(self.disk_emptied, process)
        process.disk = disk

    def _hint_dropped(self, holder: Process, target: str, stored: bytes, data: bytes) -> None:
        stale = holder.node is not None and holder.node.quarantine.dropping
        rings = [p.ring for p in self.processes if p.ring is not None]
        removed = not all(ring.live([target]) for ring in rings)
        entries = [ring.entries[partition_of(stored, ring.partition_bits)] for ring in rings]
        for process in self.processes:
            if process.name == target and not stale:
                others = self._instead_of(process, entries, removed)
                self.hint_dropped(process, others, stored, data)

    def _given_up(self, process: Process, stored: bytes, data: bytes) -> None:
        node = process.node
        if node is None or not node.member or node.quarantine.dropping:
            return
        owners = node.ring.entries[partition_of(stored, node.ring.partition_bits)].owners
        names = node.ring.live(owners)
        self.record_given_up(process, [p for p in self.processes if p.name in names], stored, data)

    def _instead_of(self, target: Process, entries: list[Entry], removed: bool) -> list[Process]:
        """The owners, where the target owns the partition no more as far as anybody knows."""
        if not entries:
            return []
        newest = max(entries, key=lambda entry: (entry.term, entry.version))
        agreed = len({entry.owners for entry in entries}) == 1 and target.name in newest.owners
        if agreed and not removed:
            return []
        names = {name for entry in entries for name in entry.owners}
        return [p for p in self.processes if p.name in names]

    def start(self, process: Process) -> None:
        """Start the process unless it runs."""
        if process.node is not None:
            return
        gone = GONE_KEY in process.disk.rows[META]
        if gone and process.on_heal is not None:
            process.on_heal()  # the present life's disk is at hand
            return
        if gone:
            self.new_disk(process)  # as the shell does: the id will never come back
            self.count("emptied disk started under a new id")
        disk = process.disk
        disk.reopen()
        trusted = disk.marks.trusted(disk.number, process.machine_boot)
        disk.marks.start(trusted, process.machine_boot)
        process.life += 1
        process.silent = False
        self.network.started(process.name)
        process.held_at_start = self.held(disk) if disk.put_back else set()
        if disk.rows[HINTS]:
            self.count("hints kept over their holder's restart")
        identity = NodeIdentity(
            process.name, disk.node_id, process.address, process.client, seeds=seeds(self, process)
        )
        self.note(f"{process.name} starts{'' if trusted else ', its disk in doubt'}")
        node = Node(identity, disk, self.settings, self._draw)
        node.outbox.frame_bytes_max = self.plan.limits.frame_bytes
        process.node = node

        def begin() -> None:
            node.start(self.now + process.monotonic_s, self.wall_ms(process), trusted)

        self._guarded(process, begin)
        self.enter(process, lambda: None)

    def _draw(self) -> int:
        return self.rng.getrandbits(64)

    def wall_ms(self, process: Process) -> int:
        """What the machine's wall clock says."""
        return self.clocks.tell(self.now, process.wall_offset_ms)

    def set_wall_clock(self, process: Process, offset_ms: int) -> None:
        """A fault sets the machine's wall clock."""
        process.wall_offset_ms = offset_ms
        self.clocks.are_set(self.now, [p.wall_offset_ms for p in self.processes])

    def stop(self, process: Process, silent: bool = False) -> None:
        """kill -9: what is not written is gone."""
        process.disturb(self.now)
        if process.node is None:
            return
        self.note(f"{process.name} stops")
        self.counters.update(process.node.counters)
        if process.flush_due:
            self.count("died before its batch was written")
        process.node = None
        process.life += 1
        process.silent = silent
        process.paused = process.syncing = process.reopening = process.flush_due = False
        process.wakes_at = NEVER
        process.queue.clear()
        self.on_stop(process)

    def resume(self, process: Process) -> None:
        """SIGCONT: what has queued up happens at once."""
        if not process.paused:
            return
        process.paused = False
        process.disturb(self.now)
        queue, process.queue = process.queue, []
        for call in queue:
            self.enter(process, call)
        self.enter(process, lambda: None)

    def enter(self, process: Process, call: Call) -> None:
        """One entry into the node, and the end of its turn now or soon."""
        node = process.node
        if node is None:
            return
        if process.paused:
            process.queue.append(call)
            return

        def turn() -> None:
            node.tick(self.now + process.monotonic_s, self.wall_ms(process))
            call()

        self._guarded(process, turn)
        if process.node is not node or process.flush_due:
            return
        if self.plan.lag_s:
            process.flush_due = True
            life = process.life
            self.later(self.plan.lag_s * self._random(), lambda: self.flush(process, life))
        else:
            self.flush(process, process.life)

    def _guarded(self, process: Process, call: Call) -> None:
        try:
            call()
        except StoreError as error:
            # As the shell does: the store is salvaged at the next start.
            self.note(f"{process.name} cannot go on: {error}")
            self.count("store salvaged")
            life = process.life + 1
            self.damage(process, process.disk.salvage)
            self.stop(process)
            process.life = life
            self.later(RESTART_S, lambda: self.start(process))
        except BadFrame as error:
            self.events.append(Trouble("frames", f"{process.name} cannot read a frame: {error}"))
        except Exception:  # noqa: BLE001
            self.events.append(Trouble("fault", f"{process.name}: {format_exc(limit=-4)}"))
            self.stop(process)

    def flush(self, process: Process, life: int) -> None:
        """The end of a turn, unless that life of the process is over."""
        node = process.node
        if node is None or process.life != life:
            return
        if process.paused:
            process.queue.append(lambda: None)
            process.flush_due = False
            return
        process.flush_due = False
        frames: list[tuple[str, bytes]] = []
        self._guarded(process, lambda: self._written(process, node, frames))
        if self._limited:
            frames_sent(self, node, frames)
        for address, frame in frames:
            self._send(process, address, frame)
        if process.node is not node:
            return
        ring = node.ring_or_none
        if ring is not None and ring is not process.ring:
            self._ring_changed(process, ring)
        if not node.writable:
            want_reopen(self, process)
        elif node.sync_wanted and not process.syncing:
            sync(self, process)
        self._arm(process, node)

    def _ring_changed(self, process: Process, ring: Ring) -> None:
        """One switch a partition and term, and it names one owner more than before (C10)."""
        before, process.ring = process.ring, ring
        if before is not None:
            ring_changed(self, before, ring)
        if before is not None and self.person is not None:
            self.person.ring_changed(before, ring)
        for partition, entry in enumerate(ring.entries):
            if entry.old is None or (before is not None and before.entries[partition] is entry):
                continue
            detail = self.switches.seen(partition, entry, process.disk.node_id, self.removed)
            if detail:
                self.events.append(Trouble("C10", detail))

    def _written(self, process: Process, node: Node, frames: list[tuple[str, bytes]]) -> None:
        if node.quarantine.dropping:
            self.copy_dropped(process, lambda: frames.extend(node.flush()))
        else:
            frames += node.flush()

    def _arm(self, process: Process, node: Node) -> None:
        due = max(node.wake_at - process.monotonic_s, self.now + 0.0005)
        if due >= process.wakes_at or due == NEVER:
            return
        process.wakes_at = due
        life = process.life

        def wake() -> None:
            if process.life == life and process.wakes_at == due:
                process.wakes_at = NEVER
                self.enter(process, lambda: None)

        self.later(due - self.now, wake)

    # ------------------------------------------------------------ links

    def cut(self, sender: str, receiver: str, fault: Fault) -> None:
        """A directed cut for a while; silent or not by the fault's `amount`."""
        silent = fault.amount < 0.6
        self.network.cut(sender, receiver, silent)
        self._spoilt_link(sender, receiver, fault)
        self.note(f"cut {sender} -> {receiver}{', silently' if silent else ''}")
        self.later(fault.lasts, lambda: self.network.mend(sender, receiver, silent))

    def fill(self, sender: str, receiver: str, fault: Fault) -> None:
        """For a while the link takes no more."""
        self.network.fill(sender, receiver, self.now + fault.lasts)
        self.note(f"the link {sender} -> {receiver} is full")
        self._spoilt_link(sender, receiver, fault)

    def _spoilt_link(self, sender: str, receiver: str, fault: Fault) -> None:
        until = self.cut_until.get((sender, receiver), 0.0)
        self.cut_until[sender, receiver] = max(self.now + fault.lasts, until)

    def _send(self, sender: Process, address: str, frame: bytes) -> None:
        if sender.flips:
            frame = spoilt(frame, sender.flips, self.rng, self.count)
        receiver = self.by_address.get(address)
        names = (sender.name, receiver.name if receiver is not None else address)
        refused = receiver is None or (receiver.node is None and not receiver.silent)
        pausing = self.network.backs_off(*names, self.now)
        if pausing:
            self.count("frame dropped while its link backed off")
        life = sender.life
        if receiver is None or pausing or refused or self.network.breaks(*names):
            self.later(0.001, lambda: self.lost(sender, life, address))
            return
        if self.network.is_full(*names, self.now):
            self.count("frame dropped by a full link")
            self.later(0.001, lambda: self.lost(sender, life, address, stands=True))
            return
        cut = self.network.is_cut(*names)
        if self.ladder is not None:
            self.ladder.frame(self.now, *names, frame, "lost" if cut else "")
        if self.wires is not None:
            self.wires.send(sender, receiver, address, frame, cut)
        elif not cut:
            for delay in self.network.delays():
                self.later(delay, lambda: self.arrive(sender, receiver, address, frame))

    def lost(self, sender: Process, life: int, address: str, stands: bool = False) -> None:
        """The sender learns that its link is broken, or, where it stands, took no more: then there
        is nothing to dial."""
        node = sender.node
        if node is None or sender.life != life:
            return

        there = self.by_address.get(address)
        to = there.name if there is not None else address
        redial_s = NEVER if stands else self.network.broke(sender.name, to, self.now)

        def lost() -> None:
            for name in [name for name, known in node.addresses.items() if known == address]:
                node.link_lost(name, redial_s)
            node.link_lost("@" + address, redial_s)

        self.enter(sender, lost)

    def arrive(self, sender: Process, receiver: Process, address: str, frame: bytes) -> None:
        """A frame, unless its receiver is down, cut off, or no more at that address by now: a
        socket is bound to its address."""
        node = receiver.node
        if node is None or self.network.is_cut(sender.name, receiver.name):
            return
        if receiver.address != address:
            self.count("frame to an address that its receiver has left")
            return
        self.network.dialled(sender.name, receiver.name)
        self.trail = crc32(frame, self.trail ^ int(self.now * 1e6) & 0xFFFFFFFF)
        self.enter(receiver, lambda: node.receive(frame))
