"""Records: what one replica knows of one key (S-DOT-1, a dotted version vector set).

Theory of operation. A *dot* (actor, counter) names one write event. A record is its *siblings* by
dot plus one causal history: a *vector* (actor -> counter: every event up to it), single *dots*
beyond the vector, and the *ids* of superseded requests (S-REQ-1). A history covers a sibling when
it covers its dot or names its request id. Then

    sync(a, b)    keeps a sibling that both have or that the other's history does not cover, joins
                  the histories and never mints;
    update(...)   drops what the context covers, takes the context into the history, adds one
                  sibling under a new dot.

Without concurrent writes the result is exactly the clocks of the paper's Figure 3 [P 4.4]. There
are at most as many siblings as writers that are truly concurrent. Request ids solve what dots
cannot: a retry on another node is the same event under a second dot. So of two siblings with one id
the smaller dot stays, and a context that supersedes the request supersedes all its dots.

Their bytes are made in `codec`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from dynamo_core.bounds import ACTORS_MAX, Count, Random
from dynamo_core.errors import NotHere

Dot = tuple[int, int]
WireVector = Annotated[dict[Random, Count], Meta(max_length=ACTORS_MAX)]
WireDots = list[tuple[Random, Count]]
"""S-IN-2: with a counter at its maximum a key could take no further write. The decoder refuses
every record and context with such a counter."""
SUPERSEDED_WRITES_MAX = 16
"""S-REQ-1: a superseded request id outlives this many later writes of its key."""


class Sibling(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One version; `value` None is a tombstone. The core does not read `content_type`: the shell
    stores the media type and the content encoding there (decision 14). `expires_ms` is wall time, 0
    for never (S-TTL-1). `stamp` orders versions when the last writer wins (S-LWW-1), else it is
    0."""

    actor: Random
    counter: Count
    value: bytes | None
    content_type: str = ""
    request_id: str = ""
    expires_ms: Count = 0
    stamp: Count = 0

    @property
    def dot(self) -> Dot:
        return (self.actor, self.counter)

    def live(self, wall_ms: int) -> bool:
        """Whether readers see it: not a tombstone and not expired."""
        return self.value is not None and not 0 < self.expires_ms <= wall_ms


