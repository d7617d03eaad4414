"""Backups by a schedule, a namespace that is deleted, and a ring that begins from its backup."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

from tests.e2e.kubectl import Object, Refused, apply, get, kubectl, until
from tests.e2e.runs import all_of, begun, ended, kill_operator, make
from tests.e2e.stage import (
    ROOT,
    SHOPPERS,
    Ring,
    pod_spec,
    since,
    told_by,
    trusted,
    with_identity,
)

KEPT, AGAIN = Ring("kept", "keeps"), Ring("again", "keeps-again")
STORE, PORT = "objects", 9000
TARGET = "s3://shop/e2e"
KEYS = 400
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "any",
    "AWS_SECRET_ACCESS_KEY": "any",
    "AWS_REGION": "us-east-1",
    "AWS_ENDPOINT_URL": f"http://{STORE}.{SHOPPERS}.svc:{PORT}",
    "AWS_ALLOW_HTTP": "true",
}
PROGRAM = """
import json, sys
from dynamo_client import DynamoClient, GetOp, PutOp, Tls
endpoint, what, count, begins = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
keys = [k for k in (f"key {n}" for n in range(count)) if k.startswith(begins)]
told = {"done": 0, "wrong": []}
tls = Tls(ca_file="/trust/ca.crt")
client = DynamoClient(endpoint, tls=tls, token_file="/identity/token")
for at in range(0, len(keys), 50):
    some = keys[at:at + 50]
    if what == "read":
        for key, result in zip(some, client.batch([GetOp(key) for key in some])):
            shown = [v.data.decode() for v in result.found.values] if result.found else []
            if shown == [f"value of {key}"]:
                told["done"] += 1
            else:
                told["wrong"].append([key, shown])
    elif what == "spoil":
        for key in some:
            client.update(key, lambda values: b"spoilt")
            told["done"] += 1
    else:
        results = client.batch([PutOp(key, f"value of {key}".encode()) for key in some])
        told["done"] += sum(result.error is None for result in results)
told["wrong"] = told["wrong"][:5]
print(json.dumps(told), flush=True)
"""


def _stage(ring: Ring) -> None:
    """A restricted namespace with the credentials of the object store."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    name = {"name": ring.namespace, "labels": labels}
    meta = {"name": "archive", "namespace": ring.namespace}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": name})
    apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": CREDENTIALS})


def _store() -> None:
    """The object store, in another namespace than any ring."""
    meta = {"name": STORE, "namespace": SHOPPERS, "labels": {"app": STORE}}
    text = (ROOT / "tests/e2e/objects.py").read_text()
    spec = pod_spec(
        name="objects",
        command=["python", "/objects/objects.py", str(PORT)],
        volumeMounts=[{"name": "objects", "mountPath": "/objects"}],
    )
    spec["volumes"] = [{"name": "objects", "configMap": {"name": STORE}}]
    service = {"selector": {"app": STORE}, "ports": [{"port": PORT}]}
    with suppress(Refused):
        kubectl("delete", "pod", STORE, "-n", SHOPPERS, "--force", "--grace-period=0")
    apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"objects.py": text}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service},
        {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec},
    )
    until("the object store", lambda: "ready" in kubectl("logs", STORE, "-n", SHOPPERS), 60)


def _client(ring: Ring, what: str, begins: str = "key") -> Object:
    """What a pod of another namespace did with the keys."""
    endpoint = f"https://{ring.name}.{ring.namespace}.svc:8080"
    spec = pod_spec(name="c", command=["python", "-c", PROGRAM, endpoint, what, str(KEYS), begins])
    trusted(ring)
    with_identity(spec, ring, "load")
    return told_by(f"{what}-{ring.name}", spec)


def _clock_made(names: set[str]) -> list[str]:
    """Complete backups by the clock that are not among these."""
    found = all_of(KEPT, "dbackup").items()
    whole = [n for n, each in found if each.get("status", {}).get("state") == "Complete"]
    return sorted(n for n in whole if n not in names and n.startswith(f"{KEPT.name}-"))


