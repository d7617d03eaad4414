"""The judge: it finds the claims of the data model that a history breaks.

Written from the claims, not from the code. For each key it computes three sets; supersession is the
transitive closure over the contexts that clients sent:

    Must   ok puts that no ok or unknown operation supersedes
    Never  puts that an ok operation supersedes, failed puts, bytes never sent for the key
           (if enough disks lost an operation's copies, it may supersede nothing)
    May    all other puts

Every final read shows all of Must (C1) and nothing of Never (C3). No read at any time shows bytes
that were not sent, or a failed put (C2, C14). Three kinds of puts are neither in Must nor, for that
reason alone, in Never. First, puts that may have expired, by the latest time of any clock. Second,
puts that began before the end of a delete without a context: it supersedes what its coordinator
read, and no client knows that. Third, puts whose copies at least W disks have lost, DW of them
after an fsync, because C7 promises to survive one loss less. A delete is a put of a tombstone and
is never shown. No read shows a put that has expired by every clock (S-TTL-1).

A write that reused the request id of another write (S-REQ-2) has failed if it was refused, so its
value is in Never. Otherwise both writes are one event: either may remain, so neither is in Must,
and an operation that supersedes one supersedes both.

Everything is linear in the length of the history, except the search behind strict reads and 404s
(C9, C10), which runs only if an expected put is not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from dynamo_core.testing.history import (
    FAIL,
    HUNG,
    OK,
    UNKNOWN,
    Attempt,
    Copy,
    Damage,
    Dot,
    Event,
    Restored,
    Setting,
    Trouble,
)

Lost = dict[int, dict[str, bool]]
"""By put: the nodes whose disks lost it, and whether after an fsync."""
NEVER_ENDED = float("inf")
NOT_FOUND = 404


class Violation(NamedTuple):
    """A broken claim, and the place."""

    claim: str
    key: bytes
    detail: str


class Write:
    """One put or delete: all attempts under one id."""

    __slots__ = ("began", "covered", "dw", "ended", "expires", "kind", "known", "outcome", "sent",
                 "stamps", "strict_from", "value", "w")  # fmt: skip

    def __init__(self, first: Attempt) -> None:
        self.value = first.value
        self.kind = first.kind
        self.sent = first.sent
        self.known = first.known
        self.expires = first.expires
        self.stamps: set[int] = set()
        """Times of expiry: each attempt with seconds has a stamp, and the event has one of them."""
        self.began = first.began
        self.covered: set[int] = set()
        self.outcome = FAIL
        self.ended = 0.0
        self.strict_from = NEVER_ENDED
        """When a strict attempt was acked by a node that knew the owners."""
        self.w = 0
        """The largest W that was acked: this many disks held it, `dw` of them durably."""
        self.dw = 0

    def add(self, attempt: Attempt) -> None:
        """One more attempt."""
        self.began = min(self.began, attempt.began)
        self.covered.update(attempt.covered)
        if attempt.expires_ms:
            self.stamps.add(attempt.expires_ms)
        if attempt.outcome == OK:
            self.outcome = OK
            self.w = max(self.w, attempt.w)
            self.dw = max(self.dw, attempt.dw)
            self.ended = max(self.ended, attempt.ended)
            if attempt.strict and not attempt.outdated:
                self.strict_from = min(self.strict_from, attempt.ended)
        elif attempt.outcome in (UNKNOWN, HUNG):
            self.ended = NEVER_ENDED
            if self.outcome == FAIL:
                self.outcome = UNKNOWN

    def may_have_expired(self, latest_ms: int) -> bool:
        """Whether it has expired by any clock that showed at most this time (0: not known)."""
        known = latest_ms and self.stamps
        return self.expires and not (known and min(self.stamps) > latest_ms)

    def has_expired(self, earliest_ms: int) -> bool:
        """Whether it has expired by all clocks that showed this time or later."""
        return bool(self.stamps) and max(self.stamps) <= earliest_ms

    def may_be_lost(self, damage: Lost) -> bool:
        """Whether more was lost than C7 survives: W of its disks, DW of them after the fsync."""
        lost = damage.get(self.value, {})
        return len(lost) >= self.w and sum(lost.values()) >= self.dw


class KeyHistory:
    """The history of one key, and the three sets."""

    def __init__(self, key: bytes, setting: Setting) -> None:
        self.key = key
        self.setting = setting
        self.writes: dict[int, Write] = {}
        self.reads: list[Attempt] = []
        self.by_bytes: dict[bytes, int] = {}
        self.restored: set[bytes] = set()
        """Of merged backups: they come back where their tombstones are collected (S-BAK-2)."""
        self.twins: dict[int, set[int]] = {}
        """Other writes with the request id of a write."""

    def add(self, attempt: Attempt) -> None:
        """One operation."""
        if attempt.kind == "get" or attempt.shown:
            self.reads.append(attempt)
        if attempt.kind != "get":
            write = self.writes.get(attempt.value)
            if write is None:
                write = self.writes[attempt.value] = Write(attempt)
                if attempt.kind == "put":
                    self.by_bytes[attempt.sent] = attempt.value
            write.add(attempt)
            if attempt.reuses and attempt.outcome != FAIL:
                self.twins.setdefault(attempt.value, set()).add(attempt.reuses)
                self.twins.setdefault(attempt.reuses, set()).add(attempt.value)

    def superseded_by(self, values: Iterable[int], certain: bool = False) -> set[int]:
        """All writes that these supersede, through contexts, without these writes unless one
        supersedes another. `certain`: without what a write superseded that may never have been
        stored, because another write has its id."""
        past: set[int] = set()
        pending = [s for v in values if v in self.writes for s in self.writes[v].covered]
        while pending:
            value = pending.pop()
            if value not in past:
                past.add(value)
                twins = self.twins.get(value, ())
                if certain:
                    past.update(twins)
                else:
                    pending.extend(twins)
                if value in self.writes:
                    pending.extend(self.writes[value].covered)
        return past

    def judge(
        self, damaged: Lost, silent: set[int], sent_for: dict[bytes, bytes]
    ) -> Iterator[Violation]:
        """All violations of this key; `sent_for` has the key of all bytes that were sent."""
        writes = self.writes.values()
        kept = [w for w in writes if w.outcome == OK and not w.may_be_lost(damaged)]
        maybe = self.superseded_by(w.value for w in writes if w.outcome != FAIL)
        never = self.superseded_by((w.value for w in kept), certain=True)
        if self.restored and any(w.kind == "delete" or w.expires for w in writes):
            never -= {self.by_bytes[data] for data in self.restored if data in self.by_bytes}
        blind = [
            w.ended for w in writes if w.kind == "delete" and not w.known and w.outcome != FAIL
        ]
        blind_until = max(blind, default=-1.0)
        must = {
            w.value
            for w in kept
            if w.kind == "put"
            and w.value not in maybe
            and w.began > blind_until
            and w.value not in self.twins
        }
        for read in self.reads:
            yield from self._judge_read(read, sent_for)
            if read.final and read.outcome == OK:
                yield from self._judge_final(read, must, never)
            if read.outcome == OK and read.kind == "get":
                if read.strict:
                    yield from self._judge_fresh(read, damaged.keys())
                elif read.status == NOT_FOUND:
                    lost = {w.value for w in writes if w.may_be_lost(damaged)}
                    yield from self._judge_fresh(read, lost | silent)

    def _bad(self, claim: str, detail: str) -> Violation:
        return Violation(claim, self.key, detail)

    def _judge_read(self, read: Attempt, sent_for: dict[bytes, bytes]) -> Iterator[Violation]:
        """C2 and C14: a read shows only bytes that were sent for this key, unchanged."""
        for data, times in Counter(read.shown).items():
            value = self.by_bytes.get(data)
            at = f"read at {read.node} t={read.began:.3f}"
            if value is None:
                yield self._invented(data, sent_for, at)
            elif self.writes[value].outcome == FAIL:
                yield self._bad("C2", f"{at} shows v{value}, whose put failed")
            elif self.writes[value].began > read.ended:
                yield self._bad("C2", f"{at} shows v{value} before it was sent")
            elif self.writes[value].has_expired(read.earliest_ms):
                yield self._bad("S-TTL-1", f"{at} shows v{value}, expired by every clock")
            elif times > 1:
                yield self._bad("C2", f"{at} shows v{value} {times} times: one request, one event")
        if self.setting.quiet and len(read.shown) > 1:
            yield self._bad("C6", f"siblings without concurrency: {self._named(read.shown)}")

    def _invented(self, data: bytes, sent_for: dict[bytes, bytes], at: str) -> Violation:
        if data in sent_for:
            return self._bad("C2", f"{at} shows {data[:40]!r}, sent for another key")
        for sent in self.by_bytes:
            if sent.startswith(data) or data.startswith(sent) or len(data) == len(sent):
                return self._bad("C14", f"{at} shows {data[:40]!r} for {sent[:40]!r}")
        return self._bad("C2", f"{at} shows {data[:40]!r}, which no client sent")

    def _named(self, shown: list[bytes]) -> list[str]:
        return sorted(f"v{self.by_bytes.get(data, '?')}" for data in shown)

    def _judge_final(self, read: Attempt, must: set[int], never: set[int]) -> Iterator[Violation]:
        shown = {self.by_bytes[data] for data in read.shown if data in self.by_bytes}
        at = f"final read at {read.node} (r={read.r}) shows {self._named(read.shown)}"
        must = {v for v in must if not self.writes[v].may_have_expired(read.latest_ms)}
        if self.setting.lossy:
            gone = any(self._hides(w, read) for w in self.writes.values())
            if must and not shown and not gone:
                yield self._bad("C1", f"{at}: {len(must)} concurrent puts are lost")
        else:
            for value in sorted(must - shown):
                yield self._bad("C1", f"{at}, v{value} is lost")
        for value in sorted(never & shown):
            yield self._bad("C3", f"{at}, v{value} had been superseded")

    def _judge_fresh(self, read: Attempt, excused: Collection[int]) -> Iterator[Violation]:
        """R+W>N after a strict put. C9: a strict read sees the put or a successor, unless a disk
        was lost in between. C10: no read answers 404, even if fewer than W disks were lost. Both
        exclude forced removals and disks that were put back: such a node does not know later
        owners."""
        if self.setting.lossy or read.outdated:
            return
        shown = {self.by_bytes[data] for data in read.shown if data in self.by_bytes}
        candidates = [
            w.value
            for w in self.writes.values()
            if w.kind == "put"
            and w.strict_from < read.began
            and w.value not in shown
            and w.value not in excused
            and w.value not in self.twins
            and read.r + w.w > self.setting.n
            and not w.may_have_expired(read.latest_ms)
        ]
        blind = any(
            w.kind == "delete" and not w.known and w.outcome != FAIL and w.began <= read.ended
            for w in self.writes.values()
        )
        if not candidates or blind:
            return
        met = shown | self._hidden(read)
        covered = self.superseded_by(met.union(*(self.twins.get(value, ()) for value in met)))
        for value in candidates:
            if value not in covered:
                detail = f"shows {self._named(read.shown)} and neither v{value} nor a successor"
                claim = "C9" if read.strict else "C10"
                yield self._bad(claim, f"read at {read.node} t={read.began:.3f} {detail}")

    def _hidden(self, read: Attempt) -> set[int]:
        """Writes that a read may have found without showing them."""
        return {
            w.value
            for w in self.writes.values()
            if self._hides(w, read) and w.outcome != FAIL and w.began <= read.ended
        }

    def _hides(self, write: Write, read: Attempt) -> bool:
        """Whether the read may have found it as a tombstone."""
        return write.kind == "delete" or write.may_have_expired(read.latest_ms)


def check(events: Iterable[Event]) -> list[Violation]:
    """The violations of a whole history; empty if there are none."""
    setting = Setting(1)
    keys: dict[bytes, KeyHistory] = {}
    damaged: Lost = {}
    silent: set[int] = set()
    dots: dict[tuple[bytes, int, int], str] = {}
    copies: dict[bytes, dict[bytes, str]] = {}
    found: list[Violation] = []
    for event in events:
        if isinstance(event, Attempt):
            if event.key not in keys:
                keys[event.key] = KeyHistory(event.key, setting)
            keys[event.key].add(event)
            found.extend(_judge_answer(event))
        elif isinstance(event, Dot):
            place = (event.key, event.actor, event.counter)
            if dots.setdefault(place, event.what) != event.what:
                detail = f"dot ({event.actor:x}, {event.counter}) is {dots[place]} and {event.what}"
                found.append(Violation("C5", event.key, detail))
        elif isinstance(event, Damage):
            lost = damaged.setdefault(event.value, {})
            lost[event.node] = lost.get(event.node, False) or event.durable
            silent |= {event.value} if event.silent else set()
        elif isinstance(event, Copy):
            copies.setdefault(event.key, {}).setdefault(event.digest, event.node)
        elif isinstance(event, Restored):
            if event.key in keys:
                keys[event.key].restored.update(event.values)
        elif isinstance(event, Trouble):
            found.append(Violation(event.claim, b"", event.detail))
        else:
            setting = event
    for key, digests in copies.items():
        if len(digests) > 1:
            found.append(Violation("C4", key, f"copies differ: {sorted(digests.values())}"))
    sent_for = {data: key for key, history in keys.items() for data in history.by_bytes}
    for history in keys.values():
        history.setting = setting
        found.extend(history.judge(damaged, silent, sent_for))
    return found


def _judge_answer(attempt: Attempt) -> Iterator[Violation]:
    """Checks of one answer alone: hangs, refusals without excuse, acks without holders."""
    where = f"{attempt.kind} v{attempt.value} at {attempt.node} t={attempt.began:.3f}"
    if attempt.outcome == HUNG:
        yield Violation("C8", attempt.key, f"{where} never ended")
    elif attempt.problem == "bad-context":
        yield Violation("C6", attempt.key, f"{where}: a valid context was refused")
    elif attempt.due and attempt.outcome != OK:
        detail = f"{where}: {attempt.status} {attempt.problem} though nothing excuses it"
        yield Violation("C8", attempt.key, detail)
    if attempt.outcome == OK and attempt.kind != "get":
        if 0 <= attempt.holders < attempt.w:
            detail = f"{where} was acked at w={attempt.w} with {attempt.holders} holders"
            yield Violation("C7", attempt.key, detail)
        if 0 <= attempt.synced < attempt.dw:
            detail = f"{where} was acked at dw={attempt.dw} with {attempt.synced} durable copies"
            yield Violation("C7", attempt.key, detail)