class Superseded(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A request whose value was replaced, and the number of later writes since then."""

    actor: Random
    counter: Count
    request_id: str
    writes: Count = 0


_encoder = msgspec.msgpack.Encoder()


class History:
    """A set of events: `vector`, single `dots` beyond it, superseded `ids` (id -> Superseded)."""

    __slots__ = ("dots", "ids", "vector")

    def __init__(
        self,
        vector: dict[int, int] | None = None,
        dots: frozenset[Dot] = frozenset(),
        ids: dict[str, Superseded] | None = None,
    ) -> None:
        self.vector = vector or {}
        self.dots = dots
        self.ids = ids or {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def __repr__(self) -> str:
        return f"History({self.vector}, {sorted(self.dots)}, {sorted(self.ids)})"

    @property
    def empty(self) -> bool:
        """No event, no id."""
        return not (self.vector or self.dots or self.ids)

    def covers_dot(self, dot: Dot) -> bool:
        return dot[1] <= self.vector.get(dot[0], 0) or dot in self.dots

    def covers(self, sibling: Sibling) -> bool:
        """S-REQ-1: whether the history has the sibling's dot or its request id."""
        return self.covers_dot(sibling.dot) or bool(
            sibling.request_id and sibling.request_id in self.ids
        )

    def descends(self, other: History) -> bool:
        """Whether every event of `other` is in this history."""
        vector = self.vector
        for actor, counter in other.vector.items():
            if counter > vector.get(actor, 0):
                return False
        return all(self.covers_dot(dot) for dot in other.dots)

    def top(self, actor: int) -> int:
        """The actor's highest counter in this history, 0 for none."""
        top = self.vector.get(actor, 0)
        if not self.dots:
            return top
        for other, counter in self.dots:
            if other == actor and counter > top:
                top = counter
        return top

    def joined(self, other: History) -> History:
        """The union of both histories; an id keeps the smaller number of later writes."""
        if other.empty:
            return self
        vector = dict(self.vector)
        for actor, counter in other.vector.items():
            if counter > vector.get(actor, 0):
                vector[actor] = counter
        ids = self.ids
        if other.ids:
            ids = dict(ids)
            for name, superseded in other.ids.items():
                mine = ids.get(name)
                ids[name] = superseded if mine is None else min(mine, superseded, key=_age_then_dot)
        dots = self.dots | other.dots if other.dots else self.dots
        return _compact(vector, dots, ids)

    def with_dot(self, dot: Dot) -> History:
        """This history with one more event: in the vector if it is the next one there, else as a
        single dot (S-CTX-2)."""
        actor, counter = dot
        reached = self.vector.get(actor, 0)
        if self.dots or counter > reached + 1:
            return _compact(dict(self.vector), self.dots | {dot}, self.ids)
        return History({**self.vector, actor: max(counter, reached)}, self.dots, self.ids)

    def naming(self, siblings: tuple[Sibling, ...]) -> History:
        """This history with the request ids of `siblings` named as superseded."""
        if not siblings:
            return self
        named = {s.request_id: Superseded(*s.dot, s.request_id) for s in siblings if s.request_id}
        return History(self.vector, self.dots, self.ids | named) if named else self

    def encode(self) -> bytes:
        """Canonical bytes, as contexts carry them."""
        ids = ids_in_order(self.ids) if self.ids else ()
        return _encoder.encode((sorted_vector(self.vector), sorted(self.dots), ids))


NOTHING = History()


class _HistoryWire(msgspec.Struct, array_like=True, gc=False):
    vector: WireVector
    dots: WireDots
    ids: list[Superseded]


_history_decoder = msgspec.msgpack.Decoder(_HistoryWire)


def decode_history(data: bytes) -> History:
    """The inverse of History.encode. Raises msgspec errors on other bytes."""
    wire = _history_decoder.decode(data)
    return History(wire.vector, frozenset(wire.dots), {e.request_id: e for e in wire.ids})


def sorted_vector(vector: dict[int, int]) -> dict[int, int]:
    """By actor: the one canonical order."""
    return vector if len(vector) < 2 else dict(sorted(vector.items()))


def _age_then_dot(superseded: Superseded) -> tuple[int, int, int]:
    return superseded.writes, superseded.actor, superseded.counter


def ids_in_order(ids: dict[str, Superseded]) -> list[Superseded]:
    """By dot: the one canonical order."""
    return sorted(ids.values(), key=lambda e: (e.actor, e.counter, e.request_id))


def _compact(vector: dict[int, int], dots: frozenset[Dot], ids: dict[str, Superseded]) -> History:
    """Moves dots that the vector reaches into the vector (takes `vector` over)."""
    if not dots:
        return History(vector, dots, ids)
    beyond = []
    for dot in sorted(dots):
        reached = vector.get(dot[0], 0)
        if dot[1] == reached + 1:
            vector[dot[0]] = dot[1]
        elif dot[1] > reached:
            beyond.append(dot)
    return History(vector, frozenset(beyond), ids)


class Record:
    """Siblings in the order of their dots, and one history. Immutable by convention."""

    __slots__ = ("history", "siblings")

    def __init__(self, siblings: tuple[Sibling, ...] = (), history: History | None = None) -> None:
        self.siblings = siblings
        self.history = history or History()

    def __repr__(self) -> str:
        return f"Record({list(self.siblings)}, {self.history})"

    def values(self, wall_ms: int) -> list[Sibling]:
        """What a reader sees, in canonical order."""
        return [s for s in self.siblings if s.live(wall_ms)]

    def sibling_of(self, request_id: str) -> Sibling | None:
        """The sibling that the request made; None when it is superseded."""
        for sibling in self.siblings:
            if sibling.request_id == request_id:
                return sibling
        return None

    def event_of(self, request_id: str) -> Dot | None:
        """The dot under which this record knows the request, superseded or not (S-REQ-1)."""
        sibling = self.sibling_of(request_id)
        if sibling is not None:
            return sibling.dot
        superseded = self.history.ids.get(request_id)
        return (superseded.actor, superseded.counter) if superseded is not None else None

    def forgotten(self, request_id: str, covered: History) -> Dot | None:
        """The dot of a request that only the context names, while this record has the event without
        the name. Raises NotHere when this record does not have the event."""
        superseded = covered.ids.get(request_id)
        if superseded is None:
            return None
        dot = (superseded.actor, superseded.counter)
        if not (superseded.counter and self.history.covers_dot(dot)):
            raise NotHere(
                "the context names this request as done, but this node does not have it:"
                " ask another node, or write under another id"
            )
        return dot

    def context(self) -> History:
        """The history that a reader of this whole record has seen (S-CTX-2)."""
        return self.history.naming(self.siblings)


EMPTY = Record()


def update(record: Record, context: History, sibling: Sibling) -> Record:
    """The record after one put: the dot of `sibling` is new to the record (S-DOT-1, S-DOT-2)."""
    history = record.history.joined(context)
    kept = record.siblings
    dropped: tuple[Sibling, ...] = ()
    if kept and not context.empty:
        dropped = tuple(s for s in kept if context.covers(s))
        kept = tuple(s for s in kept if s not in dropped)
    if history.ids or dropped:
        ids = {
            name: msgspec.structs.replace(superseded, writes=superseded.writes + 1)
            for name, superseded in history.naming(dropped).ids.items()
            if superseded.writes < SUPERSEDED_WRITES_MAX
        }
        kept = tuple(s for s in kept if not (s.request_id and s.request_id in ids))
        history = History(history.vector, history.dots, ids)
    siblings = in_order((*kept, sibling)) if kept else (sibling,)
    return Record(siblings, history.with_dot(sibling.dot))


def in_order(siblings: tuple[Sibling, ...]) -> tuple[Sibling, ...]:
    """Siblings by dot: the one canonical order."""
    return tuple(sorted(siblings, key=lambda s: (s.actor, s.counter)))


def later(a: History, b: History) -> int:
    """1 if `a` has all events of `b` and more, -1 if `b` has all of `a` and more, else 0."""
    return a.descends(b) - b.descends(a)


def sync(a: Record, b: Record, lww: bool = False) -> Record:
    """The merge of two records of one key: commutative, associative, idempotent (S-DOT-1)."""
    order = later(a.history, b.history)
    if order:
        return a if order > 0 else b
    mine = {s.dot: s for s in a.siblings}
    theirs = {s.dot: s for s in b.siblings}
    kept: dict[Dot, Sibling] = {}
    dropped: list[Sibling] = []
    for here, there, history in ((mine, theirs, b.history), (theirs, mine, a.history)):
        for dot, sibling in here.items():
            if dot in there or not history.covers(sibling):
                kept[dot] = sibling
            else:
                dropped.append(sibling)
    history = a.history.joined(b.history)
    known = {s.request_id for s in kept.values()} | history.ids.keys()
    history = history.naming(tuple(s for s in dropped if s.request_id not in known))
    return Record(_one_per_request(kept, history, lww), history)


def _one_per_request(kept: dict[Dot, Sibling], history: History, lww: bool) -> tuple[Sibling, ...]:
    """S-REQ-1: of siblings with one id the smallest dot stays. Siblings whose id is superseded are
    dropped. When the last writer wins, the latest stamp stays instead: with two different rules
    each one could drop what the other keeps, and no sibling would be left."""
    names: set[str] = set()
    result = []
    siblings = [kept[dot] for dot in sorted(kept)]
    if lww:
        siblings.sort(key=lambda s: (s.stamp, s.actor, s.counter), reverse=True)
    for sibling in siblings:
        name = sibling.request_id
        if name:
            if name in history.ids or name in names:
                continue
            names.add(name)
        result.append(sibling)
    return in_order(tuple(result))


def last_writer(record: Record) -> Record:
    """S-LWW-1: only the sibling with the highest (stamp, dot) stays. This loses values."""
    if len(record.siblings) < 2:
        return record
    winner = max(record.siblings, key=lambda s: (s.stamp, s.actor, s.counter))
    return Record((winner,), record.history)
