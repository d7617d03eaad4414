"""A simulated API server with its controllers and kubelets, as the operator sees them.

Objects are replaced, never changed in place, so a look does not change later. Optimistic locking,
server-side apply, preconditions, finalizers of claims, owner references and disruption budgets
behave as those of a real API server; the StatefulSet controller is Parallel and OnDelete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from decimal import Decimal
from hashlib import sha256
from typing import Any

from dynamo_operator.ports import FIELD_MANAGER, failure
from dynamo_operator.quantity import amount, instant, stamp
from tests.dynamo_operator.merging import applied, merged, without
from tests.dynamo_operator.simulated_machines import Key, Object, SimulatedMachines, machine_of
from tests.dynamo_operator.simulated_mounts import mount_of
from tests.dynamo_operator.simulated_ring import SimulatedRing
from tests.dynamo_operator.simulated_snapshots import SnapshotDriver, started


class SimulatedKube(SimulatedMachines):
    """`ports.KubeApi`; `point` is called before and after each request that changes something,
    `audit` with what a request will delete or has applied. A volume needs `attach_s` to attach to
    the machine of a new pod; `pods_max` is a quota; claims of `classes_unknown` get no volume; the
    pods in `homeless` find no machine, so they get no volume either; `snapshots` are copies of
    disks, by name."""

    def __init__(
        self, ring: SimulatedRing, point: Callable[[str], Any], audit: Callable[[str, Object], None]
    ) -> None:
        super().__init__(ring)
        self.point = point
        self.audit = audit
        self.now = 1_700_000_000.0
        self.applied: dict[Key, Object] = {}
        self.count = 0
        self.broken_images: set[str] = set()
        self.attach_s = 0.0
        self.pods_max: int | None = None
        self.classes_unknown: set[str] = set()
        self.homeless: set[str] = set()
        self.size_max = "1Pi"
        self.driver = SnapshotDriver()
        self.snapshots = self.driver.disks
        self.keys: Object | None = {"keys": [{"kty": "EC"}]}

    # ------------------------------------------------------------ requests

    async def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """A read."""
        await self.point(f"get {kind}")
        if kind == "Node":
            return None if name in self.gone else machine_of(name)
        if kind == "PersistentVolume":
            return self._volume(name)
        return self.objects.get((kind, namespace, name))

    async def find(self, kind: str, namespace: str, selector: str = "") -> list[Object]:
        """Reads by label."""
        await self.point(f"list {kind}")
        self.driver.check(kind, "list")
        if kind == "Node":
            name = selector.partition("=")[2]
            return [] if name in self.gone else [machine_of(name)]
        return list(self._all(kind, namespace, selector))

    def _all(self, kind: str, namespace: str, selector: str = "") -> Iterator[Object]:
        wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
        for (its_kind, its_namespace, _), item in self.objects.items():
            if (its_kind, its_namespace) == (kind, namespace):
                labels = item["metadata"].get("labels", {})
                if wanted.items() <= labels.items():
                    yield item

    async def read(self, path: str) -> Object:
        """Its keys, and itself as an issuer."""
        await self.point(f"get {path}")
        if self.keys is None:
            raise failure(403, "forbidden")
        return self.keys if path.endswith("jwks") else {"issuer": "https://kubernetes"}

    async def create(self, body: Mapping[str, Any]) -> Object:
        """POST."""
        await self.point(f"create {body['kind']} {body['metadata']['name']}")
        key = _key(body)
        self.driver.check(key[0], "create")
        if key in self.objects:
            raise failure(409, f"{key[0]} {key[2]} already exists")
        bare = {"status": {"phase": "Pending"}} if key[0] == "PersistentVolumeClaim" else {}
        made = self._store(key, {**body, **bare})
        await self.point("done")
        return made

    async def apply(self, body: Mapping[str, Any]) -> Object:
        """Server-side apply: fields that the manager applied before and now leaves out are
        removed."""
        await self.point(f"apply {body['kind']} {body['metadata']['name']}")
        key = _key(body)
        existing = self.objects.get(key)
        meta = dict(body["metadata"])
        version = meta.pop("resourceVersion", None)
        wanted = {**body, "metadata": meta}
        if version is not None and (
            existing is None or existing["metadata"]["resourceVersion"] != version
        ):
            raise failure(409, f"{key[2]}: the object has been modified")
        templates = [
            item.get("spec", {}).get("volumeClaimTemplates")
            for item in (existing or wanted, wanted)
        ]
        if templates[0] != templates[1]:
            raise failure(422, "spec: Forbidden: updates to volumeClaimTemplates")
        base = without(existing, self.applied.get(key, {})) if existing else {}
        hands = {"managedFields": [{"manager": FIELD_MANAGER, "operation": "Apply"}]}
        body = applied(base, wanted)
        made = self._store(key, {**body, "metadata": body["metadata"] | hands})
        self.applied[key] = wanted
        self.audit("apply", made)
        await self.point("done")
        return made

    async def patch(
        self, kind: str, namespace: str, name: str, body: Mapping[str, Any], sub: str = ""
    ) -> Object:
        """Merge patch."""
        await self.point(f"patch {kind}{sub and '/' + sub} {name}")
        key = kind, namespace, name
        existing = self._precise(key, body.get("metadata", {}))
        if kind == "PersistentVolumeClaim" and "spec" in body:
            _changeable(existing, body["spec"])
        wanted = json.loads(json.dumps(body))
        if sub == "status":
            wanted = {"status": wanted["status"]}
        made = self._store(key, merged(existing, wanted))
        await self.point("done")
        return made

    async def delete(
        self, kind: str, namespace: str, name: str, preconditions: Mapping[str, str]
    ) -> None:
        """DELETE of one very object."""
        await self.point(f"delete {kind} {name}")
        self.audit("delete", self._precise((kind, namespace, name), preconditions))
        self.remove(kind, namespace, name)
        await self.point("done")

    async def evict(self, namespace: str, name: str, preconditions: Mapping[str, str]) -> None:
        """Under the budget; a pod that is not ready may always be evicted."""
        await self.point(f"evict {name}")
        pod = self._precise(("Pod", namespace, name), preconditions)
        if "deletionTimestamp" not in pod["metadata"] and is_ready(pod):
            budget = self.objects.get(("PodDisruptionBudget", namespace, _instance(pod)))
            pods = [p for p in self._all("Pod", namespace) if _instance(p) == _instance(pod)]
            sts = self.objects.get(("StatefulSet", namespace, _instance(pod)))
            wanted = sts["spec"]["replicas"] if sts else len(pods)
            healthy = sum(is_ready(p) and "deletionTimestamp" not in p["metadata"] for p in pods)
            if budget and healthy - 1 < wanted - budget["spec"]["maxUnavailable"]:
                raise failure(429, "Cannot evict pod as it would violate the disruption budget")
        self.audit("evict", pod)
        self.remove("Pod", namespace, name)
        await self.point("done")

    def _precise(self, key: Key, named: Mapping[str, Any]) -> Object:
        existing = self.objects.get(key)
        if existing is None:
            raise failure(404, f"{key[0]} {key[2]} not found")
        for field in ("uid", "resourceVersion"):
            if named.get(field, existing["metadata"][field]) != existing["metadata"][field]:
                raise failure(409, f"{key[2]}: {field} is another")
        return existing

    # ------------------------------------------------------------ the store

    def _store(self, key: Key, body: Object) -> Object:
        """With the server's own fields; an object that does not change keeps its version."""
        existing = self.objects.get(key)
        meta = dict(body["metadata"])
        body = {**body, "metadata": meta}
        if existing is None:
            self.count += 1
            meta |= {"uid": f"uid-{self.count}", "creationTimestamp": stamp(self.now)}
            meta["generation"] = 1
        else:
            for name in ("uid", "creationTimestamp", "generation", "resourceVersion"):
                meta[name] = existing["metadata"][name]
            if body == existing:
                return existing
            meta["generation"] += body.get("spec") != existing.get("spec")
        self.count += 1
        meta["resourceVersion"] = str(self.count)
        self.objects[key] = body
        return body

    def change(self, kind: str, namespace: str, name: str, **fields: Any) -> None:
        """An edit by a person or a controller: each field is merged in at the top."""
        key = kind, namespace, name
        self._store(key, merged(self.objects[key], fields))

    def put(self, body: Object) -> Object:
        """A creation by a person or a controller."""
        return self._store(_key(body), body)

    def remove(self, kind: str, namespace: str, name: str) -> None:
        """A deletion: pods have a grace period, claims in use a finalizer."""
        key = kind, namespace, name
        slow = kind == "Pod" or (kind == "PersistentVolumeClaim" and self._used(namespace, name))
        if slow and "deletionTimestamp" not in self.objects[key]["metadata"]:
            self.change(*key, metadata={"deletionTimestamp": stamp(self.now)})
        elif not slow:
            self._forget(key)

    def _used(self, namespace: str, claim: str) -> bool:
        pod = self.objects.get(("Pod", namespace, claim.removeprefix("data-")))
        return pod is not None and bool(pod["status"].get("podIP"))

    def _forget(self, key: Key) -> None:
        gone = self.objects.pop(key)
        self.applied.pop(key, None)
        if key[0] == "PersistentVolumeClaim":
            self.ring.wipe(gone["metadata"]["uid"])

    def orphan(self, kind: str, namespace: str, name: str) -> None:
        """A deletion with `--cascade=orphan`: the owned objects stay, without their owner."""
        gone = self.objects[kind, namespace, name]["metadata"]["uid"]
        for key, item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences") or []
            kept = [owner for owner in owners if owner["uid"] != gone]
            if len(kept) < len(owners):
                self.change(*key, metadata={"ownerReferences": kept or None})
        self._forget((kind, namespace, name))

    # ------------------------------------------------------------ controllers and kubelets

    def step(self, seconds: float = 1.0) -> None:
        """Time passes: controllers and kubelets do their work."""
        self.now += seconds
        self._collect_garbage()
        for item in [i for k, i in self.objects.items() if k[0] == "StatefulSet"]:
            self._stateful_set(item)
        for key, told in self.driver.step(self.objects, self.ring, self.now).items():
            self.change(*key, status=told)
        for key, item in list(self.objects.items()):
            if key[0] == "PersistentVolumeClaim":
                self._claim(key, item)
            elif key[0] == "Pod":
                self._pod(key, item)

    def _collect_garbage(self) -> None:
        uids = {item["metadata"]["uid"] for item in self.objects.values()}
        for key, item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences")
            if owners and not any(owner["uid"] in uids for owner in owners):
                self.remove(*key)

    def _stateful_set(self, item: Object) -> None:
        meta, spec = item["metadata"], item["spec"]
        namespace, name = meta["namespace"], meta["name"]
        text = repr(spec["template"]).encode()
        revision = f"{name}-{sha256(text).hexdigest()[:8]}"
        status = {"observedGeneration": meta["generation"], "updateRevision": revision}
        self.change("StatefulSet", namespace, name, status=status)
        for ordinal in range(spec["replicas"]):
            self._make(item, ordinal, revision)
        for pod in list(self._all("Pod", namespace)):
            ordinal = int(pod["metadata"]["name"].rpartition("-")[2])
            if _instance(pod) == name and ordinal >= spec["replicas"]:
                self.remove("Pod", namespace, pod["metadata"]["name"])

    def _make(self, item: Object, ordinal: int, revision: str) -> None:
        meta, spec = item["metadata"], item["spec"]
        pod, namespace = f"{meta['name']}-{ordinal}", meta["namespace"]
        template = spec["volumeClaimTemplates"][0]
        if ("PersistentVolumeClaim", namespace, f"data-{pod}") not in self.objects:
            name = template["metadata"] | {"name": f"data-{pod}", "namespace": namespace}
            claim = {"kind": "PersistentVolumeClaim", "metadata": name, "spec": template["spec"]}
            self.put({**claim, "status": {"phase": "Pending"}})
        room = self.pods_max is None or len(list(self._all("Pod", namespace))) < self.pods_max
        if ("Pod", namespace, pod) not in self.objects and room:
            made = deepcopy(spec["template"])
            made["metadata"] |= {"name": pod, "namespace": namespace}
            made["metadata"]["labels"]["controller-revision-hash"] = revision
            made["metadata"]["ownerReferences"] = [{"uid": meta["uid"], "controller": True}]
            self.put({"kind": "Pod", **made, "status": {}})

    def _claim(self, key: Key, item: Object) -> None:
        size = item["spec"]["resources"]["requests"]["storage"]
        if "deletionTimestamp" in item["metadata"] and not self._used(key[1], key[2]):
            self._forget(key)
        elif item["spec"].get("storageClassName") in self.classes_unknown:
            return
        elif key[2].removeprefix("data-") in self.homeless:
            return  # its class waits for the first consumer
        elif item["status"]["phase"] == "Bound" and number(size) > number(self.size_max):
            return  # such a disk does not exist
        elif item["status"]["phase"] != "Lost" and item["status"].get("capacity") != size:
            if source := item["spec"].get("dataSource"):
                copy = deepcopy(self.snapshots[source["name"]])
                self.ring.disks.setdefault(item["metadata"]["uid"], copy)
            self.ring.disks.pop(f"copy of {key[2]}", None)
            capacity = {"storage": size}
            self._place(item)
            volume = {"volumeName": f"pv-{key[2]}"} if self.local else {}
            self.change(*key, spec=volume, status={"phase": "Bound", "capacity": capacity})

    def _pod(self, key: Key, item: Object) -> None:
        meta, status = item["metadata"], item["status"]
        address = status.get("podIP", "")
        dead = item["spec"].get("nodeName") in self.dead
        if dead:
            self.ring.stop(address)
        elif "deletionTimestamp" in meta:
            self.ring.stop(address)
            self._forget(key)
            return
        claim = self.objects.get(("PersistentVolumeClaim", key[1], f"data-{key[2]}"))
        bound = claim is not None and claim["status"]["phase"] == "Bound"
        bound = bound and self.now - (instant(meta["creationTimestamp"]) or 0.0) >= self.attach_s
        image = item["spec"]["containers"][0]["image"]
        mount = mount_of(item, self.objects)
        pace_s = 2 + 8 * int(meta["name"].rpartition("-")[2])
        if address and mount is not None and self.now % pace_s < 1.0:
            self.ring.mounted(address, mount)  # each kubelet brings files up to date at its pace
        if mount is None and not address:
            return  # ContainerCreating
        if not address and bound and claim and "deletionTimestamp" not in claim["metadata"]:
            if image in self.broken_images:
                waiting = {"waiting": {"reason": "ErrImagePull"}}
                self.change(
                    *key, status={"containerStatuses": [{"name": "node"} | {"state": waiting}]}
                )
                return
            self.count += 1
            address = f"10.0.{self.count // 256}.{self.count % 256}"
            machine = self.pinned[claim["metadata"]["uid"]]
            if machine in self.gone:
                why = "1 node(s) had volume node affinity conflict"
                condition = {"type": "PodScheduled", "status": "False", "message": why}
                self.change(*key, status={"conditions": [condition]})
                return
            state = {"running": {"startedAt": stamp(self.now)}}
            running = [{"name": "node", "state": state}]
            self.change(
                *key,
                spec={"nodeName": machine},
                status={"podIP": address, "containerStatuses": running},
            )
            assert mount is not None
            started(self.ring, claim["metadata"]["uid"], meta["name"], mount.env)
            self.ring.mounted(address, mount)
            self.ring.start(meta["name"], address, claim["metadata"]["uid"])
        elif address:
            told = "True" if self.ring.ready(address) else "False"
            last = (status.get("conditions") or [{}])[0]
            if last.get("status") != told:
                since = {"type": "Ready", "status": told, "lastTransitionTime": stamp(self.now)}
                self.change(*key, status={"conditions": [since]})


