"""`kubectl dynamo` with a stand-in for kubectl that forwards to real nodes; `make e2e` uses the
real kubectl."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamo_client.local_nodes import LocalRing, free_base
from dynamoctl import kubectl
from dynamoctl.session import Failed
from dynamoctl.trial_ca import make_ca
from tests.dynamoctl.test_cli import QUICK, ok

STAND_IN = """#!{python}
import json, pathlib, signal, sys
place = pathlib.Path(__file__).parent
words = [w for w in sys.argv[1:] if not w.startswith("--namespace=")]
if words[0] == "port-forward":
    pod = next(w for w in words if w.startswith("pod/")).removeprefix("pod/")
    ports = json.loads((place / "ports.json").read_text())[pod]
    for there, here in zip((8080, 8081), ports):
        print(f"Forwarding from 127.0.0.1:{{here}} -> {{there}}", flush=True)
        print(f"Forwarding from [::1]:{{here}} -> {{there}}", flush=True)
    signal.pause()
if words[0] == "patch":
    (place / "patched").write_text(" ".join(words))
    sys.exit()
named = [w for w in words[1:] if not w.startswith("-") and "app.kubernetes.io" not in w]
file = place / ("-".join(named) + ".json")
if not file.exists():
    print("E1125 memcache.go:265] dial tcp: connection refused", file=sys.stderr)
    sys.exit("Error from server (NotFound): " + " ".join(named) + " not found")
print(file.read_text())
"""


def running(pod: str, owner: str = "shop", **spec: Any) -> dict[str, Any]:
    """A pod of the StatefulSet."""
    owners = [{"kind": "StatefulSet", "name": owner, "controller": True}]
    meta = {"name": pod, "ownerReferences": owners if owner else []}
    return {"metadata": meta, "status": {"phase": "Running"}, "spec": spec}


class Place:
    """A directory on the PATH with the stand-in and what it answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        script = path / "kubectl"
        script.write_text(STAND_IN.format(python=sys.executable))
        script.chmod(0o755)

    def answers(self, name: str, document: Any) -> None:
        (self.path / f"{name}.json").write_text(json.dumps(document))

    def cluster(self, **status: Any) -> dict[str, Any]:
        return {"metadata": {"name": "shop"}, "spec": {"auth": {}}, "status": status}


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRing]:
    home = tmp_path_factory.mktemp("home")
    before = Path.cwd()
    os.chdir(home)
    try:
        ok("local", "up", "--detach", "--base-port", str(free_base(4)), "--", *QUICK)
        yield LocalRing(home / ".local")
    finally:
        os.chdir(before)
        LocalRing(home / ".local").stop()


