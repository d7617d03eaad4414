"""Canary keys: this node writes one and asks another node to read it, to measure staleness.

This node is an owner of the key, so it coordinates the write. `LEAD_S` before the write it asks
another owner to read the key at a given moment of that owner's clock: the expected end of the
write, and a random time more. Without this lead a delayed frame would delay the read and the copy
alike, and the read would always miss. The answer says when the read really began. So the measured
time since the acknowledgement is right, although the moment was a guess. A read does not count if
it began before the acknowledgement or later than asked. Each node uses at most `KEYS_MAX` keys
again and again; they expire an hour after the last write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from dynamo_core.causality.context import Context
from dynamo_core.keys import PREFIX_BYTES, partition_of, store_key
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.operations import Get, Outcome, Put
from dynamo_core.protocol.refusal import Reason
from dynamo_core.protocol.staleness_messages import (
    CANARIES_MAX,
    CANARY,
    SERIALS_MAX,
    Glance,
    Glanced,
)
from dynamo_core.request.admission_control import AdmissionControl
from dynamo_core.runtime.delays import SECOND_US, DelaySampler, stamp
from dynamo_core.runtime.host import Host, Reply
from dynamo_core.runtime.machine import NEVER, Effects, Machine

KEYS_MAX = 256
LEAD_S = 1.0
"""Seconds from the request for the read to the write: longer than a frame is on its way."""
LATE_US_MAX = 20_000
"""A read that began later than this after its moment does not count."""
TIMEOUT_S = 2.0
"""The timeout of the write, and of the read."""
EXPIRES_S = 3600
AT_ONCE_MAX = 64
"""Canaries of this node under way, and reads of other nodes' canaries that wait here."""
WAIT_S_MAX = 10.0
"""A node begins the read for another node at most this late."""
DIGITS_MAX = 17
"""Digits of the number of a canary: 24 bits of the boot, 32 bits of a count."""
TOO_MANY = 429
"""The status of a read that did not begin."""
KEPT_S = 600.0
"""A read counts for this long."""
HORIZON_US_MIN, HORIZON_US_MAX = 2_000.0, 2_000_000.0
PRINCIPAL = "canary"


class CanaryHost(Host, Protocol):
    """What canaries need of their node."""

    @property
    def admission_control(self) -> AdmissionControl: ...
    @property
    def sampler(self) -> DelaySampler: ...


class Flight(Machine):
    """One canary: its write, and the call that asks for its read."""

    def __init__(
        self,
        reader: str,
        request: Glance,
        write: Callable[[Flight], None],
        done: Callable[[Flight], None],
    ) -> None:
        super().__init__()
        self.reader = reader
        self.request = request
        self._write = write
        self._done = done
        self._begun = self._answered = False
        self.begun_us = self.acked_us = 0
        self.outcome: Outcome | None = None
        self.glanced: Glanced | None = None

    def start(self, now: float) -> Effects:
        self.wake_at = now + LEAD_S
        return [(self.reader, self.request)]

    def expired(self, now: float) -> Effects:
        if self._begun:  # no answer has come
            self._answered = True
            return self._end_with_both()
        self._begun, self.begun_us = True, stamp(now)
        self.wake_at = now + WAIT_S_MAX + TIMEOUT_S
        self._write(self)
        return []

    def wrote(self, outcome: Outcome, now: float) -> None:
        """The write has got its answer."""
        self.outcome, self.acked_us = outcome, stamp(now)
        self._end_with_both()

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, Glanced)
        self.glanced, self._answered = reply, True
        return self._end_with_both()

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self._answered = True
        return self._end_with_both()

    def _end_with_both(self) -> Effects:
        """The canary is over when both the write and the read have ended."""
        if self._answered and self.outcome is not None and not self.finished:
            self.finished = True
            self._done(self)
        return []


class Waiting(Machine):
    """The read that another node asked for, until its moment."""

    def __init__(self, at_s: float, begin: Callable[[], None]) -> None:
        super().__init__()
        self._at_s = at_s
        self._begin = begin

    def start(self, now: float) -> Effects:
        self.wake_at = self._at_s
        return self.expired(now) if now >= self._at_s else []

    def expired(self, now: float) -> Effects:
        self.finished = True
        self._begin()
        return []


