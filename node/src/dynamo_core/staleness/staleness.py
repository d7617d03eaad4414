"""Staleness at one node: it collects samples, predicts in small slices, and answers administrators.

A report asks the other members for their samples (`Delays`), then makes its trials in slices, so
that it never blocks the loop for long. Requests that come at the same time get one report, and a
young report is returned again. While the node samples, it makes a report each minute for metrics
and status.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dynamo_core.admin.planner import Answered, refusal
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Reason
from dynamo_core.protocol.staleness_messages import (
    PAIRS_MAX,
    TOLD_MAX,
    Delays,
    DelaysTold,
    Glance,
    PairDelays,
)
from dynamo_core.runtime.delays import DelaySampler
from dynamo_core.runtime.host import Reply
from dynamo_core.runtime.machine import NEVER, Effects, Machine
from dynamo_core.staleness.canary import Canaries, CanaryHost
from dynamo_core.staleness.document import (
    T_MS,
    advice,
    advice_for,
    canary_part,
    delay_line,
    setting_line,
)
from dynamo_core.staleness.model import ENOUGH, build, places_of
from dynamo_core.staleness.prediction import Chance, Curve, Trials

TRIALS = 3000
SLICE = 75
"""Trials of one turn, about 3 ms."""
REST_S = 0.002
"""Between two slices."""
ASKED_MAX = 32
"""Members that are asked for their samples."""
YOUNG_S = 15.0
"""A younger report is returned again, unless the request gives another age."""
COPIES_MAX = 7
"""Copies of each key that a report may take for granted instead of the ring's own N."""
OLD_S = 600.0
"""A report that is older tells nothing of now, so metrics and status leave it out."""
REPORT_S = 60.0
"""Seconds between two reports that a node makes while it samples, also without requests."""


class StalenessHost(CanaryHost, Protocol):
    """What staleness needs of its node."""


class Report(Machine):
    """One report: it asks the members for their samples, then makes the trials, for `n` copies of
    each key."""

    def __init__(self, part: Staleness, n: int, done: Callable[[Report], None]) -> None:
        super().__init__()
        self.part = part
        self.n = n
        self.made_at = -NEVER
        self.told: dict[str, DelaysTold] = {}
        self.document: dict[str, Any] = {}
        self.present: Curve | None = None
        self._done = done
        self._trials: Trials | None = None
        self._waiting: set[str] = set()

    def start(self, now: float) -> Effects:
        node = self.part.node
        self.told[node.name] = self.part.told(0)
        others = [name for name in node.preference.names if name != node.name and node.up(name)]
        self._waiting = set(others[:ASKED_MAX])
        self.wake_at = now + (node.settings.call_s if self._waiting else 0.0)
        return [(name, Delays(0)) for name in sorted(self._waiting)]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, DelaysTold)
        self.told[node] = reply
        return self._heard(node, now)

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        return self._heard(node, now)

    def _heard(self, node: str, now: float) -> Effects:
        self._waiting.discard(node)
        if not self._waiting and self._trials is None:
            self.wake_at = now
        return []

    def expired(self, now: float) -> Effects:
        if self._trials is None:
            model = build(self.part.node, self.told, self.n)
            if model is None:
                return self._end([])
            self._trials = Trials(model, self.part.chance())
        self._trials.run(SLICE)
        if self._trials.count >= TRIALS:
            return self._end(self._trials.curves())
        self.wake_at = now + REST_S
        return []

    def _end(self, curves: list[Curve]) -> Effects:
        self.finished = True
        self.document = self._described(curves)
        self.told.clear()
        self._trials = None
        self._done(self)
        return []

    def _described(self, curves: list[Curve]) -> dict[str, Any]:
        node = self.part.node
        n, own, defaults = self.n, node.ring.identity.n, node.ring.target
        by_rw = {(curve.r, curve.w): curve for curve in curves}
        here = (defaults.r, defaults.w) if n == own else None
        self.present = by_rw.get(here) if here is not None else None
        sizes = range(1, n + 1) if curves else ()
        lines = [
            setting_line(by_rw.get((r, w)) or Curve(r, w), n, (r, w) == here)
            for r in sizes
            for w in sizes
        ]
        names = node.preference.names
        down = [name for name in names if not node.up(name)]
        pairs = [(name, pair) for name in sorted(self.told) for pair in self.told[name].pairs]
        every = self.told.values() if n == own else ()
        canaries = [result for told in every for result in told.canaries]
        samples = sum(len(pair.writes) + len(pair.reads) for _, pair in pairs)
        known = {
            (name, pair.to)
            for name, pair in pairs
            if min(len(pair.writes), len(pair.reads)) >= ENOUGH
        }
        return {
            "node": node.identity.name, "samples": samples,
            "sampled_per_minute": node.settings.delay_samples_per_minute,
            "nodes": sorted(self.told), "missing": sorted(set(names) - self.told.keys()),
            "down": down, "assumed": any(
                (a, b) not in known for place in places_of(node, n) for a in place for b in place
                if a != b
            ),
            "trials": self._trials.count if self._trials is not None else 0,
            "age_s": 0.0, "n": n, "ring_n": own, "r": defaults.r, "w": defaults.w,
            "dw": defaults.dw,
            "hedge_ms": round(node.hedging.after_s(1.0) * 1000, 3), "t_ms": list(T_MS),
            "settings": lines,
            "delays": [
                delay_line(
                    (name, pair.to), pair.writes, pair.reads, pair.writes_lost + pair.reads_lost
                )
                for name, pair in pairs
            ],
            "canary": canary_part(canaries, self.present, node.settings.canaries_per_minute),
            "advice": (
                advice(lines, down) if n == own else advice_for(n, own, lines, self.part.present())
            ),
        }  # fmt: skip


