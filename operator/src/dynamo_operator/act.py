"""Carries out the planned actions, one request after another.

If an object has changed meanwhile, this is no error: the next look sees the present state. A
request that could not be made ends the pass; the operator tries again later, from a new look.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from typing import Any

from msgspec import Struct, structs

from dynamo_operator import actions as do
from dynamo_operator import authority, children, protection
from dynamo_operator.events import EventRecorder
from dynamo_operator.origins import beginner
from dynamo_operator.ports import Busy, Conflict, Failed, Gone, Json, KubeApi, NodeApi, Refused
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.status_fields import PlanStatus

SECRET_BYTES = 32


class Outcome(Struct, frozen=True):
    """The result of a step. `settled`: actions that needed no change, or that are refused each
    time; `said`: why one waits; `refused`: the API server's or the nodes' message to a refused one;
    `runs`: for a backup or restore, by its action, why a node did not begin it ("": it did), and
    whether none ever will; `plan`: a plan that waits for approval; `failed`: try again later."""

    changed: bool = False
    settled: frozenset[str] = frozenset()
    said: str = ""
    refused: str = ""
    runs: dict[str, tuple[str, bool]] = {}
    plan: PlanStatus | None = None
    failed: Failed | None = None


class _Settled(Exception):
    """The action is not needed."""


class _Waits(Exception):
    """Not now: no node can carry it out, or no person has approved its plan."""

    def __init__(self, why: str, plan: PlanStatus | None = None) -> None:
        super().__init__(why)
        self.plan = plan


class _NotBegun(Exception):
    """A node does not begin a backup or restore, or the API server makes no snapshot. `for_good`:
    it will never; `run`: for which backup, where the action does not say it."""

    def __init__(self, why: str, for_good: bool, run: str = "") -> None:
        super().__init__(why)
        self.for_good = for_good
        self.run = run


class _Stays(Exception):
    """The nodes do not delete backups; all that does not wait for that goes on."""


class Actor:
    """Acts through the two ports; calls `did` after each action."""

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
            do.MakeAuthority: self._make_authority,
            do.Certify: self._certify,
            do.Apply: self._apply,
            do.PatchClaim: self._patch_claim,
            do.Delete: self._delete,
            do.DeleteTaken: self._delete_taken,
            do.Evict: self._evict,
            do.Found: self._create_ring,
            do.Change: self._change,
            do.Cancel: self._cancel,
            do.StartRepair: self._start_repair,
            do.MakeClaim: self._make,
            do.CopySecret: self._copy_secret,
            do.MakeSnapshot: self._make_snapshot,
            do.MakeRepair: self._make,
            do.MakeRun: self._make,
            do.StartRun: self._start_run,
            do.DeleteBackups: self._delete_backups,
        }

    async def carry_out(self, o: Snapshot, step: do.Step) -> Outcome:
        """The step's actions in order, up to the first one that conflicts or fails."""
        outcome = Outcome()
        for action in step.actions:
            try:
                await self._ways[type(action)](o, action)
            except _NotBegun as why:
                settled, told = outcome.settled | {action.key}, (str(why), why.for_good)
                runs = outcome.runs | {why.run or action.key: told}
                outcome = structs.replace(outcome, settled=settled, runs=runs)
                continue
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
            except _Stays as why:
                note = do.Note("BackupsNotDeleted", f"old backups stay: {why}", True)
                await self.recorder.tell(o, note)
                settled = outcome.settled | {action.key}
                return structs.replace(outcome, settled=settled, said=str(why))
            except _Waits as waits:
                return structs.replace(outcome, said=str(waits), plan=waits.plan)
            except Failed as failed:
                return structs.replace(outcome, said=str(failed), failed=failed)
            outcome = structs.replace(outcome, changed=True)
            if isinstance(action, do.StartRun):
                outcome = structs.replace(outcome, runs=outcome.runs | {action.key: ("", False)})
            self.did(action)
            if action.note is not None:
                await self.recorder.tell(o, action.note)
        return outcome

    async def _make_secret(self, o: Snapshot, action: do.MakeSecret) -> None:
        await self.kube.create(children.secret(o.owner, o.spec, token_urlsafe(SECRET_BYTES)))

    async def _make_authority(self, o: Snapshot, action: do.MakeAuthority) -> None:
        name = protection.authority_name(o.owner)
        existing = await self._unchanged(o, name, action.version)
        title = f"dynamo-ring {o.namespace}/{o.name}"
        data = authority.advanced(authority.data_of(existing), action.change, title, o.now)
        if action.change == "first":  # the former one is lost, and nodes still show its certificate
            mounted = protection.certificate_secret(o.owner, o.spec)
            there = authority.data_of(await self.kube.get("Secret", o.namespace, mounted))
            data |= authority.still_believed(there)
        await self._write_secret(o, name, data, existing, {authority.ASKED: action.asked})

    async def _certify(self, o: Snapshot, action: do.Certify) -> None:
        name = protection.certificate_secret(o.owner, o.spec)
        existing = await self._unchanged(o, name, action.version)
        own = await self.kube.get("Secret", o.namespace, protection.authority_name(o.owner))
        if own is None:
            raise Conflict(f"the authority of {o.name} has gone")
        signer = authority.data_of(own)
        data: dict[str, bytes | None] = {"ca.crt": authority.bundle(signer)}
        if action.renew:
            data |= authority.certified(signer, action.names, o.now)
        await self._write_secret(o, name, data, existing)

    async def _unchanged(self, o: Snapshot, name: str, version: str) -> Json | None:
        """The Secret, read again, as a look keeps no keys. Raises Conflict: it is another one."""
        existing = await self.kube.get("Secret", o.namespace, name)
        if (existing["metadata"]["resourceVersion"] if existing else "") != version:
            raise Conflict(f"Secret {name} has changed")
        return existing

    async def _write_secret(
        self, o: Snapshot, name: str, data: dict[str, bytes | None], existing: Json | None,
        notes: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        meta = {"annotations": notes} if notes else {}
        if existing is None:
            made = protection.secret(o.owner, name, authority.encoded(data), "tls.crt" in data)
            await self.kube.create({**made, "metadata": {**made["metadata"], **meta}})
            return
        named = {key: existing["metadata"][key] for key in ("uid", "resourceVersion")}
        body = {"metadata": meta | named, "data": authority.encoded(data)}
        await self.kube.patch("Secret", o.namespace, name, body)

    async def _apply(self, o: Snapshot, action: do.Apply) -> None:
        body = dict(action.object)
        kind, name = body["kind"], body["metadata"]["name"]
        existing = o.objects.get((kind, name))
        if action.resource_version is not None:
            version = {"resourceVersion": action.resource_version}
            body["metadata"] = {**body["metadata"], **version}
        elif existing is None and await self.kube.get(kind, o.namespace, name) is not None:
            raise Conflict(f"{kind} {name} has appeared")  # another client made it
        try:
            made = await self.kube.apply(body)
        except Gone as error:  # the API server lacks this kind or this namespace
            raise Refused(f"{kind} {name}: {error}", error.status) from error
        if (
            existing
            and made["metadata"]["resourceVersion"] == existing["metadata"]["resourceVersion"]
        ):
            raise _Settled

    async def _patch_claim(self, o: Snapshot, action: do.PatchClaim) -> None:
        named = {"uid": action.uid, "resourceVersion": action.resource_version}
        body = {**action.body, "metadata": {**action.body.get("metadata", {}), **named}}
        await self.kube.patch("PersistentVolumeClaim", o.namespace, action.name, body)

    async def _delete(self, o: Snapshot, action: do.Delete) -> None:
        named = {"uid": action.uid, "resourceVersion": action.resource_version}
        await self.kube.delete(action.kind, o.namespace, action.name, named)

    async def _delete_taken(self, o: Snapshot, action: do.DeleteTaken) -> None:
        """A driver makes no volume of a snapshot that is being deleted. So a ring whose claims are
        not all bound would wait for ever, and the snapshot for these claims."""
        rings = await self.kube.find("DynamoCluster", o.namespace)
        claims = await self.kube.find("PersistentVolumeClaim", o.namespace)
        if beginner(action.name, action.ordinals, rings, claims):
            raise _Settled
        await self._delete(o, action)

    async def _evict(self, o: Snapshot, action: do.Evict) -> None:
        named = {"uid": action.uid, "resourceVersion": action.resource_version}
        await self.kube.evict(o.namespace, action.name, named)

    async def _post(self, o: Snapshot, via: int, path: str, body: dict[str, Any]) -> Json:
        """If a node cannot do it now or does not answer, the operator asks again soon, without
        back-off, because the nodes are few and belong to the operator."""
        named = {"cluster_id": o.ring.cluster_id} if o.ring else {}
        try:
            return await self.nodes.post(o.way(via), path, {**body, **named})
        except (Conflict, Refused, Busy):
            raise
        except Failed as failed:
            raise _Waits(str(failed)) from failed

    async def _create_ring(self, o: Snapshot, action: do.Found) -> None:
        await self._post(o, action.via, "/v1/ring", dict(action.body))

    async def _change(self, o: Snapshot, action: do.Change) -> None:
        """S-MOVE-6: applies exactly the plan that was decided on, or nothing."""
        plan = await self._post(o, action.via, "/v1/ring/plan", dict(action.wishes))
        if action.what in ("rebalance", "moves") and not plan["moves"]:
            raise _Settled
        ring = o.spec.ring
        if ring.policy == "Preview" and ring.approved_plan != plan["hash"]:
            why = f"plan {plan['hash']} waits for approval: set spec.ring.approvedPlan to it"
            raise _Waits(why, _plan_status(plan))
        operation = action.id or plan["hash"][:32]
        body = {**action.wishes, "hash": plan["hash"], "operation_id": operation}
        await self._post(o, action.via, "/v1/ring/apply", body)

    async def _cancel(self, o: Snapshot, action: do.Cancel) -> None:
        await self._post(o, action.via, "/v1/ring/cancel", {})

    async def _start_repair(self, o: Snapshot, action: do.StartRepair) -> None:
        body = {**action.body, "id": action.id}
        await self._post(o, action.via, "/v1/repairs", body)

    async def _make(self, o: Snapshot, action: do.MakeClaim | do.MakeRepair | do.MakeRun) -> None:
        await self.kube.create(action.object)

    async def _copy_secret(self, o: Snapshot, action: do.CopySecret) -> None:
        made = children.secret(o.owner, o.spec, o.secret_text)
        copy = {**made, "metadata": dict(action.metadata), "immutable": True}
        await self._of_backup(action.run, copy)

    async def _make_snapshot(self, o: Snapshot, action: do.MakeSnapshot) -> None:
        await self._of_backup(action.run, action.object)

    async def _of_backup(self, run: str, made: Mapping[str, Any]) -> None:
        """If the API server refuses it, the backup fails, and all other actions go on."""
        try:
            await self.kube.create(made)
        except (Gone, Refused) as error:
            text = f"{made['kind']} {made['metadata']['name']}: {error}"
            raise _NotBegun(text, True, f"snapshots {run}") from error

    async def _start_run(self, o: Snapshot, action: do.StartRun) -> None:
        """If a node refuses it, the run waits or fails, and all other actions go on."""
        try:
            await self._post(o, action.via, action.path, dict(action.body))
        except Refused as error:
            raise _NotBegun(str(error), True) from error
        except (Failed, _Waits) as error:
            raise _NotBegun(str(error), False) from error

    async def _delete_backups(self, o: Snapshot, action: do.DeleteBackups) -> None:
        try:
            found = await self._post(o, action.via, "/v1/deletions", dict(action.body))
        except Refused as error:
            raise _Stays(str(error)) from error
        except Failed as error:
            raise _Waits(str(error)) from error
        if found["state"] == "failed":
            raise _Stays(str(found.get("reason")))
        if found["state"] != "done":
            raise _Waits("the nodes delete them")


def _plan_status(plan: Json) -> PlanStatus:
    return PlanStatus(
        hash=plan["hash"],
        moves=len(plan["moves"]),
        bytes=plan.get("bytes"),
        before=plan["before"],
        after=plan["after"],
        violations=tuple(plan["violations"]),
    )
