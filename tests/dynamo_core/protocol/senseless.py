"""Real nodes, one of which sends senseless messages: every field of every message is mutated.

There are two sources. First, real messages of the peer with one or two fields or one bit changed.
Second, messages of every kind made from the types in the registry, so that a new kind is included
at once; answers among them have the numbers of calls that are under way.

    python -m tests.dynamo_core.protocol.senseless 100000 1
"""

from __future__ import annotations

import sys
from random import Random
from time import monotonic
from typing import Any

import msgspec
from msgspec import inspect

from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.records import History, Record, Sibling
from dynamo_core.errors import BadFrame
from dynamo_core.keys import store_key
from dynamo_core.protocol.frames import decode_frame, encode_frame
from dynamo_core.protocol.operations import Get, Put
from dynamo_core.protocol.registry import MESSAGES, REPLIES
from dynamo_core.ring.document import Entry, RingParts
from dynamo_core.testing.town import SETTINGS, Town

BAD = "c"
EPOCH_FRAMES = 2_500
"""A ring whose lines a peer has changed is not usable any more: the test starts a new one."""
HUGE = (2**31 - 1, 2**31, 2**32, 2**33, 2**53, 2**58, 2**62, 2**63 - 1, 2**63, 2**64 - 1, -(2**63))
SMALL = (0, 1, -1, 2, 15, 16, 17, 255, 4096, 65535, 65536)
WORDS = (
    *("", "a", "b", "c", "d", "n9", "~a", "@a:1", "=a", "x" * 300, "a\0", "a:1", "put", "hint"),
    *("double", "exchange", "stale", "entry", "LEFT", "town", "é", "a:1\r\nb", "\ud7ff" * 90),
)
KEYS = [b"k%d" % index for index in range(20)]
KINDS: tuple[type, ...] = MESSAGES
TRUE_RECORDS = 0.3
"""Share of made messages whose record is valid, so that the code behind its check is reached."""


