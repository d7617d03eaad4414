"""A backup by volume snapshots and a new ring that begins with them, where the cluster has a
storage driver that makes snapshots."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import NamedTuple

from tests.e2e.kubectl import Object, Refused, find, get, kubectl, until
from tests.e2e.runs import begun, ended, kill_operator, make
from tests.e2e.stage import (
    RINGS,
    Load,
    Ring,
    no_failure,
    pod_spec,
    since,
    told_by,
    trusted,
    with_identity,
)

FIRST, SECOND = Ring("first"), Ring("second")
BACKUP, BAD = "cut", "cut-badly"
EACH = 80
"""Keys of each sort."""
SOON_S = 45
LOAD_KEYS = 300
OF_BACKUP = "dynamo-ring.dev/backup-uid"
NO_CLASS = "not shown: this cluster has no VolumeSnapshotClass (snapshot.storage.k8s.io/v1)"
NO_STORAGE = "not shown: no StorageClass is of the driver of a VolumeSnapshotClass"
PROGRAM = """
import json, sys
from datetime import UTC, datetime
from dynamo_client import DynamoClient, Tls
endpoint, what, each, soon_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
client = DynamoClient(endpoint, tls=Tls(ca_file="/trust/ca.crt"), token_file="/identity/token")
told = {"one": 0, "two": 0, "gone": 0, "later": 0, "soon": 0, "wrong": []}
for n in range(each):
    if what == "write":
        client.put(f"one {n}", f"one {n}")
        for value in ("left", "right"):
            client.put(f"two {n}", f"{value} {n}")
        client.put(f"gone {n}", "to be deleted")
        client.delete(f"gone {n}")
        client.put(f"later {n}", f"later {n}", expires_in_s=3600)
        client.put(f"soon {n}", f"soon {n}", expires_in_s=soon_s)
        continue
    for sort, wanted in (
        ("one", [f"one {n}"]),
        ("two", [f"left {n}", f"right {n}"]),
        ("gone", []),
        ("later", [f"later {n}"]),
        ("soon", [f"soon {n}"]),
    ):
        found = client.get(f"{sort} {n}").values
        shown = sorted(version.data.decode() for version in found)
        ends = [version.expires_at for version in found if version.expires_at is not None]
        right = shown == wanted and len(ends) == (sort in ("later", "soon"))
        if sort == "soon" and not shown:
            continue
        told[sort] += right
        if not right or any(end < datetime.now(UTC) for end in ends):
            told["wrong"].append([f"{sort} {n}", shown, str(ends)])
