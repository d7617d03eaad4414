"""Who reaches whom: the NetworkPolicy of a ring, where the cluster enforces such policies."""

from __future__ import annotations

import time
from functools import partial

from tests.e2e.kubectl import Object, Refused, Slow, apply, get, kubectl, until
from tests.e2e.stage import RINGS, SHOPPERS, Ring, is_ready, pod_spec, since

WALLS = "walls"
"""A namespace for the probe, and for what lies outside of every ring."""
CLIENT = {"role": "client"}
PORT = 8080
PORTS = {"client": 8080, "admin": 8081, "peer": 8082}
ANSWER_S = 2
ENFORCED_S = 20
"""Seconds that a network plugin may take to carry out a policy."""
NOT_ENFORCED = (
    "not shown: this cluster's network plugin does not enforce NetworkPolicies (a pod was reached"
    f" {ENFORCED_S} s after a policy denied everything)"
)
TRIES = (
    "import socket,sys\n"
    f"try: socket.create_connection((sys.argv[1], int(sys.argv[2])), {ANSWER_S}).close()\n"
    "except OSError as e: print('shut', e)\n"
    "else: print('open')"
)
SERVES = ["python", "-m", "http.server", str(PORT), "--directory", "/opt"]
walled = Ring("walled")
Pod = tuple[str, str]
"""Namespace and name."""
OUTSIDE: Pod = (WALLS, "outside")
NEAR, STRANGER, FAR = (RINGS, "near"), (RINGS, "unlabelled"), (SHOPPERS, "far")


def policy_enforced() -> str:
    """Pods inside and outside of a ring try its ports, and a node tries to get out."""
    _start(OUTSIDE, {})
    _start((WALLS, "inside"), {})
    if not _enforced():
        kubectl("delete", "namespace", WALLS, "--wait=false")
        return NOT_ENFORCED
    walled.create(networkPolicy={"clients": [{"podSelector": {"matchLabels": CLIENT}}]})
    for pod, labels in ((NEAR, CLIENT), (STRANGER, {}), (FAR, CLIENT)):
        _start(pod, labels)
    walled.settle(3)
    began = time.monotonic()
    until("the policy holds", lambda: not _reaches(STRANGER, _ip(_node(0)), PORT), ENFORCED_S)
    figures = [f"held after {since(began)}"]
    tried = _table()
    wrong = {each: seen for each, (seen, wanted) in tried.items() if seen != wanted}
    assert not wrong, (wrong, tried)
    figures.append(f"{len(tried)} connections tried, {sum(w for _, w in tried.values())} let in")
    figures.append(_opened())
    figures.append(_own_namespace())
    kubectl("delete", "dring", walled.name, "-n", RINGS)
    for namespace, pod in (NEAR, STRANGER, FAR):
        kubectl("delete", "pod", pod, "-n", namespace, "--wait=false")
    kubectl("delete", "namespace", WALLS, "--wait=false")
    return "; ".join(figures)


def _enforced() -> bool:
    """Whether a policy that denies everything closes the way between two pods."""
    inside, there = (WALLS, "inside"), _ip(OUTSIDE)
    until("a pod is reached without policy", partial(_reaches, inside, there, PORT), 30)
    meta = {"name": "deny", "namespace": WALLS}
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    apply({**kind, "metadata": meta, "spec": spec})
    try:
        until("the policy holds", lambda: not _reaches(inside, there, PORT), ENFORCED_S)
    except Slow:
        return False
    kubectl("delete", "networkpolicy", "deny", "-n", WALLS)
    until("the way is open again", partial(_reaches, inside, there, PORT), ENFORCED_S)
    return True


def _table() -> dict[str, tuple[bool, bool]]:
    """Each connection: whether it came about, and whether it should."""
    node, other, told = _node(0), _ip(_node(1)), {}
    for source in (NEAR, STRANGER, FAR, OUTSIDE):
        for name, port in PORTS.items():
            wanted = source == NEAR and name == "client"
            told[f"{source[1]} to {name}"] = (_reaches(source, other, port), wanted)
    for name, port in PORTS.items():
        told[f"node to {name}"] = (_reaches(node, other, port), True)
    outside, api = _ip(OUTSIDE), "kubernetes.default.svc"
    told["near to outside"] = (_reaches(NEAR, outside, PORT), True)
    told["node to outside"] = (_reaches(node, outside, PORT), False)
    told["near to the API server"] = (_reaches(NEAR, api, 443), True)
    told["node to the API server"] = (_reaches(node, api, 443), False)
    name = f"{walled.pod(2)}.{walled.name}-nodes.{RINGS}.svc"
    told["node to a name"] = (_reaches(node, name, PORTS["peer"]), True)
    return told


def _opened() -> str:
    """Rules of the spec let a node out, and their removal closes the way again."""
    began = time.monotonic()
    label = {"kubernetes.io/metadata.name": WALLS}
    rule = {"to": [{"namespaceSelector": {"matchLabels": label}}]}
    walled.change(networkPolicy={"egress": [rule]})
    there = _ip(OUTSIDE)
    until("a rule lets a node out", partial(_reaches, _node(0), there, PORT), 60)
    walled.change(networkPolicy={"egress": None})
    until("without it the way is shut", lambda: not _reaches(_node(0), there, PORT), 60)
    return f"egress opened and shut again in {since(began)}"


def _own_namespace() -> str:
    """A spec that names no clients lets in the pods of its namespace, and no other pod."""
    began = time.monotonic()
    walled.change(networkPolicy={"clients": None})
    node = _ip(_node(0))
    until("its namespace is let in", partial(_reaches, STRANGER, node, PORTS["client"]), 60)
    for source, name in ((STRANGER, "admin"), (STRANGER, "peer"), (FAR, "client")):
        assert not _reaches(source, node, PORTS[name]), (source, name)
    return f"its namespace let in, and no other, after {since(began)}"


def _start(pod: Pod, labels: dict[str, str]) -> None:
    """A pod that serves something and can be asked to connect to others."""
    namespace, name = pod
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    space: Object = {"name": namespace, "labels": restricted}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": space})
    meta = {"name": name, "namespace": namespace, "labels": labels}
    spec = pod_spec(name="tries", command=SERVES)
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    until(f"{name} is ready", lambda: is_ready(get("pod", namespace, name)), 60)


def _node(ordinal: int) -> Pod:
    return RINGS, walled.pod(ordinal)


def _ip(pod: Pod) -> str:
    return str(get("pod", *pod)["status"]["podIP"])


def _reaches(source: Pod, host: str, port: int) -> bool:
    """Whether a program in the pod can connect. Raises Refused."""
    namespace, name = source
    told = kubectl("exec", name, "-n", namespace, "--", "python", "-c", TRIES, host, str(port))
    if not told.startswith(("open", "shut")):
        raise Refused(f"{name}: {told}")
    return told.startswith("open")
