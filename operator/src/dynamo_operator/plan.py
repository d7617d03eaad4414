"""What to do next: pure, the first row that matches acts (a state table).

The level is reconciled, never the edge: a row sees one look and nothing before it, so it does not
matter who died where. At most one eviction and one ring change come out of a look. Whatever is
unsure is kept, and waits with a sentence that says why.

Three theorems, each stated again where it is kept, each tested by killing the operator around every
single action:

1. *Pods are not taken before their node has left* (`floor`). The StatefulSet has
   max(size, 1 + highest ordinal whose member has not LEFT) replicas, as a majority of the members
   with one digest says; unreadable: max(size, its replicas, 1 + highest ordinal of a claim recorded
   as a member's). Lowering carries the resourceVersion that it was decided on.
2. *A claim is deleted only when its node has left for certain* (`plan_ring.forget`), else kept.
3. *A ring is founded at most once* (`plan_ring.found`).
"""

from __future__ import annotations

from collections.abc import Callable

from dynamo_operator import plan_objects, plan_pods, plan_repairs, plan_ring, plan_storage
from dynamo_operator.actions import Step
from dynamo_operator.observed import Observed

Row = Callable[[Observed], Step | None]

TABLE: tuple[tuple[str, Row], ...] = (
    ("resource being deleted, paused", plan_objects.hands_off),
    ("spec against the ring, name taken, Secret missing", plan_objects.invalid),
    ("Secret absent", plan_objects.secret),
    ("base object differs", plan_objects.belongings),
    (
        "claim not recorded as its running node says, or not owned as the spec says",
        plan_pods.record,
    ),
    ("volumes of another class or too large, none there", plan_storage.begin_again),
    ("StatefulSet absent or differs", plan_objects.workload),
    ("stopped", plan_objects.stopped),
    ("volume lost", plan_pods.lost_volume),
    ("pod unready at an old revision", plan_pods.unstick),
    ("old revisions left, gates open", plan_pods.roll),
    ("claim smaller than the spec, or larger than its volume", plan_storage.grow),
    ("nothing there yet", plan_ring.found),
    ("ring unreadable", plan_ring.unreadable),
    ("join or leave that is no longer wanted", plan_ring.cancel),
    ("ring change under way", plan_ring.changing),
    ("highest pod has left or never joined", plan_ring.shrink),
    ("claim of a node that has left", plan_ring.forget),
    ("pods that have not joined", plan_ring.join),
    ("rollout under way", plan_pods.rollout),
    ("member beyond size", plan_ring.leave),
    ("defaults differ", plan_ring.defaults),
    ("weights, moves by hand, balance", plan_ring.move),
    ("repairs", plan_repairs.repairs),
    ("nodes that are not all there", plan_pods.settling),
    ("as wanted", plan_repairs.idle),
)
"""Claims are recorded before the StatefulSet is touched: theorem 1 leans on the record when the
ring cannot be read, and `stopped` makes it unreadable. Pods that are in no ring are seen to before
a rollout goes on: they are never Ready, so the disruption budget would not let any other go."""


def plan(observed: Observed) -> Step:
    """The step of the first row that matches; the last always does."""
    for _, row in TABLE:
        step = row(observed)
        if step is not None:
            return step
    raise AssertionError("the last row matches everything")
