"""What to do next: pure, the first row that matches acts (a state table).

The operator acts on the state, never on events: a row sees one snapshot and nothing before it. So
an operator may die at any point. A look leads to at most one eviction and one ring change. If the
operator is unsure, it changes nothing and waits, with a sentence that says why.

There are four theorems. Each is stated again at its row, and tested by killing the operator before
and after every single action:

1. *A pod is not stopped before its node has left* (`floor`). The StatefulSet has
   max(size, 1 + highest ordinal whose member has not LEFT) replicas, as a majority of the members
   with one digest says; unreadable: max(size, its replicas, 1 + highest ordinal of a claim recorded
   as a member's). Lowering carries the resourceVersion that it was decided on.
2. *A claim is deleted only when its node has left for certain* (`ring.forget`), or its volume
   is lost for certain (`pods.lost_volume`), else kept.
3. *A ring is founded at most once* (`ring.create`).
4. *A node that takes no TLS and one that takes nothing else never run at once* (`going_over`).
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_operator.actions import Step
from dynamo_operator.plan import (
    backups,
    certificates,
    claims,
    objects,
    pods,
    repairs,
    ring,
    running,
    secret,
    snapshots,
    storage,
)
from dynamo_operator.snapshot import Snapshot

Row = Callable[[Snapshot], Step | None]

TABLE: tuple[tuple[str, Row], ...] = (
    ("resource being deleted, paused", objects.hands_off),
    ("spec against the ring, name taken, Secret missing", objects.invalid),
    ("Secret absent", objects.secret),
    ("authority absent, old, or on its way", certificates.authority),
    ("certificate absent, old, or of other names", certificates.certificate),
    ("base object differs", objects.belongings),
    (
        "claim not recorded as its running node says, or not owned as the spec says",
        pods.record,
    ),
    ("secret that nodes refuse, and pods to start or to update", secret.unusable),
    ("volumes of another class or too large, none there", storage.begin_again),
    ("nothing there yet, and data to begin with", claims.begin_with_data),
    ("StatefulSet absent or differs", objects.workload),
    ("stopped", objects.stopped),
    ("backup due, backup or restore that waits", backups.begin),
    ("backup by volume snapshots that waits", snapshots.take),
    ("volume lost", pods.lost_volume),
    ("pod unready at an old revision", pods.unstick),
    ("old revisions left, gates open", pods.roll),
    ("claim smaller than the spec, or larger than its volume", storage.grow),
    ("claim without a label, annotation or attribute of the spec", claims.dress),
    ("nothing there yet", ring.create),
    ("ring unreadable", ring.unreadable),
    ("volume snapshots that are not cut yet", snapshots.hold),
    ("join or leave that is no longer wanted", ring.cancel),
    ("ring change under way", ring.changing),
    ("highest pod has left or never joined", ring.shrink),
    ("claim of a node that has left", ring.forget),
    ("pods that have not joined", ring.join),
    ("rollout under way", pods.rollout),
    ("member beyond size", ring.leave),
    ("defaults differ", ring.defaults),
    ("weights, moves by hand, balance", ring.move),
    ("repairs", repairs.repairs),
    ("nodes that are not all there", pods.settling),
    ("protocol that not every node speaks", running.protocol),
    ("backups beyond the retention", backups.retention),
    ("backup or restore under way", backups.under_way),
    ("as wanted", repairs.idle),
)
"""Claims are recorded before the StatefulSet is changed: theorem 1 needs the record when the ring
cannot be read, and `stopped` makes it unreadable. Pods in no ring are handled before a rollout
continues: they are never Ready, so the disruption budget would not let any other pod be evicted."""


def plan(observed: Snapshot) -> Step:
    """The step of the first row that matches; the last row always matches."""
    for _, row in TABLE:
        step = row(observed)
        if step is not None:
            return step
    raise AssertionError("the last row matches everything")
