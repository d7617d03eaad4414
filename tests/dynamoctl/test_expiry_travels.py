"""The expiry of a live value stays the same to the last millisecond through every operation: put,
update, merge, export, import, repair, move (S-TTL-2).

The steps of the real client ask real nodes on simulated disks, through the real HTTP codec; a small
model knows the expected values.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo_client import BatchResult, Found, GetOp, PutOp
from dynamo_client.attempts import Attempts
from dynamo_client.batch import Op
from dynamo_client.operations import Operations
from dynamo_client.routing import Routes
from dynamo_client.steps import Ask, Pause, Reply, Steps, T
from dynamo_core.ring.document import LEFT, MEMBER
from dynamo_core.secret_keys import keys_of
from dynamo_core.testing.town import Town
from dynamo_node.http_codec import Request, answer_of, asked_of, fields_of
from dynamo_node.problems import Problem
from dynamoctl.importing import load
from dynamoctl.rows import Fields, rows
from dynamoctl.transfer import lines_of

SECRET = keys_of((b"of the town",)).contexts
KEYS = ("cart", "session/9", "a key")
SINCE = datetime(1970, 1, 1, tzinfo=UTC)
BEGIN_MS = 1_750_000_000_123
NEVER = 0
Model = dict[str, dict[bytes, int]]
"""By key and value: when it expires, in ms since 1970."""


def ms_of(time: datetime | None) -> int:
    return NEVER if time is None else (time - SINCE) // timedelta(milliseconds=1)


def time_at(ms: int) -> datetime:
    return SINCE + timedelta(milliseconds=ms)


class Shop:
    """A town, a client of it, and the expected values. Values are never used twice."""

    def __init__(self) -> None:
        self.town = Town("a b c d", members="a b c")
        self.town.wall_ms = BEGIN_MS
        self.town.run(1.0)
        self.there: Model = {key: {} for key in KEYS}
        self.at = "a"
        self.count = 0
        routes = Routes(("http://any",), False, lambda: self.town.now)
        self.client = Operations(Attempts(routes, 5, lambda: 0.5, 2.0), 60.0)

    # ------------------------------------------------------------ the client, without sockets

    def run(self, steps: Steps[T]) -> T:
        heard: Reply | None = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            heard = self.town.run(step.seconds) if isinstance(step, Pause) else self.answer(step)

    def answer(self, ask: Ask) -> Reply:
        parts = urlsplit(ask.url)
        target = parts.path.removeprefix("/v1/kv/").encode()
        fields = fields_of([(n.lower().encode(), v.encode()) for n, v in ask.headers.items()])
        request = Request(ask.method, target, parts.query.encode(), fields, ask.content)
        try:
            asked = asked_of(request, 3, SECRET)
            answer = answer_of(asked, self.town.ask(self.at, asked.operation), SECRET)
        except Problem as problem:
            answer = problem.answer()
        pairs = (line.split(": ", 1) for line in answer.head.decode().splitlines())
        return Reply(answer.status, {name.lower(): text for name, text in pairs}, answer.body)

    def batch(self, operations: Sequence[Op]) -> list[BatchResult]:
        """As a client does one, one operation after the other."""
        results = []
        for op in operations:
            if isinstance(op, GetOp):
                results.append(BatchResult(200, found=self.run(self.client.get(op.key))))
            elif isinstance(op, PutOp):
                given: dict[str, Any] = msgspec.structs.asdict(op)
                key, data = given.pop("key"), given.pop("data")
                results.append(
                    BatchResult(204, stored=self.run(self.client.put(key, data, **given)))
                )
        return results

    # ------------------------------------------------------------ what happens

    def fresh(self) -> bytes:
        self.count += 1
        return b"v%d" % self.count

    def live(self, key: str) -> dict[bytes, int]:
        """What has not expired."""
        now = self.town.wall_ms
        return {v: end for v, end in self.there[key].items() if end == NEVER or end > now}

    def written(self, key: str, value: bytes, end: int, replaces: bool) -> None:
        if replaces:
            self.there[key] = {}
        self.there[key][value] = end

    def put(self, key: str, way: str, ms: int, replaces: bool) -> None:
        """Beside the present values, or in their place."""
        value = self.fresh()
        context = self.run(self.client.get(key)).context if replaces else None
        how: dict[str, Any] = {"context": context}
        end = NEVER
        if way == "seconds":
            how["expires_in_s"], end = 1 + ms // 1000, self.town.wall_ms + (1 + ms // 1000) * 1000
        elif way == "time":
            end = self.town.wall_ms + ms
            how["expires_at"] = time_at(end)
        self.run(self.client.put(key, value, **how))
        self.written(key, value, end, replaces)

    def update(self, key: str, way: str, ms: int) -> None:
        """Merges the present values; the longest life is kept unless another one is set."""
        value, lives = self.fresh(), self.live(key).values()
        end = NEVER if NEVER in lives or not lives else max(lives)
        how: dict[str, Any] = {}
        if way == "time":
            end = self.town.wall_ms + ms
            how["expires_at"] = time_at(end)
        elif way == "seconds":
            how["expires_in_s"], end = 1 + ms // 1000, self.town.wall_ms + (1 + ms // 1000) * 1000
        elif way == "never":
            how["expires_in_s"], end = "never", NEVER
        self.run(self.client.update(key, lambda values: value, **how))
        self.written(key, value, end, True)

    def export_and_import(self, ms: int) -> None:
        """All keys are exported and deleted, time passes, and the file is imported twice."""
        lines = lines_of(self, [key.encode() for key in KEYS])  # type: ignore[arg-type]
        file = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        for key in KEYS:
            self.run(self.client.delete(key))
        self.pass_time(ms)
        batch = list(rows(io.BytesIO(file), Fields(), 0, 0))
        assert not any(row.wrong for row in batch)
        self.there = {key: self.live(key) for key in KEYS}
        now = time_at(self.town.wall_ms)
        done = load(self, batch, f"run{self.count}", now)  # type: ignore[arg-type]
        again = load(self, batch, f"again{self.count}", now)  # type: ignore[arg-type]
        assert done.written == sum(map(len, self.there.values())) == again.there
        assert again.written == 0 and again.expired == done.expired
        self.count += 1

    def pass_time(self, ms: int) -> None:
        self.town.wall_ms += ms
        self.town.run(1.0)

    def repair(self, key: str, ms: int) -> None:
        """A disk is lost, and the others fill it; an update finds one node less."""
        lost = next(name for name in self.town.owners(key.encode()) if name != self.at)
        self.town.kill(lost)
        self.town.wipe(lost)
        self.update(key, "keep", ms)
        self.town.start(lost)
        node = self.town.nodes[lost]
        self.town.until(
            lambda: node.member and all(node.replica.complete(p) for p in node.replica.owned())
        )
        self.at = lost

    def move(self) -> None:
        """The fourth node takes its share; the second time an old one hands over its own."""
        town = self.town
        if "d" not in town.ring.members:
            town.change("a", join=["d"])
            town.until(lambda: town.moved() and town.nodes["d"].member)
            assert town.ring.members["d"].state == MEMBER
            self.at = "d"
        elif town.ring.members["b"].state == MEMBER:
            town.change("a", "op2", leave=["b"])
            town.until(lambda: town.nodes["b"].ring_state.emptied)
            town.until(lambda: town.moved() and town.ring.members["b"].state == LEFT)
            self.at = "c" if self.at == "b" else self.at

    # ------------------------------------------------------------ what must be so

    def check(self) -> None:
        """Every member shows exactly the live values and their ends."""
        for name in [n for n, node in self.town.nodes.items() if node.member]:
            self.at = name
            for key in KEYS:
                found: Found = self.run(self.client.get(key))
                shown = {version.data: ms_of(version.expires_at) for version in found.values}
                assert shown == self.live(key), f"{key} at {name}"


WAY, MS = st.sampled_from(["time", "seconds", "time", "never"]), st.integers(1, 90_000)
PAUSE_MS = st.integers(1, 20_000)
KEY = st.sampled_from([KEYS[0], KEYS[0], KEYS[0], *KEYS[1:]])
STEP = st.one_of(
    st.tuples(st.just("put"), KEY, WAY, MS, st.booleans()),
    st.tuples(st.just("update"), KEY, st.just("keep"), MS),
    st.tuples(st.just("update"), KEY, st.sampled_from(["never", "seconds", "time"]), MS),
    st.tuples(st.just("pass_time"), PAUSE_MS),
    st.tuples(st.just("export_and_import"), PAUSE_MS),
    st.tuples(st.just("repair"), KEY, MS),
    st.tuples(st.just("move")),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(WAY, MS), min_size=2, max_size=4), st.lists(STEP, min_size=2, max_size=9))
def test_an_expiry_is_the_same_wherever_its_value_goes(
    siblings: list[tuple[str, int]], steps: list[tuple[Any, ...]]
) -> None:
    shop = Shop()
    for way, ms in siblings:
        shop.put(KEYS[0], way, ms, False)
    for name, *arguments in steps:
        getattr(shop, name)(*arguments)
        shop.check()


def test_all_of_it_once() -> None:
    """Every kind of step, with siblings that end at different times."""
    shop = Shop()
    shop.put("cart", "time", 5000, False)
    shop.put("cart", "seconds", 9000, False)
    shop.put("session/9", "time", 7001, False)
    shop.put("a key", "never", 1, False)
    for step in (
        shop.move,
        lambda: shop.repair("session/9", 1),
        lambda: shop.pass_time(2000),
        lambda: shop.export_and_import(1000),
        lambda: shop.update("cart", "keep", 1),
        shop.move,
        lambda: shop.export_and_import(10),
        lambda: shop.update("session/9", "seconds", 60_000),
        lambda: shop.update("a key", "time", 60_000),
        lambda: shop.pass_time(30_000),
    ):
        step()
        shop.check()
    ended = [len(shop.live(key)) for key in KEYS]
    assert ended == [0, 1, 1]
