"""Five real nodes with RocksDB: killed, stopped, wiped, cut off; then the checker is asked (L4)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from benchmarks.links import Links, linked_ring
from benchmarks.processes import Node, until

from dynamo_core.testing.checker import check
from dynamo_core.testing.history import Attempt, Damage, Event, Setting, save

SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
NAMES = ["n0", "n1", "n2", "n3", "n4"]
QUICK = [
    "--heartbeat-ms=100", "--suspect-ms=700", "--exchange-ms=200", "--hedge-ms=100",
    "--log-level=warning",
]  # fmt: skip
KEYS = [b"cart-%d" % number for number in range(40)]
CLIENTS = 6
CALM_S, TROUBLE_S = 0.7, 1.6
HEAL_S_MAX = 90.0
TIMEOUT_MS = 4000


@dataclass
class Cluster:
    """The nodes, the links between them, and when each of them was in trouble."""

    nodes: dict[str, Node]
    links: Links
    troubled: dict[str, float] = field(default_factory=dict)
    """By node, when its process last was not all right; `inf` while it is not."""

    def fault(self, name: str) -> None:
        self.troubled[name] = float("inf")

    def over(self, name: str) -> None:
        self.troubled[name] = time.monotonic()

    def restart(self, name: str) -> None:
        node = self.nodes[name]
        node.start(*QUICK)
        # With an empty disk it is nobody yet, and says so, until the others let it in (S-MEM-4).
        until(lambda: node.lives() and node.ready(), f"{name} does not come back")
        self.over(name)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with linked_ring(tmp_path, NAMES, QUICK, 16) as (nodes, links):
        yield Cluster(nodes, links)


class Client:
    """Reads, writes and deletes at random, and notes what it was told."""

    def __init__(self, number: int, cluster: Cluster, events: list[Event]) -> None:
        self.random = random.Random(SEED * 100 + number)
        self.cluster = cluster
        self.events = events
        self.next_value = 1 + number
        self.contexts: dict[bytes, tuple[str, list[int]]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        async with httpx.AsyncClient(timeout=3 * TIMEOUT_MS / 1000) as http:
            while not stop.is_set():
                kind = self.random.choices(["get", "put", "delete"], [4, 5, 1])[0]
                await self.operation(http, kind, self.random.choice(KEYS))  # type: ignore[arg-type]

    async def operation(
        self, http: httpx.AsyncClient, kind: Literal["get", "put", "delete"], key: bytes
    ) -> None:
        text, seen = "", []
        if kind != "get" and key in self.contexts and self.random.random() < 0.8:
            text, seen = self.contexts[key]
        attempt = Attempt(
            kind=kind, key=key, seen=seen, known=kind != "delete" or bool(text),
            r=self.random.choice([1, 2, 2, 3]), w=self.random.choice([1, 2, 2, 3]),
            strict=self.random.random() < 0.2,
        )  # fmt: skip
        if kind != "get":
            attempt.value = self.next_value
            self.next_value += CLIENTS
            attempt.sent = b"v%d " % attempt.value * 9 if kind == "put" else b""
        headers = {"Dynamo-Request-Id": f"v{attempt.value}"} if kind != "get" else {}
        if text:
            headers["Dynamo-Context"] = text
        for _ in range(2):
            attempt = msgspec_copy(attempt, node=self.random.choice(NAMES))
            await self.attempt(http, attempt, headers)
            if attempt.outcome != "unknown":
                break

    async def attempt(
        self, http: httpx.AsyncClient, attempt: Attempt, headers: dict[str, str]
    ) -> None:
        node = self.cluster.nodes[attempt.node]
        url = f"{node.endpoint}/v1/kv/{attempt.key.decode()}?timeout_ms={TIMEOUT_MS}"
        url += f"&strict={str(attempt.strict).lower()}"
        url += f"&r={attempt.r}" if attempt.kind == "get" else f"&w={attempt.w}"
        method = attempt.kind.upper()
        attempt.began = time.monotonic()
        try:
            answer = await http.request(
                method, url, headers={**headers, "Accept": "application/json"},
                content=attempt.sent or None,
            )  # fmt: skip
        except httpx.HTTPError:
            attempt.outcome, attempt.ended = "unknown", time.monotonic()
        else:
            attempt.ended = time.monotonic()
            self.answered(attempt, answer)
        well = self.cluster.troubled.get(attempt.node, 0.0) < attempt.began
        easy = attempt.kind == "put" and attempt.w == 1 and not attempt.strict
        attempt.due = well and easy and attempt.status != 409  # C8
        self.events.append(attempt)

    def answered(self, attempt: Attempt, answer: httpx.Response) -> None:
        attempt.status = answer.status_code
        if answer.status_code >= 400 and answer.content:
            attempt.problem = answer.json()["type"].rpartition("/")[2]
        absent = attempt.kind == "get" and answer.status_code == 404
        if answer.status_code < 300 or absent:
            attempt.outcome = "ok"
        elif answer.headers.get("dynamo-applied") == "unknown":
            attempt.outcome = "unknown"
        else:
            attempt.outcome = "fail"
        if attempt.outcome != "ok":
            return
        context = answer.headers.get("dynamo-context", "")
        if attempt.kind == "get":
            values = answer.json()["values"] if answer.status_code == 200 else []
            attempt.shown = [b64decode(value["data"]) for value in values]
            seen = [int(data.split()[0][1:]) for data in attempt.shown]
        else:
            seen = [*attempt.seen, attempt.value]
        if context:
            self.contexts[attempt.key] = (context, seen)


def msgspec_copy(attempt: Attempt, **changes: Any) -> Attempt:
    fields = {name: getattr(attempt, name) for name in attempt.__struct_fields__}
    return Attempt(**{**fields, **changes, "shown": []})


async def trouble(cluster: Cluster, events: list[Event]) -> None:
    """Kills, stops, wipes, cuts: alone and in pairs, in an order that the seed decides."""
    chance = random.Random(SEED)
    wiped = chance.choice(NAMES)
    kinds = ["kill", "stop", "cut off", "one way", "closed", "kill"]
    acts = [[kind] for kind in kinds] + [["wipe"]]
    acts += [chance.sample(kinds, 2) for _ in range(3)]
    chance.shuffle(acts)
    for act in acts:
        await asyncio.sleep(CALM_S)
        for kind, name in zip(act, chance.sample(NAMES, len(act)), strict=True):
            await asyncio.to_thread(begin, cluster, kind, name, wiped, chance, events)
        await asyncio.sleep(TROUBLE_S)
        await asyncio.to_thread(heal, cluster)


def begin(
    cluster: Cluster, kind: str, name: str, wiped: str, chance: random.Random, events: list[Event]
) -> None:
    node = cluster.nodes[wiped if kind == "wipe" else name]
    other = chance.choice([n for n in NAMES if n != node.name])
    process = node.process
    assert process is not None
    if kind in ("kill", "wipe"):
        cluster.fault(node.name)
        node.kill()
    if kind == "wipe":
        node.wipe()
        # Whatever was written before may have had a copy there (C7: W-1 disks may be lost).
        events += [
            Damage(e.value, node.name)
            for e in list(events)
            if isinstance(e, Attempt) and e.kind != "get"
        ]
    elif kind == "stop":
        cluster.fault(node.name)
        process.send(signal.SIGSTOP)
    elif kind == "cut off":
        cluster.links.isolate(node.name)
    elif kind == "one way":
        cluster.links.cut(node.name, other)
    elif kind == "closed":
        cluster.links.isolate(node.name, "closed")


def heal(cluster: Cluster) -> None:
    cluster.links.heal()
    for name, node in cluster.nodes.items():
        process = node.process
        assert process is not None
        if not node.alive:
            cluster.restart(name)
        elif cluster.troubled.get(name) == float("inf"):
            process.send(signal.SIGCONT)
            cluster.over(name)


def settled(cluster: Cluster) -> bool:
    """Everybody up, complete, without hints, and a whole repair that found nothing to repair."""
    for node in cluster.nodes.values():
        try:
            status = httpx.get(node.admin + "/v1/status", timeout=5).json()
        except httpx.HTTPError:
            return False
        counts = status["partitions"]
        if set(status["peers"].values()) != {"up"} or any(
            hint["count"] for hint in status["hints"].values()
        ):
            return False
        if counts["owned"] != counts["complete"]:
            return False
    node = cluster.nodes[NAMES[0]]
    asked = httpx.post(node.admin + "/v1/repairs", json={}, timeout=10).json()["id"]
    report: dict[str, Any] = {}

    def done() -> bool:
        report.update(httpx.get(f"{node.admin}/v1/repairs/{asked}", timeout=10).json())
        return report["state"] != "running"

    until(done, "a repair does not end", HEAL_S_MAX)
    return report["state"] == "done" and report["keys_repaired"] == 0


async def read_all(cluster: Cluster, events: list[Event]) -> None:
    """Every key through every node."""
    client = Client(0, cluster, events)
    async with httpx.AsyncClient(timeout=30) as http:
        for key in KEYS:
            for name in NAMES:
                attempt = Attempt(kind="get", key=key, node=name, r=1, final=True, due=True)
                await client.attempt(http, attempt, {})
                attempt.due = True


def test_nothing_acknowledged_is_lost_and_nothing_deleted_returns(
    cluster: Cluster, tmp_path: Path
) -> None:
    events: list[Event] = [Setting(n=3)]

    async def run() -> None:
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(Client(number, cluster, events).run(stop))
            for number in range(CLIENTS)
        ]
        await trouble(cluster, events)
        stop.set()
        await asyncio.gather(*clients)
        await asyncio.to_thread(until, lambda: settled(cluster), "not converged", HEAL_S_MAX)
        await read_all(cluster, events)

    asyncio.run(run())
    save(tmp_path / "history.jsonl", events)
    met = Counter((e.kind, e.outcome) for e in events if isinstance(e, Attempt))
    assert check(events) == [], f"SEED={SEED}, {tmp_path}/history.jsonl, {met}"
    assert met["put", "ok"] > 200 and met["delete", "ok"] > 20, met
    assert met["put", "unknown"] + met["get", "unknown"] + met["get", "fail"] > 0, met
    statuses = [httpx.get(n.admin + "/metrics").text for n in cluster.nodes.values()]
    assert any("dynamo_hints" in text for text in statuses)


def test_the_last_node_alive_takes_puts_at_w_1(cluster: Cluster) -> None:
    """C8: always writeable."""
    last = cluster.nodes["n3"]
    for node in cluster.nodes.values():
        if node is not last:
            node.kill()
    for number in range(20):
        answer = httpx.put(f"{last.endpoint}/v1/kv/key-{number}?w=1", content=b"v", timeout=10)
        assert answer.status_code == 204, answer.text
        refused = httpx.put(f"{last.endpoint}/v1/kv/key-{number}?w=3&timeout_ms=300", timeout=10)
        assert refused.status_code == 503
        assert refused.headers["dynamo-applied"] in ("unknown", "no")
    for name in NAMES:
        if name != last.name:
            cluster.restart(name)
    until(lambda: settled(cluster), "not converged", HEAL_S_MAX)
    for number in range(20):
        for node in cluster.nodes.values():
            answer = httpx.get(f"{node.endpoint}/v1/kv/key-{number}", timeout=10)
            assert answer.status_code in (200, 300), (node.name, number, answer.text)