class Senseless:
    """One town after another; `sent` counts mutated frames, `refused` those that were no frame."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.sent = self.refused = self.settled = 0
        self.kinds = {kind: inspect.type_info(kind) for kind in KINDS}
        self.said: set[type] = set()
        self.town = self._begin()

    def _begin(self) -> Town:
        settings = msgspec.structs.replace(SETTINGS, tombstone_age_min_s=2.0, collect_s=0.5)
        return Town("a b c", settings=settings)

    def storm(self, frames: int) -> None:
        """This many frames, in several towns; each town must recover after its part."""
        while self.sent < frames:
            until = min(frames, self.sent + EPOCH_FRAMES)
            while self.sent < until:
                self._turn()
            self.calm()
            self.town = self._begin()

    def _turn(self) -> None:
        town, random = self.town, self.random
        self._ask()
        town.now += 0.05
        for node in town.nodes.values():
            node.tick(town.now, town.wall_ms)
        for name in town.nodes:
            town._turn(name)
        for _ in range(400):
            if not town.frames:
                break
            sender, receiver, frame = town.frames.pop(0)
            if receiver not in town.nodes:
                continue
            if sender != BAD or random.random() < 0.3:
                town.nodes[receiver].receive(frame)
                town._turn(receiver)
            if sender == BAD:
                for other in (self._mutated(frame), self._made(frame, receiver)):
                    self._say(receiver, other)

    def _ask(self) -> None:
        """Clients and an administrator at the other nodes."""
        random, town = self.random, self.town
        node = town.nodes[random.choice("ab")]
        key = random.choice(KEYS)
        if random.random() < 0.5:
            node.submit(Get(key=key, r=random.choice((0, 2, 3)), timeout_s=0.5), lambda _: None)
        else:
            value = random.choice((None, b"milk", b"bread" * 9))
            put = Put(key=key, value=value, w=random.choice((0, 2, 3)), timeout_s=0.5)
            node.submit(put, lambda _: None)
        which = random.random()
        if which < 0.05:
            node.admin.list_keys(None, "", 50, lambda *_: None)
        elif which < 0.1:
            node.admin.repair("", [], [], random.random() < 0.5, lambda *_: None)
        elif which < 0.15:
            body = {"weights": {"a": random.randrange(1, 4)}}
            node.admin.planner.plan(body, lambda *_: None)

    def _say(self, receiver: str, frame: bytes) -> None:
        """As the driver does: bytes that are no frame are refused, and nothing else is raised."""
        self.sent += 1
        town = self.town
        try:
            town.nodes[receiver].receive(frame)
        except BadFrame:
            self.refused += 1
        town.nodes[receiver].tick(town.now, town.wall_ms)
        town._turn(receiver)

    def calm(self) -> None:
        """The peer sends correct messages again: the nodes agree, and written values are read."""
        town = self.town
        town.frames.clear()
        town.run(1.0)
        town.until(self._agreed, 180.0)
        if all(node.member for node in town.nodes.values()):
            town.until(self._written, 120.0)
            self.settled += 1

    def _agreed(self) -> bool:
        """The nodes that are still members; a peer may claim that another one has left."""
        members = [node for node in self.town.nodes.values() if node.member]
        return len({node.ring.digest for node in members}) <= 1 and all(
            node.up(other.name) for node in members for other in members
        )

    def _written(self) -> bool:
        key = b"after"
        town = self.town
        if town.put("a", key, b"well", w=1).status != 204:
            return False
        shown = [town.get(name, key, r=1) for name in "ab"]
        return all(b"well" in [s.value for s in outcome.values] for outcome in shown)

    # ------------------------------------------------------------ mutations of what is said

    def _mutated(self, frame: bytes) -> bytes:
        random = self.random
        tree = msgspec.msgpack.decode(frame)
        if random.random() < 0.1:
            return self._flipped(frame)
        for _ in range(random.choice((1, 1, 1, 2))):
            places = list(_walk(tree))
            path = random.choice(places)
            _put(tree, path, self._other(_at(tree, path)))
        return msgspec.msgpack.encode(tree)

    def _flipped(self, frame: bytes) -> bytes:
        data = bytearray(frame)
        for _ in range(self.random.randrange(1, 4)):
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(data)

    def _other(self, value: Any) -> Any:
        random = self.random
        if random.random() < 0.07:
            return random.choice([None, True, [], {}, b"", "", 0, 1.5, float("nan")])
        match value:
            case bool():
                return not value
            case int():
                near = value + random.choice((-1, 1))
                return random.choice([*SMALL, *HUGE, near if -(2**63) <= near < 2**64 else 0])
            case str():
                return random.choice(WORDS)
            case bytes():
                return self._bytes(value)
            case list():
                ways = (value[:-1], value + value, value * min(50, 2000 // (len(value) + 1)))
                return random.choice((*ways, [value], random.sample(value, len(value))))
            case dict() if value:
                name = random.choice(list(value))
                return {**value, random.choice(WORDS): value[name]}
        return random.choice([None, 0, "", b""])

    def _bytes(self, value: bytes) -> bytes:
        random = self.random
        way = random.random()
        if not value or way < 0.2:
            return random.randbytes(random.randrange(40))
        if way < 0.4:
            return value[: random.randrange(len(value))]
        data = bytearray(value)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        return bytes(data)

    # ------------------------------------------------------------ messages from their types

    def _made(self, frame: bytes, receiver: str) -> bytes:
        """One message of some kind under the head of a real frame."""
        kind = self.random.choice(KINDS)
        message = self._of_type(self.kinds[kind])
        self.said.add(kind)
        waiting = list(self.town.nodes[receiver].dispatcher._pending)
        if kind in REPLIES and waiting and self.random.random() < 0.8:
            message.id = self.random.choice(waiting)
        elif self.random.random() < 0.5:
            message.id = self.random.randrange(1000)
        true = self.random.random() < TRUE_RECORDS
        if true and hasattr(message, "record"):
            message.record = self._record()
        if true and hasattr(message, "records"):
            message.records = [self._record() for _ in range(self.random.randrange(4))]
        head = decode_frame(frame)
        return encode_frame(msgspec.structs.replace(head, messages=[message]))

    def _of_type(self, kind: Any) -> Any:
        random = self.random
        match kind:
            case inspect.UnionType():
                return self._of_type(random.choice(kind.types))
            case inspect.NoneType():
                return None
            case inspect.BoolType():
                return random.random() < 0.5
            case inspect.IntType():
                return self._number()
            case inspect.FloatType():
                return random.choice((0.0, 1.0, 0.5, -1.0, 1e300, float("nan"), float("inf")))
            case inspect.EnumType():
                return random.choice([*WORDS, *(one.value for one in kind.cls)])
            case inspect.StrType():
                return random.choice(WORDS)
            case inspect.BytesType():
                return self._some_bytes()
            case inspect.LiteralType():
                return random.choice(kind.values)
            case inspect.ListType():
                return [self._of_type(kind.item_type) for _ in range(random.choice((0, 1, 2, 16)))]
            case inspect.VarTupleType():
                size = random.choice((0, 1, 3, 3, 4, 16))
                return tuple(self._of_type(kind.item_type) for _ in range(size))
            case inspect.TupleType():
                return tuple(map(self._of_type, kind.item_types))
            case inspect.DictType():
                return {
                    self._of_type(kind.key_type): self._of_type(kind.value_type)
                    for _ in range(random.choice((0, 1, 3)))
                }
            case inspect.StructType():
                return self._struct(kind)
        raise AssertionError(f"a message has a field of {kind}: say here how to make one")

    def _struct(self, kind: inspect.StructType) -> Any:
        random = self.random
        ring = next(node.ring for node in self.town.nodes.values() if node.ring_or_none)
        if kind.cls is Entry and random.random() < 0.6:
            entry = random.choice(ring.entries)
            change = random.choice(("term", "version", "owners", "move", "old", "by", "term"))
            info = next(f.type for f in kind.fields if f.name == change)
            return msgspec.structs.replace(entry, **{change: self._of_type(info)})
        if kind.cls is RingParts and random.random() < 0.6:
            part = random.choice(("identity", "members", "target", "entries"))
            info = next(f.type for f in kind.fields if f.name == part)
            whole = ring.parts_differing(())
            return msgspec.structs.replace(whole, **{part: self._of_type(info)})
        values = {field.name: self._of_type(field.type) for field in kind.fields}
        return kind.cls(**values)

    def _number(self) -> int:
        random = self.random
        return random.choice((random.randrange(20), random.choice(SMALL), random.choice(HUGE)))

    def _some_bytes(self) -> bytes:
        random = self.random
        stored = store_key(random.choice(KEYS))
        history = History({random.choice((1, 2**63)): random.choice((1, 2**62, 2**63))})
        ways = (b"", stored, stored, self._record(), random.randbytes(16), history.encode())
        return random.choice(ways)

    def _record(self) -> bytes:
        key, actor = self.random.choice(KEYS), self.random.choice((1, 2, 3))
        return encode_record(key, Record((Sibling(actor, 1, b"v"),), History({actor: 1})))


def _walk(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    places = [path] if path else []
    items: Any = ()
    if isinstance(tree, list):
        items = enumerate(tree)
    elif isinstance(tree, dict):
        items = tree.items()
    for key, value in items:
        places += _walk(value, (*path, key))
    return places


def _at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _put(tree: Any, path: tuple[Any, ...], value: Any) -> None:
    _at(tree, path[:-1])[path[-1]] = value


def main() -> int:
    frames, seed = (*map(int, sys.argv[1:]), 100_000, 1)[:2]
    began = monotonic()
    storm = Senseless(seed)
    storm.storm(frames)
    print(
        f"seed {seed}: {storm.sent} frames without sense, {storm.refused} refused whole, 0 deaths,"
        f" {storm.settled} rings whole again, {monotonic() - began:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
