"""Three real nodes: puts at and beside a node that has just started, or whose fsyncs stall, end
within their deadline (S-NET-2, S-RW-8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from benchmarks.cluster import Cluster, cluster_of
from benchmarks.processes import until
from benchmarks.stalled_disks import MISSING

NAMES = ["n0", "n1", "n2"]
RESTARTS, PUTS = 5, 40
DEADLINE = "timeout_ms=5000"
"""A dropped call that is not repeated costs all of this, also on a busy machine."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(tmp_path, NAMES) as made:
        yield made


def puts(cluster: Cluster, first: str, label: str) -> list[tuple[int, float, str]]:
    """Status, seconds and what was said of `PUTS` puts in turn at this node and at the others,
    on connections that none of them has used before."""
    names = [first, *(name for name in NAMES if name != first)]
    answers = []
    with httpx.Client(timeout=10.0) as http:
        for index in range(PUTS):
            at = cluster.nodes[names[index % len(names)]]
            answer = http.put(f"{at.endpoint}/v1/kv/{label}-{index}?{DEADLINE}", content=b"v")
            said = f"{at.name} {answer.text}"
            answers.append((answer.status_code, answer.elapsed.total_seconds(), said))
    return answers


def test_all_puts_at_and_beside_a_node_that_has_just_started_are_done(cluster: Cluster) -> None:
    answers = []
    for restart in range(RESTARTS):
        name = NAMES[restart % len(NAMES)]
        if restart % 2:
            cluster.kill(name)
        else:
            cluster.nodes[name].stop()
        until(lambda: _down(cluster, name), f"{name} is not missed")  # noqa: B023
        cluster.restart(name)
        answers += puts(cluster, name, f"restart-{restart}")
    well = sum(status == 204 for status, _, _ in answers)
    print(f"{well} of {len(answers)} well, slowest {max(took for _, took, _ in answers):.3f} s")
    assert well == len(answers) == RESTARTS * PUTS, [a for a in answers if a[0] != 204]


def _down(cluster: Cluster, name: str) -> bool:
    """Whether both others know that the node is down."""
    for other in NAMES:
        if other != name:
            with cluster.admin(other) as admin:
                if admin.status()["peers"][name] == "up":
                    return False
    return True


def test_puts_go_on_while_the_fsyncs_of_one_node_stall(cluster: Cluster) -> None:
    if not cluster.disks.can_stall:
        pytest.skip(MISSING)
    victim = cluster.nodes["n2"]
    cluster.settle()
    cluster.disks.stall(victim.name)
    first = puts(cluster, victim.name, "stalls")

    def told() -> bool:
        with cluster.admin(victim.name) as admin:
            return bool(admin.status()["durability"].startswith("fsyncs stall since 20"))

    until(told, "it does not say that its fsyncs stall")
    ready = httpx.get(victim.admin + "/readyz")
    assert (ready.status_code, ready.json()["durability"][:18]) == (200, "fsyncs stall since")
    assert "dynamo_fsync_stalled 1.0" in httpx.get(victim.admin + "/metrics").text
    answers = first + puts(cluster, victim.name, "stalled")
    slowest = max(took for _, took, _ in answers)
    print(f"{len(answers)} puts while fsyncs stall, slowest {slowest:.3f} s")
    assert [answer for answer in answers if answer[0] != 204] == []
    events = sum(cluster.events().values(), Counter())
    assert events["fsyncs_asked_elsewhere"] and events["fsyncs_stalled"], events
    cluster.disks.heal(victim.name)
    until(lambda: not told(), "it does not say that they are quick again")
    assert httpx.get(victim.admin + "/readyz").json() == {"ready": True}
    cluster.settle()