told["wrong"] = told["wrong"][:5]
print(json.dumps(told), flush=True)
"""


class Storage(NamedTuple):
    """What makes volumes and snapshots here. `deletes`: its snapshots go with their objects."""

    storage_class: str
    snapshot_class: str
    deletes: bool


def _storage() -> Storage | str:
    """Classes of one driver, or what is missing."""
    try:
        cutters = json.loads(kubectl("get", "volumesnapshotclasses", "-o", "json"))["items"]
    except Refused:
        return NO_CLASS
    if not cutters:
        return NO_CLASS
    makers = json.loads(kubectl("get", "storageclasses", "-o", "json"))["items"]
    for cutter in cutters:
        for maker in makers:
            if maker["provisioner"] == cutter["driver"]:
                names = maker["metadata"]["name"], cutter["metadata"]["name"]
                return Storage(*names, cutter["deletionPolicy"] == "Delete")
    return NO_STORAGE


def snapshots_begin_another_ring() -> str:
    """Snapshots of all claims while clients write and the operator is killed; a ring of another
    name begins with them, and every key is counted; both rings live side by side. A snapshot that
    the driver cannot make fails its backup alone. A deleted backup takes its snapshots along."""
    storage = _storage()
    if isinstance(storage, str):
        return storage
    on_it = {"size": "256Mi", "className": storage.storage_class}
    FIRST.create(storage=on_it)
    FIRST.settle(3)
    _client(FIRST, "write")
    before = _client(FIRST, "read")
    load = Load(FIRST, "cutting", {"seed": 71, "keys": LOAD_KEYS}).start()
    figures = [_cut(storage)]
    make(FIRST, "DynamoBackup", BAD, method="VolumeSnapshot", snapshotClassName="none-such")
    began = time.monotonic()
    SECOND.create(storage=on_it, bootstrap={"fromBackup": {"name": BACKUP}})
    SECOND.arrive(3)
    figures.append(f"another ring Ready after {since(began)}")
    _count(before)
    counted = _counted_of_load()
    assert counted == LOAD_KEYS, counted
    figures.append(f"{5 * EACH + counted} keys counted, siblings, deletions and expiries too")
    failed = ended(FIRST, "dbackup", BAD, 240, "Failed")
    assert "none-such" in failed["message"], failed
    figures.append(f"class missing: Failed after {failed['durationSeconds']} s")
    figures.append(no_failure(load.finish()))
    _apart()
    figures.append(_deleted(storage))
    _ended_both()
    return "; ".join(figures)


def _cut(storage: Storage) -> str:
    named = storage.snapshot_class
    make(FIRST, "DynamoBackup", BACKUP, method="VolumeSnapshot", snapshotClassName=named)
    until("the snapshots are asked for", partial(begun, FIRST, "dbackup", BACKUP), 60)
    kill_operator()
    status = ended(FIRST, "dbackup", BACKUP, 300)
    assert status["snapshotsReady"] == "3/3" and len(status["snapshots"]) == 3, status
    return f"3 snapshots in {status['durationSeconds']} s, the operator killed"


def _client(ring: Ring, what: str) -> Object:
    """What a pod of another namespace wrote or read."""
    endpoint = f"https://{ring.name}.{ring.namespace}.svc:8080"
    words = ["python", "-c", PROGRAM, endpoint, what, str(EACH), str(SOON_S)]
    spec = pod_spec(name="c", command=words)
    trusted(ring)
    with_identity(spec, ring, "load")
    told = told_by(f"{what}-{ring.name}", spec)
    assert told["wrong"] == [], told
    return told


def _count(before: Object) -> None:
    """Every key of the copy is as it was; what was to expire expires in the copy too."""
    sorts = ("one", "two", "gone", "later")
    wanted: Object = dict.fromkeys(sorts, EACH) | {"soon": 0, "wrong": []}
    assert before | {"soon": 0} == wanted, before
    until("the short-lived keys end", lambda: _client(SECOND, "read")["soon"] == 0, 120)
    for ring in (FIRST, SECOND):
        told = _client(ring, "read")
        assert told == wanted, (ring.name, told)


def _counted_of_load() -> int:
    """Keys in the copy that the load had written before the snapshots were asked for."""
    lines = SECOND.dynamo("export").splitlines()
    keys = [json.loads(line).get("key_text", "") for line in lines]
    return sum(key[8:9] == "-" and key[9:].isdecimal() and len(key) == 14 for key in keys)


def _apart() -> None:
    """Ids, members, addresses and secrets of their own; a write to one is not in the other."""
    SECOND.settle(3)
    rings = (FIRST, SECOND)
    assert len({each.resource()["status"]["clusterId"] for each in rings}) == 2
    ids = set()
    for each in rings:
        members = each.ask(0, "/v1/ring")["members"]
        suffix = f".{each.name}-nodes.{RINGS}.svc:8082"
        assert {member["name"] for member in members} == {each.pod(n) for n in range(3)}, members
        assert all(member["address"].endswith(suffix) for member in members), members
        ids |= {member["id"] for member in members}
        each.dynamo("put", "whose", each.name)
    assert len(ids) == 6, ids
    for each in rings:
        assert each.dynamo("get", "whose") == each.name
    secrets = [get("secret", RINGS, f"{each.name}-secret")["data"]["secret"] for each in rings]
    assert secrets[0] != secrets[1]


def _snapshots(uid: str) -> set[str]:
    found = find("volumesnapshots", RINGS, f"{OF_BACKUP}={uid}")
    return {each["metadata"]["name"] for each in found}


def _contents(names: set[str]) -> list[str]:
    """What the driver still has of these snapshots."""
    items = json.loads(kubectl("get", "volumesnapshotcontents", "-o", "json"))["items"]
    refs = [each["spec"]["volumeSnapshotRef"] for each in items]
    return [r["name"] for r in refs if r["namespace"] == RINGS and r["name"] in names]


def _deleted(storage: Storage) -> str:
    """The DynamoBackup goes, and with it snapshots, what the driver has of them, and the secret;
    the ring that began with them stays."""
    backup = get("dbackup", RINGS, BACKUP)
    uid, copy = backup["metadata"]["uid"], backup["status"]["secretName"]
    names = _snapshots(uid)
    assert len(names) == 3 and get("secret", RINGS, copy), names
    began = time.monotonic()
    for name in (BACKUP, BAD):
        kubectl("delete", "dbackup", name, "-n", RINGS)
    until("its snapshots are gone", lambda: not _snapshots(uid), 120)
    if storage.deletes:
        until("the driver has none of them", lambda: not _contents(names), 120)
    until("its secret is gone", lambda: not find("secret", RINGS, f"{OF_BACKUP}={uid}"), 60)
    told = _client(SECOND, "read")
    assert told["one"] == EACH, told
    return f"all of a deleted backup gone after {since(began)}"


def _ended_both() -> None:
    for each in (FIRST, SECOND):
        kubectl("delete", "dring", each.name, "-n", RINGS)
        chosen = f"app.kubernetes.io/instance={each.name}"
        kubectl("delete", "pvc", "-n", RINGS, "-l", chosen, "--wait=false")
