"""What the stories are played on: a ring, load against it, machines and images."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.kubectl import Object, Refused, apply, find, get, kubectl, patch, until

ROOT = Path(__file__).parents[2]
SYSTEM, RINGS, SHOPPERS = "dynamo-system", "rings", "shoppers"
IMAGE, NEXT_IMAGE = "dynamo-ring-node:0.1.0", "dynamo-ring-node:0.1.0-next"
OPERATOR_IMAGE = "dynamo-ring-operator:0.1.0"
KIND = 'docker exec "${KIND_CLUSTER:-dynamo}-control-plane"'
COMMANDS = {
    "IMAGE_BUILD": 'docker build -t "$IMAGE" -f "$DOCKERFILE" .',
    "IMAGE_LOAD": 'kind load docker-image --name "${KIND_CLUSTER:-dynamo}" "$IMAGE"',
    "MACHINE_STOP": 'docker kill "$MACHINE"',
    "MACHINE_START": 'docker start "$MACHINE"',
    "MACHINE_CUT": 'docker network disconnect kind "$MACHINE"',
    "MACHINE_HEAL": 'docker network connect kind "$MACHINE"',
    "API_RESTART": f"{KIND} pkill -9 kube-apiserver",
}
"""By name of the variable: what is run by a shell, with IMAGE, DOCKERFILE or MACHINE set."""
SPEC: Object = {
    "image": IMAGE,
    "ring": {"partitions": 64},
    "storage": {"size": "256Mi"},
    "update": {"minReadySeconds": 2},
    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
}


def command(name: str, place: Path = ROOT, **variables: str) -> None:
    """Runs one of COMMANDS, or what the environment has in its place. Raises Refused."""
    line = os.environ.get(name) or COMMANDS[name]
    done = subprocess.run(
        line, shell=True, cwd=place, env={**os.environ, **variables}, capture_output=True,
        text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Refused(f"{name} {variables}: {done.stdout[-500:]}{done.stderr[-1500:]}")


def pod_spec(**container: Any) -> Object:
    """A restricted pod of the node's image."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "image": IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
                **container,
            }
        ],
    }  # fmt: skip


@dataclass
class Ring:
    """A DynamoCluster."""

    name: str = "shop"
    namespace: str = RINGS

    def create(self, **spec: Any) -> None:
        """Applies it."""
        apply(
            {
                "apiVersion": "dynamo-ring.dev/v1alpha1",
                "kind": "DynamoCluster",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": SPEC | spec,
            }
        )

    def change(self, **spec: Any) -> None:
        """Merges into its spec."""
        patch("dring", self.namespace, self.name, {"spec": spec})

    def resource(self) -> Object:
        """As the API server has it."""
        return get("dring", self.namespace, self.name)

    def conditions(self) -> dict[str, Object]:
        """By type."""
        return {c["type"]: c for c in self.resource().get("status", {}).get("conditions", ())}

    def settled(self, size: int, whole: bool = True) -> bool:
        """Whether it is as its spec says and has so many members; `whole`: no copy lacks anything,
        which is seldom so at any one moment while load goes on."""
        resource = self.resource()
        status = resource.get("status", {})
        truths = {c["type"]: c["status"] for c in status.get("conditions", ())}
        return (
            status.get("observedGeneration") == resource["metadata"]["generation"]
            and status.get("members") == size
            and status.get("ready") == f"{size}/{size}"
            and status.get("replicas") == size
            and truths.get("Ready") == "True"
            and (truths.get("Converged") == "True" or not whole)
            and truths.get("Progressing") == "False"
        )

    def settle(self, size: int, seconds: float = 180) -> float:
        """Waits until it is whole; seconds that it took. Raises Slow."""
        return until(f"{self.name} settled at {size}", lambda: self.settled(size), seconds)

    def arrive(self, size: int, seconds: float = 240) -> float:
        """Waits until it is as its spec says, under load; seconds that it took. Raises Slow."""
        return until(f"{self.name} at {size}", lambda: self.settled(size, whole=False), seconds)

    def pod(self, ordinal: int) -> str:
        """Name of a pod."""
        return f"{self.name}-{ordinal}"

    def pods(self) -> list[Object]:
        """All there are."""
        return find("pods", self.namespace, f"app.kubernetes.io/instance={self.name}")

    def claims(self) -> list[str]:
        """Names of its claims."""
        found = find("pvc", self.namespace, f"app.kubernetes.io/instance={self.name}")
        return sorted(claim["metadata"]["name"] for claim in found)

    def ask(self, ordinal: int, path: str, body: Object | None = None) -> Object:
        """The admin HTTP of a node, asked inside its pod. Raises Refused."""
        code = (
            "import json,pathlib,urllib.request as web;"
            "t=pathlib.Path('/etc/dynamo/secret').read_text().strip();"
            f"b={body!r};d=None if b is None else json.dumps(b).encode();"
            "h={'Authorization':'Bearer '+t,'Content-Type':'application/json'};"
            f"r=web.Request('http://127.0.0.1:8081{path}',d,h);"
            "print(web.urlopen(r,timeout=30).read().decode())"
        )
        words = ("exec", self.pod(ordinal), "-n", self.namespace, "-c", "node", "--")
        answer: Object = json.loads(kubectl(*words, "python", "-c", code))
        return answer