def number(size: str) -> Decimal:
    """Bytes of a quantity."""
    found = amount(size)
    assert found is not None
    return found


def _changeable(claim: Object, spec: Object) -> None:
    """As Kubernetes 1.34: only bound claims, only to more than the volume has, and to another class
    of attributes."""
    asked = spec.get("resources", claim["spec"]["resources"])["requests"]["storage"]
    wish, had = number(asked), number(claim["spec"]["resources"]["requests"]["storage"])
    if claim["status"]["phase"] != "Bound":
        raise failure(
            422, "spec: Forbidden: spec is immutable after creation except on bound claims"
        )
    if wish < had and wish <= number(claim["status"]["capacity"]["storage"]):
        raise failure(422, "spec.resources.requests.storage: can not be less than status.capacity")


def is_ready(pod: Object) -> bool:
    """Whether the kubelet calls the pod Ready."""
    conditions = pod["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def ready_since(pod: Object) -> float | None:
    """When it became Ready."""
    return instant(pod["status"]["conditions"][0]["lastTransitionTime"]) if is_ready(pod) else None


def _key(body: Mapping[str, Any]) -> Key:
    return body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]


def _instance(item: Object) -> str:
    return str(item["metadata"].get("labels", {}).get("app.kubernetes.io/instance", ""))
