"""One pass over one cluster: look, plan, act, report. It keeps nothing between passes."""

from __future__ import annotations

from collections.abc import Callable
from time import time

from msgspec import structs

from dynamo_operator.act import Actor, Outcome
from dynamo_operator.actions import Note, Step
from dynamo_operator.observe import Observer
from dynamo_operator.plan import certificates
from dynamo_operator.plan.schedule import rest_s
from dynamo_operator.plan.table import plan
from dynamo_operator.ports import Failed, KubeApi
from dynamo_operator.run_status import KEYS_LOST, run_status
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.status import changes, cluster_status, repair_status

AGAIN_S = 1.0
PROGRESS_S = 3.0
TROUBLE_S = 10.0
RESYNC_S = 300.0
APPROVAL_S = 30.0
"""Seconds until the next look: after a change, while something is under way, while copies lack
something, at rest, while a plan waits for a person. Events come sooner. The progress of a ring
makes no event, so an operator that waits for it looks again soon."""
ROUNDS_MAX = 32
TOLD = {"Ready": ("True", False), "Degraded": ("True", True), "SpecValid": ("False", True)}
"""Conditions for which an Event is also posted when they get this value; whether as a warning."""


class Reconciler:
    """The body of the loop; `saw` gets the snapshot and the result, for metrics and logs."""

    def __init__(
        self,
        observer: Observer,
        actor: Actor,
        saw: Callable[[Snapshot, Step, Outcome], None] = lambda o, step, outcome: None,
        clock: Callable[[], float] = time,
    ) -> None:
        self.observer = observer
        self.actor = actor
        self.saw = saw
        self.clock = clock

    @property
    def kube(self) -> KubeApi:
        """The port of the API server."""
        return self.observer.kube

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Seconds until the next look; None: the resource is gone. Raises Failed."""
        o = await self.observer.look(namespace, name, self.clock())
        if o is None:
            return None
        refused = ""
        runs: dict[str, tuple[str, bool]] = {}
        for _ in range(ROUNDS_MAX):
            step = plan(o)
            outcome = await self.actor.carry_out(o, step)
            refused, runs = outcome.refused or refused, runs | outcome.runs
            if outcome.changed or outcome.failed or not outcome.settled - o.settled:
                break
            o = structs.replace(o, settled=o.settled | outcome.settled)
        settled = outcome.settled | o.settled
        outcome = structs.replace(outcome, refused=refused, settled=settled, runs=runs)
        self.saw(o, step, outcome)
        whole = o.deleting or await self._tell(o, step, outcome)
        if outcome.failed is not None:
            raise outcome.failed
        if outcome.changed:
            return AGAIN_S
        if outcome.plan is not None:
            return APPROVAL_S
        idle = o.spec.stopped or (o.spec.paused and not o.pods)
        at_rest_s = RESYNC_S if whole or idle else TROUBLE_S
        at_rest_s = certificates.rest_s(o, rest_s(o, at_rest_s))
        return step.again_s or (PROGRESS_S if step.progressing else at_rest_s)

    async def _tell(self, o: Snapshot, step: Step, outcome: Outcome) -> bool:
        """Writes the status; returns whether it says Converged."""
        made = cluster_status(o, step, outcome)
        old = o.resource.get("status") or {}
        if body := changes(made, old):
            await self._write("DynamoCluster", o, o.name, body)
        before = {c["type"]: c["status"] for c in old.get("conditions") or ()}
        for condition in made.conditions:
            worth, warning = TOLD.get(condition.type, ("", False))
            if condition.status == worth != before.get(condition.type):
                note = Note(condition.reason, condition.message, warning)
                await self.actor.recorder.tell(o, note)
        for repair in o.repairs:
            news = repair_status(o, repair, outcome)
            if news is not None and (body := changes(news, repair.status)):
                await self._write("DynamoRepair", o, repair.name, body)
        for run in o.runs:
            told = run_status(o, run, outcome)
            if told is not None and (body := changes(told, run.status)):
                await self._write(run.kind, o, run.name, body)
                for end in told.conditions:
                    reason = f"{run.kind.removeprefix('Dynamo')}{end.type}"
                    warning = end.type == "Failed" or end.reason == KEYS_LOST
                    note = Note(reason, f"{run.name}: {end.message}", warning)
                    await self.actor.recorder.tell(o, note)
        return any(c.type == "Converged" and c.status == "True" for c in made.conditions)

    async def _write(self, kind: str, o: Snapshot, name: str, body: dict[str, object]) -> None:
        """Write to a resource that may have been deleted meanwhile."""
        try:
            await self.kube.patch(kind, o.namespace, name, {"status": body}, "status")
        except Failed as failed:
            if failed.status != 404:
                raise