@dataclass
class Load:
    """A pod that loads a ring and judges its history."""

    ring: Ring
    name: str
    options: dict[str, int] = field(default_factory=dict)
    machine: str = ""
    """Where it must run; "" for anywhere."""
    endpoint: str = ""

    def start(self) -> Load:
        """Returns once the counted keys are written. Raises Slow."""
        endpoint = self.endpoint or f"http://{self.ring.name}.{self.ring.namespace}.svc:8080"
        words = [f"{'--' if len(k) > 1 else '-'}{k}={v}" for k, v in self.options.items()]
        spec = pod_spec(
            name="load",
            command=["python", "/load/load.py", f"--endpoint={endpoint}", *words],
            volumeMounts=[
                {"name": "load", "mountPath": "/load"}, {"name": "tmp", "mountPath": "/tmp"},
            ],
        )  # fmt: skip
        spec["volumes"] = [
            {"name": "load", "configMap": {"name": "load"}}, {"name": "tmp", "emptyDir": {}},
        ]  # fmt: skip
        if self.machine:
            spec["nodeSelector"] = {"kubernetes.io/hostname": self.machine}
        metadata = {"name": self.name, "namespace": SHOPPERS}
        with suppress(Refused):
            kubectl("delete", "pod", self.name, "-n", SHOPPERS, "--force", "--grace-period=0")
        apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        until("the load is ready", lambda: "ready" in self.log(), 90)
        return self

    def log(self) -> str:
        """What it has said."""
        return kubectl("logs", self.name, "-n", SHOPPERS)

    def touch(self, file: str) -> None:
        """`pause` or `stop`."""
        self._python(f"open('/tmp/{file}','w')")

    def resume(self) -> None:
        """Goes on after `pause`."""
        self._python("import os; os.remove('/tmp/pause')")

    def _python(self, code: str) -> None:
        words = ("exec", self.name, "-n", SHOPPERS, "--", "python", "-c", code)
        until("the load hears", lambda: kubectl(*words) == "", 60)

    def finish(self, size: int = 3) -> Object:
        """Its verdict, read from a ring of so many that has come to rest. Raises Slow."""
        self.touch("pause")
        self.ring.settle(size)
        self.touch("stop")
        until("the load's verdict", lambda: '"violations"' in self.log(), 180)
        verdict: Object = json.loads(self.log().splitlines()[-1])
        kubectl("delete", "pod", self.name, "-n", SHOPPERS, "--wait=false")
        return verdict


def no_failure(verdict: Object) -> str:
    """The figure of a load in which nothing may fail; fails when something did."""
    assert verdict["failed_puts"] == verdict["failed_gets"] == 0, verdict
    return nothing_lost(verdict)


def nothing_lost(verdict: Object) -> str:
    """The figure of a load in which requests may fail, but no key may be lost."""
    assert verdict["unread"] == 0 and verdict["violations"] == [], verdict
    failed = verdict["failed_puts"] + verdict["failed_gets"]
    return (
        f"{verdict['operations']} requests, {failed} failed, {verdict['keys']} keys counted,"
        f" p99 {verdict['p99_ms']:.0f} ms"
    )


def namespaces() -> None:
    """The ones that the stories use, all of them restricted; and the load's program."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (RINGS, SHOPPERS, "other"):
        apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )
    program = (ROOT / "tests/e2e/load.py").read_text()
    apply(
        {
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"load.py": program},
            "metadata": {"name": "load", "namespace": SHOPPERS},
        }
    )  # fmt: skip


def images() -> None:
    """Builds them and puts them on every machine. A second tag of the node's is the next one."""
    for image, dockerfile in (
        (IMAGE, "node/Dockerfile"),
        (NEXT_IMAGE, "node/Dockerfile"),
        (OPERATOR_IMAGE, "operator/Dockerfile"),
    ):
        command("IMAGE_BUILD", IMAGE=image, DOCKERFILE=dockerfile)
        command("IMAGE_LOAD", IMAGE=image)


def operator_pod() -> Object:
    """The one that runs. Raises Refused."""
    found = find("pods", SYSTEM, "app.kubernetes.io/name=dynamo-ring-operator")
    if not found:
        raise Refused("no operator")
    return found[0]


def since(began: float) -> str:
    """Seconds, for a figure."""
    return f"{time.monotonic() - began:.0f} s"