class Canaries:
    """The canaries of one node. `results`: when each read ended (s), how long after the
    acknowledgement it began (µs), whether it was fresh."""

    def __init__(self, node: CanaryHost) -> None:
        self.node = node
        self.results: deque[tuple[float, int, bool]] = deque(maxlen=CANARIES_MAX)
        self._horizon_us = SECOND_US / 10
        """Reads begin up to this long after the write."""
        self.wake_at = NEVER
        self._quorums = (0, 0)
        self._writes_us: deque[int] = deque(maxlen=32)
        self._contexts: dict[bytes, Context] = {}
        self._busy: set[bytes] = set()
        self._count = self._reading = 0

    def retune(self, now: float) -> None:
        """The setting may have changed."""
        self.wake_at = now if self.node.settings.canaries_per_minute else NEVER

    def expect(self, fresh_us: float) -> None:
        """After `fresh_us` nearly all reads see the write."""
        self._horizon_us = min(max(fresh_us, HORIZON_US_MIN), HORIZON_US_MAX)

    def tick(self, now: float) -> None:
        """A canary is due."""
        self.wake_at = now + 60.0 / self.node.settings.canaries_per_minute
        quorums = self._quorums_now()
        if quorums != self._quorums:
            self._quorums = quorums  # results of other quorums tell nothing of these
            self.results.clear()
            self._writes_us.clear()
        while self.results and self.results[0][0] < now - KEPT_S:
            self.results.popleft()
        if len(self._busy) < AT_ONCE_MAX:
            self.node.later(self._begin)

    def _quorums_now(self) -> tuple[int, int]:
        ring = self.node.ring_or_none
        return (ring.target.r, ring.target.w) if ring is not None else (0, 0)

    def told(self) -> list[tuple[int, bool]]:
        """The results, without their ages."""
        return [(late_us, fresh) for _, late_us, fresh in self.results]

    # ------------------------------------------------------------ one canary

    def _begin(self) -> None:
        node = self.node
        chosen = self._choose()
        if not node.member or not node.writable or chosen is None:
            return
        key, reader = chosen
        self._busy.add(key)
        self._count += 1
        serial = (node.boot & (1 << 24) - 1) << 32 | self._count & (1 << 32) - 1
        pair = node.sampler.pairs.get(reader)
        offset_us = pair.offset_us() if pair is not None else None
        usual_us = sorted(self._writes_us)[len(self._writes_us) // 2] if self._writes_us else 0
        at = stamp(node.now + LEAD_S) + usual_us + self._ahead_us() + (offset_us or 0)
        request = Glance(0, store_key(key), max(at, 0) if offset_us is not None else 0)
        landed = partial(self._landed, key, serial, self._quorums_now())
        node.spawn(Flight(reader, request, partial(self._write, key, serial), landed))

    def _write(self, key: bytes, serial: int, flight: Flight) -> None:
        node = self.node
        put = Put(
            key=key,
            value=b"%d" % serial,
            content_type="text/plain",
            context=self._contexts.get(key),
            expires_in_s=EXPIRES_S,
            timeout_s=TIMEOUT_S,
        )
        node.admission_control.submit(
            put, lambda outcome: flight.wrote(outcome, node.now), PRINCIPAL
        )

    def _choose(self) -> tuple[bytes, str] | None:
        """A key of which this node is an owner, and another owner that is up to read it."""
        node = self.node
        first = self._draw(KEYS_MAX)
        if node.ring.identity.n == 1:
            return None  # no partition has another owner
        for index in range(KEYS_MAX):
            key = CANARY + node.name.encode() + b"/%d" % ((first + index) % KEYS_MAX)
            owners = node.preference.owners(partition_of(store_key(key), node.ring.partition_bits))
            if key in self._busy or node.name not in owners:
                continue
            others = [name for name in owners if name != node.name and node.up(name)]
            if others:
                return key, others[self._draw(len(others))]
        return None

    def _draw(self, below: int) -> int:
        """A random number; the draws of tests have no random low bits."""
        return (self.node.draw() >> 20) % below

    def _ahead_us(self) -> int:
        """A random time after the acknowledgement. A quarter of the reads begin at once, and more
        of the others early, because there the curve is steep."""
        share = max(0, self._draw(1024) - 256) / 768
        return int(share * share * self._horizon_us)

    def _landed(self, key: bytes, serial: int, quorums: tuple[int, int], flight: Flight) -> None:
        """Both the write and the read have ended."""
        node, outcome, glanced = self.node, flight.outcome, flight.glanced
        self._busy.discard(key)
        assert outcome is not None
        pair = node.sampler.pairs.get(flight.reader)
        offset_us = pair.offset_us() if pair is not None else None
        well = outcome.status < 300 and outcome.node == node.name
        if not well or glanced is None or glanced.status not in (200, 404):
            self._contexts.pop(key, None)
            node.counters["canaries_failed"] += 1
            return
        if outcome.context is not None:
            self._contexts[key] = outcome.context
        self._writes_us.append(flight.acked_us - flight.begun_us)
        if offset_us is None or not flight.request.at or quorums != self._quorums_now():
            return  # when the read began is not known, or R or W has changed meanwhile
        late_us = glanced.began - offset_us - flight.acked_us
        if late_us <= 0 or glanced.began - flight.request.at > LATE_US_MAX:
            node.counters["canaries_mistimed"] += 1
            return
        fresh = serial in glanced.serials
        node.counters["canaries_fresh" if fresh else "canaries_stale"] += 1
        self.results.append((node.now, late_us, fresh))

    # ------------------------------------------------------------ reads for others

    def glance(self, request: Glance, reply: Reply) -> None:
        """Read a canary of another node when its moment has come."""
        node = self.node
        if self._reading >= AT_ONCE_MAX * max(1, len(node.preference.names)):
            reply(Glanced(request.id, stamp(node.now), TOO_MANY, []))
            return
        self._reading += 1
        at_s = min(request.at / SECOND_US, node.now + WAIT_S_MAX)
        node.later(partial(node.spawn, Waiting(at_s, partial(self._read, request, reply))))

    def _read(self, request: Glance, reply: Reply) -> None:
        began = stamp(self.node.now)

        def done(outcome: Outcome) -> None:
            self._reading -= 1
            values = [sibling.value or b"" for sibling in outcome.values]
            serials = [int(v) for v in values if v.isdigit() and len(v) <= DIGITS_MAX][:SERIALS_MAX]
            reply(Glanced(request.id, began, outcome.status, serials))

        get = Get(key=request.stored[PREFIX_BYTES:], timeout_s=TIMEOUT_S)
        self.node.admission_control.submit(get, done, PRINCIPAL)
