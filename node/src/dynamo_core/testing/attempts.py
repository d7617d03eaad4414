"""The life of an attempt of a simulated client, until its answer or until the client gives up."""

from __future__ import annotations

from collections.abc import Callable

from dynamo_core.keys import store_key
from dynamo_core.protocol.operations import Operation, Outcome
from dynamo_core.request.put import CONFLICTS
from dynamo_core.testing.excuses import fsynced_elsewhere, owners_at_hand
from dynamo_core.testing.greed import Greed
from dynamo_core.testing.history import FAIL, Attempt, Trouble
from dynamo_core.testing.meaning import meant, stamp
from dynamo_core.testing.message_text import message_text
from dynamo_core.testing.process import Call, Process
from dynamo_core.testing.sightings import sight
from dynamo_core.testing.world import World

TIMEOUT_S = 1.0
PATIENCE_S = 0.5
"""A client gives up this long after the deadline; if its node still runs, the node hangs (C8)."""
CROWDED = frozenset(refusal.value for refusal in CONFLICTS)


def crowds(outcome: Outcome) -> bool:
    """Whether the answer says that the key has too many siblings."""
    words = (outcome.problem, outcome.detail.rpartition(" ")[2])
    return not CROWDED.isdisjoint(words)


class Attempts:
    """All attempts that are under way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._open: dict[int, tuple[Attempt, Process, Callable[[Outcome | None], None]]] = {}
        self._serials = 0
        self._who = ""
        """The client whose step begins."""
        self._greed = Greed(world)
        self._entries: list[tuple[Process, Call]] | None = None
        """Of the turn that is being made up."""
        world.on_stop = self.stopped

    def unanswered(self) -> str:
        """Whether any operation is still under way."""
        return f"{len(self._open)} operations are not answered" if self._open else ""

    def submit(
        self,
        process: Process,
        attempt: Attempt,
        operation: Operation,
        answered: Callable[[Outcome | None], None],
    ) -> None:
        world = self.world
        node, key = process.node, store_key(attempt.key)
        place = (process.name, process.life, self._who)
        attempt.began = world.now
        if node is None:
            attempt.ended, attempt.outcome, attempt.problem = world.now, FAIL, "refused"
            answered(Outcome(status=503, applied="no"))
            if attempt.kind != "get":
                world.events.append(attempt)
            return
        able = attempt.kind != "get" and attempt.known and not process.paused and node.ready
        self._serials += 1
        serial = self._serials
        self._open[serial] = (attempt, process, answered)
        world.events.append(attempt)
        if world.ladder is not None:
            world.note(f"client -> {process.name}: {message_text(operation)}")

        def done(outcome: Outcome) -> None:
            self._greed.end(*place)
            if self._open.pop(serial, None) is None:
                world.count("answer after the client gave up")
                return
            attempt.ended = world.now
            attempt.status, attempt.problem = outcome.status, outcome.problem
            attempt.outdated = node.identity.node_id in world.removed or process.outdated(key)
            # C8: with W=1 a live node that can write its disk accepts the put, if necessary
            # alone, up to its bounds on siblings (S-SIB-1) and load (C16).
            crowded = crowds(outcome)
            leaves = not node.member or node.moves.departing
            full = crowded or outcome.problem == "overloaded" or leaves
            alone = able and attempt.w == 1 and attempt.dw <= 1 and not attempt.strict
            calm = alone and not full and process.disturbed_at < attempt.began
            if calm and process.slow_until >= attempt.began:
                calm = fsynced_elsewhere(world, process, heard, attempt.began)
                world.counters["put due at a node with slow fsyncs"] += calm
            attempt.due = (attempt.due and not crowded and not leaves) or calm
            answered(outcome)
            sight(world, node, attempt, outcome)
            if world.ladder is not None:
                world.note(f"client <- {process.name}: {attempt.outcome} {message_text(outcome)}")

        heard = owners_at_hand(world, node, key) if able else []
        world.later(TIMEOUT_S + PATIENCE_S, lambda: self._give_up(serial))

        def begin() -> None:
            meant(world, attempt, operation, node)
            stamp(world, attempt, operation, node)
            before = node.admission_control.in_flight
            self._greed.begin(*place)
            node.submit(operation, done, place[2])
            refused = attempt.problem == "overloaded"
            self._greed.judge(place, refused, world.plan.in_flight_max - before)
            if node.admission_control.in_flight > before >= world.plan.in_flight_max:
                detail = f"{process.name} takes one more than {before} operations"
                world.events.append(Trouble("C16", detail))

        if self._entries is not None:
            self._entries.append((process, begin))
        else:
            world.enter(process, begin)

    def _give_up(self, serial: int) -> None:
        row = self._open.pop(serial, None)
        if row is None:
            return
        attempt, process, answered = row
        attempt.ended = self.world.now
        if process.disturbed_at < attempt.began and not process.paused:
            return
        answered(None)

    def stopped(self, process: Process) -> None:
        """The process has died: its clients see a connection reset."""
        for serial, (attempt, where, answered) in list(self._open.items()):
            if where is process:
                del self._open[serial]
                attempt.ended = self.world.now
                if attempt.kind != "get":
                    self.world.count("coordinator died before it answered")
                answered(None)
