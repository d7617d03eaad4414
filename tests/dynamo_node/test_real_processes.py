"""Five real nodes with RocksDB: killed, stopped, wiped, cut off; then the checker is asked."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from benchmarks.cluster import Cluster, cluster_of
from benchmarks.witnesses import CLIENTS, Record, Witness, look

SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
NAMES = ["n0", "n1", "n2", "n3", "n4"]
KEYS = [b"cart-%d" % index for index in range(40)]
CALM_S, TROUBLE_S = 0.7, 1.6


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(tmp_path, NAMES) as made:
        yield made


async def trouble(cluster: Cluster, record: Record) -> None:
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
            name = wiped if kind == "wipe" else name
            other = chance.choice([n for n in NAMES if n != name])
            await asyncio.to_thread(begin, cluster, kind, name, other)
            if kind == "wipe":
                record.lost(name)
        await asyncio.sleep(TROUBLE_S)
        await asyncio.to_thread(cluster.heal)


def begin(cluster: Cluster, kind: str, name: str, other: str) -> None:
    if kind in ("kill", "wipe"):
        cluster.kill(name)
    if kind == "wipe":
        cluster.nodes[name].wipe()
    elif kind == "stop":
        cluster.pause(name)
    elif kind == "cut off":
        cluster.links.isolate(name)
    elif kind == "one way":
        cluster.links.cut(name, other)
    elif kind == "closed":
        cluster.links.isolate(name, "closed")


def test_nothing_acknowledged_is_lost_and_nothing_deleted_returns(
    cluster: Cluster, tmp_path: Path
) -> None:
    record = Record(KEYS)

    async def run() -> None:
        stop = asyncio.Event()
        clients = [
            asyncio.create_task(Witness(index, cluster, record, SEED).run(stop))
            for index in range(CLIENTS)
        ]
        await trouble(cluster, record)
        stop.set()
        await asyncio.gather(*clients)
        await asyncio.to_thread(cluster.settle)
        await look(cluster, record)

    asyncio.run(run())
    met, wrong = record.met(), record.verdict()
    record.save(tmp_path, wrong)
    assert wrong == [], f"SEED={SEED}, {tmp_path}/ladder.txt, {met}"
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
    for index in range(20):
        answer = httpx.put(f"{last.endpoint}/v1/kv/key-{index}?w=1", content=b"v", timeout=10)
        assert answer.status_code == 204, answer.text
        refused = httpx.put(f"{last.endpoint}/v1/kv/key-{index}?w=3&timeout_ms=300", timeout=10)
        assert refused.status_code == 503
        assert refused.headers["dynamo-applied"] in ("unknown", "no")
    for name in NAMES:
        if name != last.name:
            cluster.restart(name)
    cluster.settle()
    for index in range(20):
        for node in cluster.nodes.values():
            answer = httpx.get(f"{node.endpoint}/v1/kv/key-{index}", timeout=10)
            assert answer.status_code in (200, 300), (node.name, index, answer.text)
