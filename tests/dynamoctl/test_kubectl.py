"""`kubectl dynamo` with a stand-in for kubectl that forwards to real nodes; the real one is tried
in `make e2e`."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli import QUICK, ok

from dynamo_client.local_nodes import LocalRing, free_base
from dynamoctl import kubectl

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
    pods = [{"metadata": {"name": n.name}, "status": {"phase": "Running"}} for n in nodes]
    made.answers("dynamoclusters.dynamo-ring.dev", {"items": [made.cluster()]})
    made.answers("pods", {"items": [*pods, {"metadata": {"name": "late"}, "status": {}}]})
    token = base64.b64encode(b"not asked for").decode()
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
        (["status", "--cluster"], 2, "--cluster: wants a value"),
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
    assert "several are here: shop, carts" in capfd.readouterr().err
    place.answers("dynamoclusters.dynamo-ring.dev", {"items": []})
    assert dynamo(monkeypatch, "status") == 3
