"""The simulated world: processes that run the real Node, their machines, and virtual time.

A heap of (time, random tiebreak, number, call) has everything that will happen; one seed is one
history. The world drives a node exactly as the shell does: tick, entries, flush at the end of the
turn, one fsync at a time, a store that is reopened with back-off, a process that ends after a
failed fsync or lasting damage. Frames are really encoded and decoded, so nodes share no state.
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
from dynamo_core.protocol.route import At
from dynamo_core.replica.hint_target import HintTarget
from dynamo_core.ring.document import Ring
from dynamo_core.testing import versions
from dynamo_core.testing.backups import Backups
from dynamo_core.testing.bad_memory import spoilt
from dynamo_core.testing.edges import frames_sent, ring_changed
from dynamo_core.testing.evidence import Evidence, instead_of
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.fsyncs import RESTART_S, sync, want_reopen
from dynamo_core.testing.history import Setting, Trouble
from dynamo_core.testing.ladder import Ladder
from dynamo_core.testing.network import BACKS_OFF, BROKEN, CUT, FULL, UP, Network
from dynamo_core.testing.person import Person
from dynamo_core.testing.plan import CREATED_S, READY_S, Limits, Plan, settings_of
from dynamo_core.testing.process import NEVER, Call, Process, WatchedDisk, seeds
from dynamo_core.testing.switches import Switches
from dynamo_core.testing.wire import Wires


def nothing() -> None:
    """Enter a node just to let it do what is due."""


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
        """A checksum over all events: two runs of one plan must have the same."""
        self.healed = self.converged = False
        self.healed_at = 0.0
        self.steps_after = CREATED_S if plan.created else READY_S
        self.events.append(Setting(plan.n, plan.lossy, plan.quiet))
        self.network = Network(plan.weather, self.rng)
        self.wires = Wires(self, plan.wire, plan.seed) if plan.wire.bad else None
        self.person = Person(self) if plan.approved else None
        self.settings = settings_of(plan)
        self._limited = plan.limits != Limits()
        self._lag_s = plan.lag_s
        self._heap: list[tuple[float, float, int, Call]] = []
        self._queued = 0
        self.processes = [Process(name) for name in plan.names]
        for node in plan.older:
            self.processes[node % plan.nodes].older = True
        self.by_address = {p.address: p for p in self.processes}
        self.cut_until: dict[tuple[str, str], float] = {}
        """By directed link: until when it was cut or full."""
        self.moves = 0
        """How many nodes have got another address."""
        self.switches = Switches()
        self.backups = Backups(self)
        self.on_stop: Callable[[Process], None] = lambda process: None

    # ------------------------------------------------------------ time

    def later(self, delay: float, call: Call) -> None:
        """Schedule a call; equal times have a random order."""
        self._queued += 1
        heappush(self._heap, (self.now + delay, self._random(), self._queued, call))

    def run_until(self, end: float) -> None:
        """Run everything that is due before `end`."""
        heap, steps = self._heap, 0
        while heap and heap[0][0] <= end:
            self.now, _, _, call = heappop(heap)
            steps += 1
            call()
        self.steps += steps
        self.now = end

    def note(self, line: str) -> None:
        """Adds a line to the ladder, if one is drawn."""
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

    def _hint_dropped(
        self, holder: Process, target: HintTarget, stored: bytes, data: bytes
    ) -> None:
        if not isinstance(target, str):
            return
        stale = holder.node is not None and holder.node.quarantine.dropping
        rings = [p.ring for p in self.processes if p.ring is not None]
        removed = not all(ring.live([target]) for ring in rings)
        entries = [ring.entries[partition_of(stored, ring.partition_bits)] for ring in rings]
        for process in self.processes:
            if process.name == target and not stale:
                names = instead_of(target, entries, removed)
                others = [p for p in self.processes if p.name in names]
                self.hint_dropped(process, others, stored, data)

    def _given_up(self, process: Process, stored: bytes, data: bytes) -> None:
        node = process.node
        if node is None or not node.member or node.quarantine.dropping:
            return
        owners = node.ring.entries[partition_of(stored, node.ring.partition_bits)].owners
        names = node.ring.live(owners)
        self.record_given_up(process, [p for p in self.processes if p.name in names], stored, data)

    def start(self, process: Process) -> None:
        """Start the process unless it runs."""
        if process.node is not None:
            return
        gone = GONE_KEY in process.disk.rows[META]
        if gone and process.on_heal is not None:
            process.on_heal()  # put the present life's disk back
            return
        if gone:
            self.new_disk(process)  # as the shell does: the id never returns
            self.count("emptied disk started under a new id")
        disk = process.disk
        disk.reopen()
        trusted = disk.marks.trusted(disk.written, process.machine_boot)
        disk.marks.start(trusted, process.machine_boot)
        process.life += 1
        process.silent = False
        self.network.started(process.name)
        process.held_at_start = self.held(disk) if disk.put_back else set()
        if disk.rows[HINTS]:
            self.count("hints kept over their holder's restart")
        identity = NodeIdentity(
            process.name,
            disk.node_id,
            process.address,
            process.client,
            seeds=seeds(self.processes, process),
        )
        self.note(f"{process.name} starts{'' if trusted else ', its disk in doubt'}")
        node = Node(identity, disk, self.settings, self._draw)
        node.outbox.frame_bytes_max = self.plan.limits.frame_bytes
        process.node = node
        self.backups.connect(process, node)
        versions.begin(process, node)
        try:
            node.start(self.now + process.monotonic_s, self.wall_ms(process), trusted)
        except Exception as error:  # noqa: BLE001
            self._failed(process, error)
        self.enter(process, nothing)

    def _draw(self) -> int:
        return self.rng.getrandbits(64)

    def wall_ms(self, process: Process) -> int:
        """The machine's wall clock."""
        return self.clocks.tell(self.now, process.wall_offset_ms)

    def set_wall_clock(self, process: Process, offset_ms: int) -> None:
        """A fault sets the machine's wall clock."""
        process.wall_offset_ms = offset_ms
        self.clocks.are_set(self.now, [p.wall_offset_ms for p in self.processes])

    def stop(self, process: Process, silent: bool = False) -> None:
        """kill -9: unwritten data is lost."""
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
        """SIGCONT: queued calls happen at once."""
        if not process.paused:
            return
        process.paused = False
        process.disturb(self.now)
        queue, process.queue = process.queue, []
        for call in (*queue, nothing):
            self.enter(process, call)

    def enter(self, process: Process, call: Call) -> None:
        """One call into the node, and the end of its turn now or soon."""
        node = process.node
        if node is None:
            return
        if process.paused:
            process.queue.append(call)
            return
        try:
            wall_ms = self.clocks.tell(self.now, process.wall_offset_ms)
            node.tick(self.now + process.monotonic_s, wall_ms)
            call()
        except Exception as error:  # noqa: BLE001
            self._failed(process, error)
        if process.node is not node or process.flush_due:
            return
        if self._lag_s:
            process.flush_due = True
            delay = self._lag_s * self._random()
            self.later(delay, partial(self.flush, process, process.life))
        else:
            self.flush(process, process.life)

    def _failed(self, process: Process, error: Exception) -> None:
        """What the shell does about an error that the node has raised."""
        if isinstance(error, StoreError):
            # As in the shell: the next start salvages the store.
            self.note(f"{process.name} cannot go on: {error}")
            self.count("store salvaged")
            life = process.life + 1
            self.damage(process, process.disk.salvage)
            self.stop(process)
            process.life = life
            self.later(RESTART_S, lambda: self.start(process))
        elif isinstance(error, BadFrame):
            self.events.append(Trouble("frames", f"{process.name} cannot read a frame: {error}"))
        else:
            self.events.append(Trouble("fault", f"{process.name}: {format_exc(limit=-4)}"))
            self.stop(process)

    def flush(self, process: Process, life: int) -> None:
        """The end of a turn, unless that life of the process has ended."""
        node = process.node
        if node is None or process.life != life:
            return
        if process.paused:
            process.queue.append(nothing)
            process.flush_due = False
            return
        process.flush_due = False
        try:
            if node.quarantine.dropping:
                frames: list[tuple[str, bytes]] = []
                self.copy_dropped(process, lambda: frames.extend(node.flush()))
            else:
                frames = node.flush()
        except Exception as error:  # noqa: BLE001
            self._failed(process, error)
            frames = []
        if frames:
            if self._limited:
                frames_sent(self, self.plan.limits, node, frames)
            for address, frame in frames:
                self._send(process, address, frame)
        if process.node is not node:
            return
        ring = node.ring_or_none
        if ring is not None and ring is not process.ring:
            self._ring_changed(process, ring)
        if not node.writable:
            want_reopen(self, process)
        elif not process.syncing and node.sync_wanted:
            sync(self, process)
        due = node.wake_at - process.monotonic_s
        if due < process.wakes_at:
            self._arm(process, due)

    def _ring_changed(self, process: Process, ring: Ring) -> None:
        """Each partition switches once in a term, and a switch adds one owner (C10)."""
        before, process.ring = process.ring, ring
        if before is not None:
            ring_changed(self, before, ring)
        if before is not None and self.person is not None:
            self.person.ring_changed(before, ring)
        for partition, entry in enumerate(ring.entries):
            if entry.old is None or (before is not None and before.entries[partition] is entry):
                continue
            detail = self.switches.hear(partition, entry, process.disk.node_id, self.removed)
            if detail:
                self.events.append(Trouble("C10", detail))

    def _arm(self, process: Process, due: float) -> None:
        due = max(due, self.now + 0.0005)
        if due >= process.wakes_at or due == NEVER:
            return
        process.wakes_at = due
        self.later(due - self.now, partial(self._wake, process, process.life, due))

    def _wake(self, process: Process, life: int, due: float) -> None:
        if process.life == life and process.wakes_at == due:
            process.wakes_at = NEVER
            self.enter(process, nothing)

    # ------------------------------------------------------------ links

    def cut(self, sender: str, receiver: str, fault: Fault) -> None:
        """A directed cut for some time; `amount` says whether it is silent."""
        silent = fault.amount < 0.6
        self.network.cut(sender, receiver, silent)
        self._spoilt_link(sender, receiver, fault)
        self.note(f"cut {sender} -> {receiver}{', silently' if silent else ''}")
        self.later(fault.lasts, lambda: self.network.mend(sender, receiver, silent))

    def fill(self, sender: str, receiver: str, fault: Fault) -> None:
        """The link accepts nothing more for some time."""
        self.network.fill(sender, receiver, self.now + fault.lasts)
        self.note(f"the link {sender} -> {receiver} is full")
        self._spoilt_link(sender, receiver, fault)

    def _spoilt_link(self, sender: str, receiver: str, fault: Fault) -> None:
        until = self.cut_until.get((sender, receiver), 0.0)
        self.cut_until[sender, receiver] = max(self.now + fault.lasts, until)

    def _send(self, sender: Process, address: str, frame: bytes) -> None:
        if sender.flips:
            frame = spoilt(frame, sender.flips, self.rng, self.count)
        receiver, network = self.by_address.get(address), self.network
        names = (sender.name, receiver.name if receiver is not None else address)
        disturbed = network.pauses or network.cuts or network.full
        state = network.state(names, self.now) if disturbed else UP
        if state is BACKS_OFF:
            self.count("frame dropped while its link backed off")
        refused = receiver is None or (receiver.node is None and not receiver.silent)
        if receiver is None or refused or state is BACKS_OFF or state is BROKEN:
            self.later(0.001, partial(self.lost, sender, sender.life, address))
            return
        if state is FULL:
            self.count("frame dropped by a full link")
            self.later(0.001, partial(self.lost, sender, sender.life, address, stands=True))
            return
        cut = state is CUT
        if self.ladder is not None:
            self.ladder.frame(self.now, *names, frame, "lost" if cut else "")
        if self.wires is not None:
            self.wires.send(sender, receiver, address, frame, cut)
        elif not cut:
            for delay in network.delays():
                self.later(delay, partial(self.arrive, sender, receiver, address, frame))

    def lost(self, sender: Process, life: int, address: str, stands: bool = False) -> None:
        """The sender learns that its link is broken or, with `stands`, that it accepts nothing
        more: then it need not dial."""
        node = sender.node
        if node is None or sender.life != life:
            return

        there = self.by_address.get(address)
        to = there.name if there is not None else address
        redial_s = NEVER if stands else self.network.broke(sender.name, to, self.now)

        def lost() -> None:
            for name in [name for name, known in node.addresses.items() if known == address]:
                node.link_lost(name, redial_s)
            node.link_lost(At(address), redial_s)

        self.enter(sender, lost)

    def arrive(self, sender: Process, receiver: Process, address: str, frame: bytes) -> None:
        """A frame arrives, unless its receiver is down, cut off, or at another address by now: a
        socket is bound to its address."""
        node = receiver.node
        if node is None:
            return
        network = self.network
        if network.cuts and network.is_cut((sender.name, receiver.name)):
            return
        if receiver.address != address:
            self.count("frame to an address that its receiver has left")
            return
        if network.pauses:
            network.dialled((sender.name, receiver.name))
        self.trail = crc32(frame, self.trail ^ int(self.now * 1e6) & 0xFFFFFFFF)
        if not receiver.older or versions.takes(self, receiver, node, frame):
            self.enter(receiver, partial(node.receive, frame))
