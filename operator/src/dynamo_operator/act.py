"""Carries out what was planned, one request after the other.

A request that meets somebody else's change is no error: the next look will see what is. One that
could not be made at all ends the pass and is tried again later, from a new look.
"""

from __future__ import annotations

from collections.abc import Callable
from secrets import token_urlsafe
from typing import Any

from msgspec import Struct, structs

from dynamo_operator import actions as do
from dynamo_operator import children
from dynamo_operator.events import EventRecorder
from dynamo_operator.ports import Busy, Conflict, Failed, Found, Gone, KubeApi, NodeApi, Refused
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.status_fields import PlanStatus

SECRET_BYTES = 32


class Outcome(Struct, frozen=True):
    """What became of a step. `settled`: actions that proved to need no change, or are refused
    however often they are asked for; `said`: why one waits; `refused`: what the API server or the
    nodes said to one; `plan`: what waits for approval; `failed`: try again later."""

    changed: bool = False
    settled: frozenset[str] = frozenset()
    said: str = ""
    refused: str = ""
    plan: PlanStatus | None = None
    failed: Failed | None = None


class _Settled(Exception):
    """The action is not needed."""


class _Waits(Exception):
    """Not now: no node can take it, or nobody has approved its plan."""

    def __init__(self, why: str, plan: PlanStatus | None = None) -> None:
        super().__init__(why)
        self.plan = plan


class Actor:
    """Acts through the two ports; `did` is told of every action that was carried out."""

    def __init__(
        self,
        kube: KubeApi,
        nodes: NodeApi,
        recorder: EventRecorder,
        did: Callable[[do.Act], None] = lambda action: None,
    ) -> None:
        self.kube = kube
        self.nodes = nodes
        self.recorder = recorder
        self.did = did
        self._ways: dict[type, Any] = {
            do.MakeSecret: self._make_secret,
            do.Apply: self._apply,
            do.PatchClaim: self._patch_claim,
            do.Delete: self._delete,
            do.Evict: self._evict,
            do.Found: self._found,
            do.Change: self._change,
            do.Cancel: self._cancel,
            do.StartRepair: self._start_repair,
            do.MakeRepair: self._make_repair,
        }

    async def carry_out(self, o: Snapshot, step: do.Step) -> Outcome:
        """The step's actions in order, up to the first that meets a change or cannot be made."""
        outcome = Outcome()
        for action in step.actions:
            try:
                await self._ways[type(action)](o, action)
            except (Conflict, Gone) as met:
                return structs.replace(outcome, changed=True, said=str(met))
            except Busy as busy:
                return structs.replace(outcome, said=f"not now: {busy}")
            except Refused as error:
                settled = outcome.settled | {action.key}
                outcome = structs.replace(outcome, settled=settled, refused=str(error))
                continue
            except _Settled:
                outcome = structs.replace(outcome, settled=outcome.settled | {action.key})
                continue
            except _Waits as waits:
                return structs.replace(outcome, said=str(waits), plan=waits.plan)
            except Failed as failed:
                return structs.replace(outcome, said=str(failed), failed=failed)
            outcome = structs.replace(outcome, changed=True)
            self.did(action)
            if action.note is not None:
                await self.recorder.tell(o, action.note)
        return outcome

    async def _make_secret(self, o: Snapshot, action: do.MakeSecret) -> None:
        await self.kube.create(children.secret(o.owner, o.spec, token_urlsafe(SECRET_BYTES)))

    async def _apply(self, o: Snapshot, action: do.Apply) -> None:
        body = dict(action.object)
        kind, name = body["kind"], body["metadata"]["name"]
        seen = o.objects.get((kind, name))
        if action.resource_version is not None:
            version = {"resourceVersion": action.resource_version}
            body["metadata"] = {**body["metadata"], **version}
        elif seen is None and await self.kube.get(kind, o.namespace, name) is not None:
            raise Conflict(f"{kind} {name} has appeared")  # theirs, or another operator was faster
        try:
            made = await self.kube.apply(body)
        except Gone as error:  # a kind that this API server does not have, or no such namespace
            raise Refused(f"{kind} {name}: {error}", error.status) from error
        if seen and made["metadata"]["resourceVersion"] == seen["metadata"]["resourceVersion"]:
            raise _Settled

    async def _patch_claim(self, o: Snapshot, action: do.PatchClaim) -> None:
        named = {"uid": action.uid, "resourceVersion": action.resource_version}
        body = {**action.body, "metadata": {**action.body.get("metadata", {}), **named}}
        await self.kube.patch("PersistentVolumeClaim", o.namespace, action.name, body)

    async def _delete(self, o: Snapshot, action: do.Delete) -> None:
        named = {"uid": action.uid, "resourceVersion": action.resource_version}
        await self.kube.delete(action.kind, o.namespace, action.name, named)

    async def _evict(self, o: Snapshot, action: do.Evict) -> None:
        named = {"uid": action.uid, "resourceVersion": action.resource_version}
        await self.kube.evict(o.namespace, action.name, named)

    async def _post(self, o: Snapshot, via: int, path: str, body: dict[str, Any]) -> Found:
        """A node that cannot do it now, or does not answer, is asked again soon: no back-off, for
        the nodes are few and ours."""
        named = {"cluster_id": o.ring.cluster_id} if o.ring else {}
        try:
            return await self.nodes.post(o.pods[via].address, path, o.token, {**body, **named})
        except (Conflict, Refused, Busy):
            raise
        except Failed as failed:
            raise _Waits(str(failed)) from failed

    async def _found(self, o: Snapshot, action: do.Found) -> None:
        await self._post(o, action.via, "/v1/ring", dict(action.body))

    async def _change(self, o: Snapshot, action: do.Change) -> None:
        """S-MOVE-6: what is applied is what was planned, or nothing."""
        plan = await self._post(o, action.via, "/v1/ring/plan", dict(action.wishes))
        if action.what in ("rebalance", "moves") and not plan["moves"]:
            raise _Settled
        ring = o.spec.ring
        if ring.policy == "Preview" and ring.approved_plan != plan["hash"]:
            why = f"plan {plan['hash']} waits: set spec.ring.approvedPlan to it to go on"
            raise _Waits(why, _plan_status(plan))
        operation = action.id or plan["hash"][:32]
        body = {**action.wishes, "hash": plan["hash"], "operation_id": operation}
        await self._post(o, action.via, "/v1/ring/apply", body)

    async def _cancel(self, o: Snapshot, action: do.Cancel) -> None:
        await self._post(o, action.via, "/v1/ring/cancel", {})

    async def _start_repair(self, o: Snapshot, action: do.StartRepair) -> None:
        body = {**action.body, "id": action.id}
        await self._post(o, action.via, "/v1/repairs", body)

    async def _make_repair(self, o: Snapshot, action: do.MakeRepair) -> None:
        await self.kube.create(action.object)


def _plan_status(plan: Found) -> PlanStatus:
    return PlanStatus(
        hash=plan["hash"],
        moves=len(plan["moves"]),
        bytes=plan.get("bytes"),
        before=plan["before"],
        after=plan["after"],
        violations=tuple(plan["violations"]),
    )