@pytest.fixture
def place(ring: LocalRing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DYNAMO_")]:
        monkeypatch.delenv(name)
    nodes = ring.running
    pods = [running(n.name) for n in nodes]
    made.answers("dynamoclusters.dynamo-ring.dev", {"items": [made.cluster()]})
    made.answers("pods", {"items": [*pods, running("late") | {"status": {}}]})
    token = base64.b64encode(b"not asked for, as these nodes are open").decode()
    made.answers("secret-shop-secret", {"data": {"secret": token}})
    ports = {n.name: [int(url.rpartition(":")[2]) for url in (n.endpoint, n.admin)] for n in nodes}
    made.answers("ports", ports)
    return made


def dynamo(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["kubectl-dynamo", *arguments])
    with pytest.raises(SystemExit) as ended:
        kubectl.main()
    return int(ended.value.code or 0)


def test_commands_of_dynamoctl_on_forwarded_ports(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert dynamo(monkeypatch, "put", "cart", "tea", "-n", "rings") == 0
    capfd.readouterr()
    assert dynamo(monkeypatch, "-n=rings", "get", "cart") == 0
    assert capfd.readouterr().out == "tea"
    assert dynamo(monkeypatch, "status", "--output=json") == 0
    assert [row["up"] for row in json.loads(capfd.readouterr().out)] == [True] * 3


def test_the_console_is_forwarded_until_ctrl_c(
    place: Place, ring: LocalRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import sys; sys.argv[0] = 'kubectl-dynamo'; from dynamoctl import plugin; plugin()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "console"], stdout=subprocess.PIPE, text=True
    ) as front:
        assert front.stdout is not None
        url = front.stdout.readline().strip()
        assert url in [f"{node.admin}/console" for node in ring.running]
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200
        front.send_signal(signal.SIGINT)
        assert front.wait(30) == 0


def test_a_secure_ring_is_asked_in_tls_as_a_service_account(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The scheme by what each pod was started with, the authority of the ConfigMap, a new token."""
    make_ca(place.path / "certs")
    secure = {**place.cluster(), "spec": {"tls": {"mode": "Required"}, "access": {"audience": "a"}}}
    place.answers("dynamoclusters.dynamo-ring.dev", {"items": [secure]})
    ca = (place.path / "certs/ca.crt").read_text()
    place.answers("configmap-shop-ca", {"data": {"ca.crt": ca}})
    env = [{"name": "DYNAMO_CLIENT_TLS", "value": "on"}]
    containers = [{"name": "node", "env": env}]
    pods = [running("shop-0", containers=containers), running("shop-1")]
    place.answers("pods", {"items": pods})
    place.answers("token-checkout", "a.b.c")
    (place.path / "secret-shop-secret.json").unlink()
    cluster = kubectl.Cluster.find({"--service-account": "checkout"})
    ports = {"shop-0": {8080: 1, 8081: 2}, "shop-1": {8080: 3, 8081: 4}}
    session = kubectl.session_maker(cluster, ports)(False)
    assert session.endpoints == ["https://127.0.0.1:1", "http://127.0.0.1:3"]
    assert session.admins == ["https://127.0.0.1:2", "http://127.0.0.1:4"]
    assert Path(session.tls.ca_file).read_text() == ca
    assert session.client_token.headers() == {"Authorization": 'Bearer "a.b.c"'}
    assert session.token is session.client_token, "administrators without the secret send it too"
    place.answers("token-checkout", "d.e.f")
    session.client_token._renew_at = 0.0
    assert session.token.headers() == {"Authorization": 'Bearer "d.e.f"'}


def test_a_secret_that_lacks_its_key_or_its_text_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    cluster = kubectl.Cluster(["kubectl"], place.cluster())
    for secret in ({}, {"data": {"other": ""}}, {"data": {"secret": ""}},
                   {"data": {"secret": "AA=="}}, {"data": {"secret": "?"}}):  # fmt: skip
        place.answers("secret-shop-secret", secret)
        assert cluster.token() is None
        assert "no token of administrators is shown: Secret shop-secret: " in capfd.readouterr().err
    cluster.resource["spec"] = {"tls": {"issuerRef": {"name": "acme"}}}
    place.answers("secret-shop-cert-manager", {"data": {"tls.crt": ""}})
    with pytest.raises(Failed, match=r"Secret shop-cert-manager: has no ca\.crt"):
        cluster.authority()
    cluster.resource["spec"] = {}
    place.answers("configmap-shop-ca", {})
    with pytest.raises(Failed, match=r"ConfigMap shop-ca: has no ca\.crt"):
        cluster.authority()


def test_a_pod_that_only_has_the_labels_is_shown_nothing(place: Place) -> None:
    tls = [{"name": "node", "env": [{"name": "DYNAMO_CLIENT_TLS", "value": "on"}]}]
    pods = [running("shop-0", containers=tls), running("shop-1"), running("mine", owner=""),
            running("other-0", owner="other")]  # fmt: skip
    place.answers("pods", {"items": pods})
    assert kubectl.Cluster.find({}).pods() == {"shop-0": "https", "shop-1": "http"}
    told = [{"type": "CertificatesReady", "status": "True"}]
    secure = place.cluster(conditions=told)
    place.answers("dynamoclusters.dynamo-ring.dev", {"items": [secure]})
    assert kubectl.Cluster.find({}).pods() == {"shop-0": "https"}


def test_the_only_service_account_with_rights_is_taken(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    """`kubectl dynamo get` of a secure ring needs no option and no secret."""
    rules = [{"serviceAccount": "rings/till"}, {"serviceAccount": "rings/till"},
             {"serviceAccount": "other/till"}, {"certificate": "anna"}]  # fmt: skip
    meta = {"name": "shop", "namespace": "rings"}
    place.answers("token-till", "a.b.c")

    def token(*more: dict[str, str], mode: str | None = None) -> str | None:
        access = {"rules": [*rules, *more]} | ({"mode": mode} if mode else {})
        resource = {"metadata": meta, "spec": {"access": access}}
        place.answers("dynamoclusters.dynamo-ring.dev", {"items": [resource]})
        return kubectl.Cluster.find({}).account_token()

    assert token() == '"a.b.c"'
    assert token(mode="Open") is None
    assert token({"serviceAccount": "rings/checkout"}) is None
    (place.path / "token-till.json").unlink()
    capfd.readouterr()
    assert token() is None
    assert "no token of ServiceAccount till is shown" in capfd.readouterr().err


def test_a_pod_on_a_dead_machine_holds_nothing_up(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its kubectl waits for a connection that does not come; the others are asked. The way out of a
    machine that is lost is such a command (`remove --force`)."""
    monkeypatch.setattr(kubectl, "FORWARD_S_MAX", 2.0)
    pods = json.loads((place.path / "pods.json").read_text())["items"]
    dead = running("dead")
    place.answers("pods", {"items": [dead, *pods]})
    place.answers("ports", json.loads((place.path / "ports.json").read_text()) | {"dead": []})
    assert dynamo(monkeypatch, "status", "--output=json") == 0
    assert [row["up"] for row in json.loads(capfd.readouterr().out)] == [True] * 3


def test_a_plan_is_shown_and_approved(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    waiting = {
        "hash": "abc", "moves": 12, "bytes": 2_000_000,
        "before": {"shop-0": 32}, "after": {"shop-0": 20, "shop-1": 12}, "violations": ["zones"],
    }  # fmt: skip
    assert dynamo(monkeypatch, "plan") == 3
    place.answers("dynamoclusters.dynamo-ring.dev", {"items": [place.cluster(plan=waiting)]})
    capfd.readouterr()
    kubectl.plan(kubectl.Cluster.find({}))
    said = capfd.readouterr().out
    assert "12 replicas move, 2.0 MB" in said and "kubectl dynamo approve abc" in said
    assert dynamo(monkeypatch, "approve", "other") == 1
    assert not (place.path / "patched").exists()
    kubectl.approve(kubectl.Cluster.find({}), [])
    assert '{"spec": {"ring": {"approvedPlan": "abc"}}}' in (place.path / "patched").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status", "--cluster", "nope"], 3, "NotFound"),
        (["status", "--cluster"], 2, "--cluster: needs a value"),
        (["approve"], 3, "no plan waits"),
    ],
)
def test_errors_are_one_line(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    assert dynamo(monkeypatch, *arguments) == code
    error = capfd.readouterr().err
    assert "memcache.go" not in error
    assert words in error and error.startswith("kubectl dynamo: ") and error.count("\n") == 1


def test_several_clusters_want_a_name(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    both = [place.cluster(), place.cluster() | {"metadata": {"name": "carts"}}]
    place.answers("dynamoclusters.dynamo-ring.dev", {"items": both})
    assert dynamo(monkeypatch, "status") == 2
    assert "this namespace has several: shop, carts" in capfd.readouterr().err
    place.answers("dynamoclusters.dynamo-ring.dev", {"items": []})
    assert dynamo(monkeypatch, "status") == 3