def backed_up_by_the_clock() -> str:
    """Backups each minute into an object store; the operator is killed while one is made; an old
    one goes, and what the next one refers to stays."""
    _store()
    _stage(KEPT)
    backup = {
        "target": TARGET,
        "secretName": "archive",
        "schedule": "* * * * *",
        "retention": {"count": 1},
    }
    KEPT.create(backup=backup)
    KEPT.settle(3)
    told = _client(KEPT, "write")
    assert told["done"] == KEYS, told
    before = set(all_of(KEPT, "dbackup"))
    began = time.monotonic()
    until("a backup by the clock", lambda: _clock_made(before), 180)
    first = _clock_made(before)[0]
    status = get("dbackup", KEPT.namespace, first)["status"]
    assert status["records"] >= KEYS, status
    figures = [f"by the clock after {since(began)}: {status['records']} records"]
    until("the next one", lambda: _clock_made(before | {first}), 180)
    second = _clock_made(before | {first})[0]
    status = get("dbackup", KEPT.namespace, second)["status"]
    assert status["base"] and status["newBytes"] < status["storedBytes"], status
    figures.append(f"the next sent {status['newBytes']} of {status['storedBytes']} bytes")
    until("the old one is gone", lambda: first not in all_of(KEPT, "dbackup"), 60)
    _fact(KEPT, "BackupUpToDate", "True")
    KEPT.change(backup={"suspend": True})
    make(KEPT, "DynamoBackup", "by-hand", whole=True)
    until("it has begun", partial(begun, KEPT, "dbackup", "by-hand"), 60)
    kill_operator()
    status = ended(KEPT, "dbackup", "by-hand")
    assert status["records"] >= KEYS and not status.get("missed"), status
    figures.append(f"operator killed, the backup took {status['durationSeconds']} s")
    return "; ".join(figures)


def _fact(ring: Ring, kind: str, wanted: str) -> None:
    condition = ring.conditions()[kind]
    assert condition["status"] == wanted, condition


def restored_after_the_namespace_was_deleted() -> str:
    """The namespace goes, with claims and Secrets. A ring of another name, namespace, size and
    partition count begins from the newest backup, the operator is killed midway, and every key is
    counted. Then a mistake is undone."""
    until("backups rest", lambda: begun(KEPT, "dbackup", "by-hand"), 60)
    kubectl("delete", "namespace", KEPT.namespace, timeout_s=180.0)
    _stage(AGAIN)
    began = time.monotonic()
    AGAIN.create(
        size=5,
        ring={"partitions": 128},
        backup={"target": TARGET, "secretName": "archive"},
        bootstrap={"fromBackup": {"target": TARGET}},
    )
    until("the restore has begun", partial(begun, AGAIN, "drestore", "again-bootstrap"), 180)
    kill_operator()
    AGAIN.settle(5, 300)
    figures = [f"Ready with five nodes after {since(began)}"]
    told = _client(AGAIN, "read")
    assert told["done"] == KEYS, told
    figures.append(f"{told['done']} of {KEYS} keys counted")
    make(AGAIN, "DynamoBackup", "before")
    ended(AGAIN, "dbackup", "before")
    spoilt = _client(AGAIN, "spoil", "key 1")
    assert spoilt["done"], spoilt
    source = {"from": {"name": "before"}, "mode": "IntoPast", "prefix": "key 1"}
    make(AGAIN, "DynamoRestore", "undo", **source)
    status = ended(AGAIN, "drestore", "undo")
    assert status["records"] == spoilt["done"], status
    told = _client(AGAIN, "read")
    assert told["done"] == KEYS, told
    figures.append(f"{status['records']} keys spoilt and undone")
    kubectl("delete", "namespace", AGAIN.namespace, "--wait=false")
    return "; ".join(figures)