class Staleness:
    """The part of a node that predicts and measures staleness. `latest`: the last report of the
    ring as it is."""

    def __init__(self, node: StalenessHost) -> None:
        self.node = node
        self.canaries = Canaries(node)
        self.latest: Report | None = None
        self.wake_at = 0.0
        self._next_report = REPORT_S
        self._others: dict[int, Report] = {}
        """The last reports of rings with another N, by that N."""
        self._asked: dict[int, list[Answered]] = {}
        """Who waits for a report, by its N."""
        self._running = False
        self._begun = False
        self.orders: dict[type, Callable[..., None]] = {
            Delays: self._tell,
            Glance: self.canaries.glance,
        }
        """The requests of other members that this part answers."""

    # ------------------------------------------------------------ what is due

    def retune(self) -> None:
        """The settings may have changed."""
        self.wake_at, self._begun = 0.0, False

    def tick(self, now: float) -> None:
        """Begin what is due: a canary, a report."""
        settings = self.node.settings
        if not self._begun:
            self._begun = True
            self.canaries.retune(now)
            self._next_report = now + REPORT_S if settings.delay_samples_per_minute else NEVER
        if now >= self.canaries.wake_at:
            self.canaries.tick(now)
        if now >= self._next_report:
            self._next_report = now + REPORT_S
            made_at = self.latest.made_at if self.latest is not None else -NEVER
            if now - made_at >= YOUNG_S and self._sampled() and self.node.member:
                self._asked.setdefault(self.node.ring.identity.n, [])
                self.node.later(self._begin)
        self.wake_at = min(self.canaries.wake_at, self._next_report)

    def _sampled(self) -> bool:
        sampler = self.node.sampler
        sampler.expire(self.node.now)
        return bool(sampler.pairs)

    # ------------------------------------------------------------ reports

    def ask(self, max_age_s: float, n: int, done: Answered) -> None:
        """GET /v1/staleness, for `n` copies of each key; 0: as many as the ring keeps. A report
        that is younger than `max_age_s` is returned again."""
        node = self.node
        if not node.member:
            return done(503, refusal("not-a-member", "this node is in no ring"))
        own, most = node.ring.identity.n, min(COPIES_MAX, len(node.preference.names))
        n = n or own
        if n != own and not 1 <= n <= most:
            return done(400, refusal("bad-parameter", f"n: 1 to {most} copies on this ring"))
        made = self.latest if n == own else self._others.get(n)
        if made is not None and node.now - made.made_at < max_age_s:
            return done(200, self._aged(made))
        self._asked.setdefault(n, []).append(done)
        return node.later(self._begin)

    def _begin(self) -> None:
        """One report at a time, in the order in which they were asked for."""
        if self._running or not self._asked:
            return
        if not self.node.member:  # since the request came
            asked, self._asked = self._asked, {}
            for done in (done for each in asked.values() for done in each):
                done(503, refusal("not-a-member", "this node is in no ring"))
            return
        self._running = True
        self.node.spawn(Report(self, next(iter(self._asked)), self._made))

    def _made(self, report: Report) -> None:
        self._running = False
        report.made_at = self.node.now
        self.node.counters["staleness_reports"] += 1
        if report.n == report.document["ring_n"]:
            self.latest = report
        else:
            self._others[report.n] = report
        if report.present is not None and report.present.fresh_us:
            self.canaries.expect(report.present.after_us(0.999))
        for done in self._asked.pop(report.n, ()):
            done(200, self._aged(report))
        if self._asked:
            self.node.later(self._begin)

    def _aged(self, report: Report) -> dict[str, Any]:
        return {**report.document, "age_s": round(self.node.now - report.made_at, 3)}

    def present(self) -> dict[str, Any] | None:
        """The line of the ring's own R and W in the last report; None if there is none, or if too
        many nodes were down."""
        lines = self.latest.document["settings"] if self.latest is not None else []
        return next((line for line in lines if line["present"] and line["possible"]), None)

    def summary(self) -> dict[str, Any] | None:
        """What the status of this node says; None without a young report with samples."""
        report, present = self.latest, self.present()
        if report is None or present is None or self.node.now - report.made_at >= OLD_S:
            return None
        canary = report.document["canary"]
        return {
            "fresh_at_once": present["fresh_at_once"],
            "fresh_999_ms": present["fresh_999_ms"],
            "canary": canary["measured"],
            "canary_predicted": canary["predicted"],
            "age_s": round(self.node.now - report.made_at, 3),
        }

    def chance(self) -> Chance:
        """Uniform random numbers from one draw of the node (splitmix64)."""
        state = self.node.draw()
        mask = (1 << 64) - 1

        def uniform() -> float:
            nonlocal state
            state = state + 0x9E3779B97F4A7C15 & mask
            z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
            z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
            return ((z ^ z >> 31) >> 11) / (1 << 53)

        return uniform

    # ------------------------------------------------------------ other members

    def told(self, call_id: int) -> DelaysTold:
        """The samples and results of this node, as other members get them."""
        sampler: DelaySampler = self.node.sampler
        sampler.expire(self.node.now)
        pairs = []
        for to, pair in list(sampler.pairs.items())[:PAIRS_MAX]:
            if not isinstance(to, str) or not to:
                continue
            writes_lost = sum(write for _, write in pair.lost)
            pairs.append(
                PairDelays(
                    to,
                    pair.ways(True)[-TOLD_MAX:],
                    pair.ways(False)[-TOLD_MAX:],
                    writes_lost,
                    len(pair.lost) - writes_lost,
                )
            )
        own = [took for _, took in sampler.own][-TOLD_MAX:]
        return DelaysTold(call_id, pairs, own, self.canaries.told())

    def _tell(self, request: Delays, reply: Reply) -> None:
        reply(self.told(request.id))
