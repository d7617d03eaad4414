"""Who may speak: rights by ServiceAccounts, certificates and secrets that change under load, a
plain ring that goes over to TLS and back."""

from __future__ import annotations

import base64
import time
from functools import partial

from tests.e2e.kubectl import Object, get, kubectl, patch, until
from tests.e2e.stage import (
    OPEN,
    RINGS,
    SHOPPERS,
    Load,
    Ring,
    account,
    no_failure,
    pod_spec,
    since,
    told_by,
    trusted,
    with_identity,
)

SECRET_CHARS = "another secret of this ring, of more than 32 characters"
OVERLAP_S = 150
"""A kubelet brings mounted files up to date within a minute and a half."""
FILES_S = 180
CONTEXTS_S = 40
"""In this time every client of the load has read every key that it writes."""
ring = Ring("safe")
SECURE = {
    "tls": {"overlap": f"{OVERLAP_S}s"},
    "access": {
        "rules": [
            {
                "serviceAccount": f"{SHOPPERS}/checkout",
                "prefixes": ["cart:"],
                "verbs": ["get", "put"],
            },
            {"serviceAccount": f"{SHOPPERS}/load", "prefixes": [""], "verbs": ["get", "put"]},
        ],
    },
}
ASKS = """
import json, sys
from dynamo_client import ClientError, DynamoClient, Tls
told, shown = {}, sys.argv[2] == "shown"
client = DynamoClient(sys.argv[1], tls=Tls(ca_file="/trust/ca.crt"),
                      token_file="/identity/token" if shown else None)
for name, call in {
    "put cart:1": lambda: client.put("cart:1", b"tea"),
    "get cart:1": lambda: client.get("cart:1"),
    "delete cart:1": lambda: client.delete("cart:1"),
    "get order:1": lambda: client.get("order:1"),
    "put order:1": lambda: client.put("order:1", b"tea"),
}.items():
    try:
        call()
        told[name] = "done"
    except ClientError as error:
        told[name] = error.slug
print(json.dumps(told), flush=True)
"""
KEYS = ("put cart:1", "get cart:1", "delete cart:1", "get order:1", "put order:1")


def rights_by_service_account() -> str:
    """A pod reads and writes its prefix by its ServiceAccount, and nothing else; a pod of another
    ServiceAccount and one that shows nothing get nothing."""
    for name in ("checkout", "stranger"):
        account(name)
    began = time.monotonic()
    ring.create(**SECURE)
    ring.settle(3)
    truths = {kind: each["status"] for kind, each in ring.conditions().items()}
    assert truths["CertificatesReady"] == truths["AccessReady"] == "True", ring.conditions()
    figures = [f"secure after {since(began)}"]
    trusted(ring)
    allowed = dict(zip(KEYS, ("done", "done", *["forbidden"] * 3), strict=True))
    assert (answers := _asked("checkout", "shown")) == allowed, answers
    assert (answers := _asked("stranger", "shown")) == dict.fromkeys(KEYS, "forbidden"), answers
    assert (answers := _asked("stranger", "hidden")) == dict.fromkeys(KEYS, "unauthorized"), answers
    figures.append("checkout: 2 of 5 requests done, 3 forbidden; stranger: none")
    ring.change(access={"rules": [{**SECURE["access"]["rules"][0], "verbs": ["get"]}]})  # type: ignore[index]
    at = time.monotonic()
    less = {**allowed, "put cart:1": "forbidden"}
    until("the rule that changed", lambda: _asked("checkout", "shown") == less, FILES_S)
    figures.append(f"a rule that changed held after {since(at)}, no pod restarted")
    ring.change(access=SECURE["access"])
    return "; ".join(figures)


def stranger_in_the_namespace() -> str:
    """A pod beside the ring's, with a ServiceAccount that no rule names, tries the three ports,
    forged tokens and the API server: it gets the metrics, and nothing else. The NetworkPolicy lets
    it use the admin port meanwhile: what is tried are credentials, with any network plugin."""
    shop = Ring()
    account("stranger", RINGS)
    shop.change(networkPolicy={"monitoring": [{"podSelector": {}}]})
    shop.settle(3)
    node = f"{shop.pod(0)}.{shop.name}-nodes.{RINGS}.svc"
    told = _tried("stranger", ["python", "/load/stranger.py", node, shop.name, RINGS])
    open_to_all = {name for name, answer in told.items() if answer == 200}
    assert open_to_all == {"metrics, no token"}, told
    for name, answer in told.items() - {("metrics, no token", 200)}:
        closed = name.startswith(("plain", "peer"))
        known = not closed and "token " not in f"{name} "
        wanted = "closed" if closed else 403 if known else 401
        assert answer == wanted, (name, told)
    shop.change(networkPolicy={"monitoring": None})
    return f"{len(told)} tries: {len(told) - 1} refused; metrics are for all"


