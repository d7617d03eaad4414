"""Looks for tests: a ring in the wanted state, with one thing changed."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from msgspec import structs

from dynamo_operator.archive_runs import BACKUP, Run
from dynamo_operator.node_answers import LEFT, Entry, Node
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import backup_spec, cluster_spec
from dynamo_operator.volume_snapshots import Taken
from tests.dynamo_operator.stories import make
from tests.dynamo_operator.world import NAMESPACE, World


@cache
def settled(size: int = 3, replace: str = "VolumeLost") -> Snapshot:
    """A look at a ring that has been in the wanted state for some time."""
    world = World()
    asyncio.run(world.play([make(size=size, recovery={"autoReplace": replace})]))
    look = world.operators[0].observer.look
    o = asyncio.run(look(NAMESPACE, "cart", world.kube.now + 600))
    assert o is not None
    return o


def asked(o: Snapshot, **spec: Any) -> Snapshot:
    """The same look with another spec."""
    return structs.replace(o, spec=cluster_spec({**o.resource["spec"], **spec}))


def pod(o: Snapshot, ordinal: int, **fields: Any) -> Snapshot:
    """The same look with one other pod."""
    return structs.replace(o, pods={**o.pods, ordinal: structs.replace(o.pods[ordinal], **fields)})


def claim(o: Snapshot, ordinal: int, **fields: Any) -> Snapshot:
    """The same look with one other claim."""
    changed = structs.replace(o.claims[ordinal], **fields)
    return structs.replace(o, claims={**o.claims, ordinal: changed})


def node(o: Snapshot, ordinal: int, **fields: Any) -> Snapshot:
    """The same look with another answer of one node."""
    changed = structs.replace(o.nodes[ordinal], **fields)
    return structs.replace(o, nodes={**o.nodes, ordinal: changed})


def line(o: Snapshot, ordinal: int, **fields: Any) -> Snapshot:
    """The same look with another line in the ring."""
    assert o.ring is not None
    name = o.pod_name(ordinal)
    members = tuple(structs.replace(m, **fields) if m.name == name else m for m in o.ring.members)
    return ring(o, members=members)


def ring(o: Snapshot, **fields: Any) -> Snapshot:
    """The same look with another ring document."""
    assert o.ring is not None
    return structs.replace(o, ring=structs.replace(o.ring, **fields))


def without(o: Snapshot, what: str, ordinal: int) -> Snapshot:
    """The same look, without a pod, a claim or a node's answer."""
    return structs.replace(o, **{what: {i: v for i, v in getattr(o, what).items() if i != ordinal}})


def silent(o: Snapshot) -> Snapshot:
    """No node shows a ring."""
    return structs.replace(o, ring=None, exact=False, unanimous=False, nodes={})


def old(o: Snapshot, *ordinals: int) -> Snapshot:
    """Pods at an old revision."""
    for ordinal in ordinals:
        o = pod(o, ordinal, revision="cart-old")
    return o


def empty(o: Snapshot, age: float = -1.0) -> Snapshot:
    """As before the ring is created; claims are this many seconds older than the resource."""
    nodes = {i: Node(name=n.name, id=n.id, disk="empty") for i, n in o.nodes.items()}
    claims = {
        i: structs.replace(c, annotations={}, created=o.created - age) for i, c in o.claims.items()
    }
    return structs.replace(silent(o), nodes=nodes, claims=claims)


def left(o: Snapshot, ordinal: int) -> Snapshot:
    """A node that has left: the ring says so, and it owns nothing."""
    assert o.ring is not None
    name = o.pod_name(ordinal)
    others = [m.name for m in o.ring.members if m.name != name]
    entries = tuple(Entry(tuple(others[:3])) for _ in o.ring.entries)
    return line(ring(o, entries=entries, target=None), ordinal, state=LEFT)


def lost(o: Snapshot, **fields: Any) -> Snapshot:
    """The volume of cart-1 is gone, its pod does not run."""
    gone = pod(o, 1, running=False, ready_since=None)
    return without(claim(gone, 1, phase="Lost", **fields), "nodes", 1)


def snapped(o: Snapshot, *cut: float | None, **status: Any) -> Snapshot:
    """A backup by volume snapshots waits; so many were asked for, of which some are cut."""
    assert o.ring is not None
    made = tuple(
        Taken(f"now-{i}", i, o.now - 5, when, epoch=str(o.ring.epoch)) for i, when in enumerate(cut)
    )
    spec = backup_spec({"clusterName": "cart", "method": "VolumeSnapshot"})
    run = Run(
        kind=BACKUP, name="now", uid="1a2b", resource_version="1", created=o.now - 9, spec=spec,
        status=status, taken=made, copied=bool(made),
    )  # fmt: skip
    return structs.replace(o, runs=(run,))


def unjoined(o: Snapshot, ordinal: int, disk: Any = "empty") -> Snapshot:
    """A node that reports that it is in no ring."""
    return node(o, ordinal, disk=disk, state=None, cluster_id=None, digest="")
