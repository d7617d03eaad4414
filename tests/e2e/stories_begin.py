"""Install, rules of the API server, first use, lost pods and lost volumes."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.dynamo_operator.spec_cases import CASES, Case
from tests.e2e.kubectl import Object, Refused, find, get, kubectl, run, until
from tests.e2e.stage import (
    NEXT_IMAGE,
    OPERATOR_IMAGE,
    RINGS,
    ROOT,
    SYSTEM,
    Load,
    Ring,
    is_ready,
    no_failure,
    operator_pod,
    since,
)

CHART = "charts/dynamo-ring"
CONFLICTS_MAX = 10
ring = Ring()


def chart_is_sound() -> str:
    """helm lint, the rendered manifests, and the schema of the values."""
    run("helm", "lint", "--strict", str(ROOT / CHART))
    rendered = Path("/tmp") / f"install-{time.monotonic_ns()}.yaml"
    run(str(ROOT / "manifests/render"), str(rendered))
    assert rendered.read_text() == (ROOT / "manifests/install.yaml").read_text(), "manifests/render"
    rendered.unlink()
    words = ("helm", "template", "x", str(ROOT / CHART), "--kube-version=1.34.0")
    every = run(
        *words,
        "--set=alerts.enabled=true,dashboard.enabled=true,serviceMonitor.enabled=true",
        "--set=watchNamespaces={a,b}",
    )
    for kind in ("PrometheusRule", "ServiceMonitor", "ConfigMap", "Role", "RoleBinding"):
        assert f"kind: {kind}\n" in every, kind
    other = run(*words, "--set=nodeImage=example/node:1,runAs=Assigned")
    assert "default: example/node:1" in other and "image: example/node:1" in other
    assert "runAsUser" not in other and "runAsUser: 10001" in every
    try:
        run(*words, "--set=replicas=3")
    except Refused as refused:
        assert "replicas" in str(refused)
    else:
        raise AssertionError("a value that is not in the schema was taken")
    alerts = _alerts_tested() if shutil.which("promtool") else "promtool is not on the PATH"
    return f"lint --strict, install.yaml as rendered, unknown value refused, {alerts}"


def _alerts_tested() -> str:
    text = (ROOT / CHART / "files/alerts.yaml").read_text()
    with TemporaryDirectory() as place:
        rendered = text.replace("LATENCY_SECONDS", "0.3").replace("DISK_FREE_RATIO", "0.15")
        (Path(place) / "alerts.yaml").write_text(rendered)
        tests = shutil.copy(ROOT / "tests/chart/alerts_test.yaml", place)
        run("promtool", "test", "rules", tests)
    return f"{rendered.count('- alert:')} alerts tested"


def installed() -> str:
    """helm install, a ring applied, Ready; it is secure, and a person uses it with no secret."""
    repository, tag = OPERATOR_IMAGE.split(":")
    began = time.monotonic()
    run(
        "helm",
        "upgrade",
        "--install",
        "dynamo-ring",
        str(ROOT / CHART),
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--wait",
        "--timeout=90s",
        "--set",
        f"image.repository={repository}",
        "--set",
        f"image.tag={tag}",
        "--set",
        f"nodeImage={NEXT_IMAGE}",
    )
    helm = since(began)
    try:
        run("helm", "test", "dynamo-ring", "--namespace", SYSTEM, timeout_s=90)
    except Refused as error:
        logs = kubectl("logs", "dynamo-ring-test", "-n", SYSTEM)
        raise AssertionError(f"{error}\n{logs}") from error
    ring.create()
    ready = ring.settle(3, 60)
    truths = {kind: each["status"] for kind, each in ring.conditions().items()}
    assert truths["CertificatesReady"] == truths["AccessReady"] == "True", ring.conditions()
    ring.dynamo("put", "cart-1", "tea")
    assert ring.dynamo("get", "cart-1") == "tea"
    return f"helm {helm}, apply to Ready {ready:.0f} s, secure; a person has put and got a key"


def rules_on_the_api_server() -> str:
    """Every case of the offline check, on the real API server; nothing is kept."""
    accepted = 0
    for case in CASES:
        said = _said(case)
        if case.refused is None:
            assert said == "", (case, said)
            accepted += 1
        else:
            expected = case.refused.removeprefix("'").split("'")[0].split(" is ")[0]
            assert said and (expected in said or "Invalid value" in said or "should be" in said), (
                case,
                said,
            )
    return f"{accepted} objects accepted, {len(CASES) - accepted} refused"


def _said(case: Case) -> str:
    def document(spec: Object) -> str:
        more: Object = {"paused": True} if case.kind == "DynamoCluster" else {"clusterName": "none"}
        return json.dumps(
            {
                "apiVersion": "dynamo-ring.dev/v1alpha1",
                "kind": case.kind,
                "metadata": {"name": f"{case.name}", "namespace": "other"},
                "spec": spec | more,
            }
        )

    words = ("-f", "-", "--validate=false")
    try:
        if case.before is None:
            kubectl("create", "--dry-run=server", *words, given=document(case.spec))
            return ""
        kubectl("create", *words, given=document(case.before))
        try:
            for left in reversed(range(CONFLICTS_MAX)):
                try:
                    kubectl("replace", "--dry-run=server", *words, given=document(case.spec))
                    break
                except Refused as refused:
                    # Meanwhile the operator may have written its status.
                    if "(Conflict)" not in str(refused) or not left:
                        raise
            return ""
        finally:
            kubectl("delete", *words[:2], "--wait=true", given=document(case.before))
    except Refused as refused:
        return str(refused)


def used_from_another_namespace() -> str:
    """Writes and reads through the Service."""
    load = Load(ring, "first", {"keys": 100, "rate": 80, "seed": 1}).start()
    until("some hundred requests", lambda: _is_old(load, 6), 60)
    return no_failure(load.finish())


def _is_old(load: Load, seconds: float) -> bool:
    """Whether a load has run for this time, by the clock of its pod."""
    code = "import os,time; print(time.time() - os.stat('/proc/1').st_mtime)"
    words = ("exec", load.name, "-n", "shoppers", "--", "python", "-c", code)
    return float(kubectl(*words)) > seconds


def pod_killed() -> str:
    """A pod is killed under load: no write fails, and it returns on its disk."""
    load = Load(ring, "killed", {"seed": 2}).start()
    before = get("pod", RINGS, ring.pod(1))["metadata"]["uid"]
    kubectl("delete", "pod", ring.pod(1), "-n", RINGS, "--force", "--grace-period=0")
    back = until("another pod", lambda: _another_pod(1, before), 60)
    ring.arrive(3)
    return f"Ready again after {back:.0f} s; {no_failure(load.finish())}"


def _another_pod(ordinal: int, uid: str) -> bool:
    pod = get("pod", RINGS, ring.pod(ordinal))
    return pod["metadata"]["uid"] != uid and is_ready(pod)


def claim_lost() -> str:
    """A claim and its pod are deleted: the node starts empty and copies its share back, without
    requests of clients."""
    load = Load(ring, "lost", {"seed": 3}).start()
    load.touch("pause")
    name = f"data-{ring.pod(2)}"
    before = get("pvc", RINGS, name)["metadata"]["uid"]
    was = _node_id(2)
    began = time.monotonic()
    kubectl("delete", "pvc", name, "-n", RINGS, "--wait=false")
    kubectl("delete", "pod", ring.pod(2), "-n", RINGS, "--wait=false")
    until("a new claim", lambda: get("pvc", RINGS, name)["metadata"]["uid"] != before, 60)
    until("a new node", lambda: _node_id(2) not in ("", was), 120)
    ring.settle(3)
    took = since(began)
    return f"whole again after {took}; {no_failure(load.finish())}"


def _node_id(ordinal: int) -> str:
    nodes: list[dict[str, Any]] = ring.resource()["status"]["nodes"]
    return next((n["nodeId"] for n in nodes if n["name"] == ring.pod(ordinal)), "")


def foreign_changes_reverted() -> str:
    """kubectl scale on the StatefulSet, and an edited Service: the operator puts both back and
    reports it."""
    load = Load(ring, "foreign", {"seed": 4}).start()
    began = time.monotonic()
    kubectl("scale", "statefulset", ring.name, "-n", RINGS, "--replicas=2")
    until(
        "three pods again",
        lambda: (
            sum(is_ready(pod) for pod in ring.pods()) == 3
            and get("statefulset", RINGS, ring.name)["spec"]["replicas"] == 3
        ),
        90,
    )
    scaled = since(began)
    ring.arrive(3)
    began = time.monotonic()
    wrong = {"spec": {"selector": {"app.kubernetes.io/instance": "nobody"}}}
    kubectl("patch", "svc", ring.name, "-n", RINGS, "--type=merge", "-p", json.dumps(wrong))
    until(
        "the Service as it was",
        lambda: (
            get("svc", RINGS, ring.name)["spec"]["selector"].get("app.kubernetes.io/instance")
            == ring.name
        ),
        60,
    )
    edited = since(began)
    ring.arrive(3)
    events = find("events.events.k8s.io", RINGS)
    told = [e for e in events if "scale" in e.get("note", "").lower() or "Foreign" in e["reason"]]
    assert told, sorted({e["reason"] for e in events})
    verdict = load.finish()
    assert verdict["violations"] == [] and verdict["unread"] == 0, verdict
    return f"scale put back in {scaled}, Service in {edited}; {verdict['keys']} keys counted"


def operator_deleted() -> str:
    """The operator's pod is deleted while no change is due: nothing else happens."""
    load = Load(ring, "alone", {"seed": 5}).start()
    kubectl("scale", "deployment", "dynamo-ring", "-n", SYSTEM, "--replicas=0")
    uid = get("pod", RINGS, ring.pod(0))["metadata"]["uid"]
    kubectl("delete", "pod", ring.pod(0), "-n", RINGS, "--force", "--grace-period=0")
    back = until("the pod again", lambda: _another_pod(0, uid), 60)
    kubectl("scale", "deployment", "dynamo-ring", "-n", SYSTEM, "--replicas=1")
    until("the operator", lambda: is_ready(operator_pod()), 60)
    ring.arrive(3)
    return f"a pod killed without it is Ready after {back:.0f} s; {no_failure(load.finish())}"