def _tried(name: str, command: list[str]) -> Object:
    """What a pod of the ring's namespace printed."""
    spec = pod_spec(
        name="tries", command=command, volumeMounts=[{"name": "load", "mountPath": "/load"}]
    )
    spec["volumes"] = [{"name": "load", "configMap": {"name": "load"}}]
    with_identity(spec, Ring(), name)
    sources = spec["volumes"][-1]["projected"]["sources"]
    sources += [
        {"serviceAccountToken": {"path": "api", "expirationSeconds": 600}},
        {"configMap": {"name": "kube-root-ca.crt"}},
    ]
    told = told_by(name, spec, RINGS)
    kubectl("delete", "pod", name, "-n", RINGS, "--wait=false")
    return told


def _asked(name: str, how: str) -> Object:
    """What a pod with that ServiceAccount is answered."""
    endpoint = f"https://{ring.name}.{RINGS}.svc:8080"
    spec = pod_spec(name="asks", command=["python", "-c", ASKS, endpoint, how])
    with_identity(spec, ring, name)
    return told_by(f"asks-{name}-{how}", spec)


def certificates_and_secret_change_under_load() -> str:
    """Another authority, a certificate of it, and another cluster secret, while clients read and
    write: no request fails, and no pod is started again."""
    until("every node has the rules of before", lambda: _rules() == {"2 rules"}, FILES_S)
    load = Load(ring, "rotating", {"seed": 41, "keys": 200}).start()
    lives = _lives()
    began = time.monotonic()
    first = _certificate()
    notes = {"annotations": {"dynamo-ring.dev/rotate-authority": str(int(time.time()))}}
    patch("dring", RINGS, ring.name, {"metadata": notes})
    until("the next authority is published", lambda: _published() == 2, 60)
    trusted(ring)  # clients have the overlap to read it
    until("two authorities are believed", lambda: _authorities() == 2, FILES_S)
    until(
        "one again, and another",
        lambda: _authorities() == 1 and _certificate() != first,
        OVERLAP_S + 3 * FILES_S,
    )
    trusted(ring)
    figures = [f"authority and certificate changed in {since(began)}"]
    began = time.monotonic()
    old = base64.b64decode(get("secret", RINGS, f"{ring.name}-secret")["data"]["secret"]).decode()
    for lines in ([old, SECRET_CHARS], [SECRET_CHARS, old], [SECRET_CHARS]):
        if len(lines) == 1:  # each client has read each of its keys again by then
            moved = time.monotonic()
            until("contexts are of the new one", partial(_past, moved + CONTEXTS_S), FILES_S)
        before = _secrets()
        text = base64.b64encode("\n".join(lines).encode()).decode()
        patch("secret", RINGS, f"{ring.name}-secret", {"data": {"secret": text}})
        until("every node has read it", partial(_read_since, before), FILES_S)
    figures.append(f"secret changed in {since(began)}")
    assert _lives() == lives, "a pod was started again"
    figures.append(no_failure(load.finish()))
    kubectl("delete", "dring", ring.name, "-n", RINGS)
    return "; ".join(figures)


def _rules() -> set[str]:
    """What the nodes say of their rights."""
    return {str(ring.ask(i, "/v1/status")["access"]) for i in range(3)}


def _authorities() -> int:
    """How many every node believes; 0 while they differ."""
    said = {tuple(ring.ask(i, "/v1/status")["tls"]["authorities"]) for i in range(3)}
    return len(said.pop()) if len(said) == 1 else 0


def _certificate() -> str:
    return str(ring.ask(0, "/v1/status")["tls"]["certificate"])


def _published() -> int:
    """Authorities in the ConfigMap for clients."""
    return str(get("configmap", RINGS, f"{ring.name}-ca")["data"]["ca.crt"]).count("-----BEGIN")


def _secrets() -> set[tuple[str, ...]]:
    """Which secrets nodes have, in their order: one while all have the same."""
    return {tuple(ring.ask(i, "/v1/status")["secrets"]) for i in range(3)}


def _read_since(before: set[tuple[str, ...]]) -> bool:
    now = _secrets()
    return len(now) == 1 and now != before


def _past(moment: float) -> bool:
    return time.monotonic() > moment


def _lives() -> dict[str, tuple[str, int]]:
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            pod["status"]["containerStatuses"][0]["restartCount"],
        )
        for pod in ring.pods()
    }


def _has_gone_over(over: Ring, says: str) -> bool:
    reason = over.conditions()["CertificatesReady"]["reason"]
    return bool(reason == says) and over.settled(3, whole=False)


def plain_ring_goes_over_and_back() -> str:
    """Plain, both, TLS only, both, plain: four rolling updates under load. Clients change from http
    to https while nodes take both, and no request fails."""
    over = Ring("over")
    over.create(**OPEN)
    over.settle(3)
    figures = []
    for at, (mode, encrypted, says) in enumerate(
        (
            ("Allowed", False, "PlainAllowed"),
            ("Required", True, "Encrypted"),
            ("Allowed", True, "PlainAllowed"),
            ("Disabled", False, "Plain"),
        )
    ):
        options = {"seed": 50 + at, "keys": 100}
        load = Load(over, f"over-{at}", options, account="", encrypted=encrypted).start()
        began = time.monotonic()
        over.change(tls={"mode": mode})
        until(mode, partial(_has_gone_over, over, says), 300)
        figures.append(f"{mode} in {since(began)}, {no_failure(load.finish())}")
    kubectl("delete", "dring", over.name, "-n", RINGS)
    return "; ".join(figures)
