"""The surroundings of the stories: a ring, its load, machines and images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.kubectl import Object, Refused, apply, find, get, kubectl, patch, run, until

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
"""By variable: the command that a shell runs, with IMAGE, DOCKERFILE or MACHINE set."""
SPEC: Object = {
    "image": IMAGE,
    "ring": {"partitions": 64},
    "storage": {"size": "256Mi"},
    "update": {"minReadySeconds": 2},
    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
    "networkPolicy": {"clients": [{"namespaceSelector": {}}]},
}
"""It says nothing of TLS and asks for no mode of access, so that rings are secure."""
OPEN: Object = {"tls": {"mode": "Disabled"}, "access": {"mode": "Open"}}
PROGRAMS = ("load.py", "stranger.py")
"""What pods of the stories run."""
VERBS = ["get", "put", "delete", "list"]


def command(name: str, place: Path = ROOT, **variables: str) -> None:
    """Runs one of COMMANDS, or the environment's replacement. Raises Refused."""
    line = os.environ.get(name) or COMMANDS[name]
    done = subprocess.run(
        line,
        shell=True,
        cwd=place,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise Refused(f"{name} {variables}: {done.stdout[-500:]}{done.stderr[-1500:]}")


def pod_spec(**container: Any) -> Object:
    """A restricted pod of the node's image."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
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
    }


def is_ready(pod: Object) -> bool:
    """Whether a pod is Ready."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@dataclass
class Ring:
    """A DynamoCluster."""

    name: str = "shop"
    namespace: str = RINGS

    def create(self, **spec: Any) -> None:
        """Applies it. The pods of loads and the person of its namespace have rights to every key,
        unless the spec has its own `access`; None leaves a field out."""
        named = (f"{SHOPPERS}/load", f"{self.namespace}/person")
        every = {"prefixes": [""], "verbs": VERBS}
        rules = [{"serviceAccount": account, **every} for account in named]
        wanted = {**SPEC, "access": {"rules": rules}, **spec}
        apply(
            {
                "apiVersion": "dynamo-ring.dev/v1alpha1",
                "kind": "DynamoCluster",
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {field: value for field, value in wanted.items() if value is not None},
            }
        )

    def dynamo(self, *words: str) -> str:
        """`kubectl dynamo` as a person at a shell: no secret, no token is given. Raises Refused."""
        command = str(Path(sys.executable).parent / "kubectl-dynamo")
        return run(command, "-n", self.namespace, "--cluster", self.name, *words)

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
        """Whether it is as its spec says and has this many members, and their pods are Ready:
        the status may be from before a pod ended. `whole`: no copy lacks anything, which is
        seldom true at one moment under load."""
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
            and sum(map(is_ready, self.pods())) == size
        )

    def settle(self, size: int, seconds: float = 180) -> float:
        """Waits until it is whole; returns the seconds. Raises Slow."""
        return until(f"{self.name} settled at {size}", lambda: self.settled(size), seconds)

    def arrive(self, size: int, seconds: float = 240) -> float:
        """Waits until it is as its spec says, under load; returns the seconds. Raises Slow."""
        return until(f"{self.name} at {size}", lambda: self.settled(size, whole=False), seconds)

    def pod(self, ordinal: int) -> str:
        """Name of a pod."""
        return f"{self.name}-{ordinal}"

    def pods(self) -> list[Object]:
        """All pods."""
        return find("pods", self.namespace, f"app.kubernetes.io/instance={self.name}")

    def claims(self) -> list[str]:
        """Names of its claims."""
        found = find("pvc", self.namespace, f"app.kubernetes.io/instance={self.name}")
        return sorted(claim["metadata"]["name"] for claim in found)

    def ask(self, ordinal: int, path: str, body: Object | None = None) -> Object:
        """The admin HTTP of a node, asked inside its pod. Raises Refused."""
        code = (
            "import json,os,pathlib,ssl,urllib.request as web\n"
            "try: from dynamo_core.secret_keys import token_of\n"
            "except ImportError: token_of=bytes.decode  # 0.1.0 takes the secret itself\n"
            "t=token_of(pathlib.Path('/etc/dynamo/secret').read_bytes().splitlines()[0]);"
            f"b={body!r};d=None if b is None else json.dumps(b).encode();"
            "h={'Authorization':'Bearer '+t,'Content-Type':'application/json'};"
            "ca='/etc/dynamo-tls/ca.crt';tls=os.path.exists(ca);"
            f"r=web.Request(('https' if tls else 'http')+'://127.0.0.1:8081{path}',d,h);"
            "c=ssl.create_default_context(cafile=ca) if tls else None;"
            "print(web.urlopen(r,timeout=30,context=c).read().decode())"
        )
        words = ("exec", self.pod(ordinal), "-n", self.namespace, "-c", "node", "--")
        answer: Object = json.loads(kubectl(*words, "python", "-c", code))
        return answer


def with_identity(spec: Object, ring: Ring, account: str, trusting: bool = True) -> None:
    """What a client of a secure ring has: the ring's authority, and a token for its nodes."""
    mounts = spec["containers"][0].setdefault("volumeMounts", [])
    volumes = spec.setdefault("volumes", [])
    if trusting:
        volumes.append({"name": "trust", "configMap": {"name": f"{ring.name}-ca"}})
        mounts.append({"name": "trust", "mountPath": "/trust"})
    if account:
        token = {"audience": "dynamo-ring", "expirationSeconds": 600, "path": "token"}
        sources = [{"serviceAccountToken": token}]
        volumes.append({"name": "identity", "projected": {"sources": sources}})
        mounts.append({"name": "identity", "mountPath": "/identity"})
        spec["serviceAccountName"] = account


def trusted(ring: Ring) -> None:
    """The ring's authority, copied to where its clients are."""
    data = get("configmap", ring.namespace, f"{ring.name}-ca")["data"]
    metadata = {"name": f"{ring.name}-ca", "namespace": SHOPPERS}
    apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def account(name: str, namespace: str = SHOPPERS) -> None:
    """A ServiceAccount of clients."""
    metadata = {"name": name, "namespace": namespace}
    apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


def told_by(pod: str, spec: Object, namespace: str = SHOPPERS, seconds: float = 90) -> Object:
    """What a pod has printed as JSON in its last line. Raises Slow, ValueError."""
    with suppress(Refused):
        kubectl("delete", "pod", pod, "-n", namespace, "--force", "--grace-period=0")
    metadata = {"name": pod, "namespace": namespace}
    apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def ended() -> bool:
        return get("pod", namespace, pod)["status"].get("phase") in ("Succeeded", "Failed")

    until(f"{pod} has ended", ended, seconds)
    told: Object = json.loads(kubectl("logs", pod, "-n", namespace).splitlines()[-1])
    return told


@dataclass
class Load:
    """A pod that loads a ring and judges its history."""

    ring: Ring
    name: str
    options: dict[str, int] = field(default_factory=dict)
    machine: str = ""
    """The machine where it must run; "" for any."""
    near: Object | None = None
    """The pod that it dials, without any DNS; None for the Service."""
    account: str = "load"
    """Its ServiceAccount, whose token it shows; "" for none."""
    encrypted: bool = True
    """Whether it dials in TLS."""

    def start(self) -> Load:
        """Returns once the counted keys are written. Raises Slow."""
        scheme = "https" if self.encrypted else "http"
        host = f"{self.ring.name}.{self.ring.namespace}.svc"
        if self.near is not None:
            place = f"{self.ring.name}-nodes.{self.ring.namespace}.svc"
            host = f"{self.near['metadata']['name']}.{place}"
        endpoint = f"{scheme}://{host}:8080"
        words = [f"{'--' if len(k) > 1 else '-'}{k}={v}" for k, v in self.options.items()]
        words += ["--ca-file=/trust/ca.crt"] if self.encrypted else []
        words += ["--token-file=/identity/token"] if self.account else []
        spec = pod_spec(
            name="load",
            command=["python", "/load/load.py", f"--endpoint={endpoint}", *words],
            volumeMounts=[
                {"name": "load", "mountPath": "/load"},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        )
        spec["volumes"] = [
            {"name": "load", "configMap": {"name": "load"}},
            {"name": "tmp", "emptyDir": {}},
        ]
        if self.near is not None:
            spec["hostAliases"] = [{"ip": self.near["status"]["podIP"], "hostnames": [host]}]
        if self.encrypted:
            trusted(self.ring)
        with_identity(spec, self.ring, self.account, trusting=self.encrypted)
        if self.machine:
            spec["nodeSelector"] = {"kubernetes.io/hostname": self.machine}
        metadata = {"name": self.name, "namespace": SHOPPERS}
        with suppress(Refused):
            kubectl("delete", "pod", self.name, "-n", SHOPPERS, "--force", "--grace-period=0")
        apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        until("the load is ready", lambda: "ready" in self.log(), 90)
        return self

    def log(self) -> str:
        """Its output until now."""
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
        """Its verdict, read from a ring with this many members at rest. Raises Slow."""
        self.touch("pause")
        self.ring.settle(size)
        self.touch("stop")
        until("the load's verdict", lambda: '"violations"' in self.log(), 180)
        verdict: Object = json.loads(self.log().splitlines()[-1])
        kubectl("delete", "pod", self.name, "-n", SHOPPERS, "--wait=false")
        return verdict


def no_failure(verdict: Object) -> str:
    """The figure of a load in which nothing may fail; raises if something did."""
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
    """The namespaces of the stories, all of them restricted; and the programs of pods."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (RINGS, SHOPPERS, "other"):
        apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )
    account("load")
    for name in (RINGS, "other"):
        account("person", name)
    programs = {name: (ROOT / "tests/e2e" / name).read_text() for name in PROGRAMS}
    for name in (SHOPPERS, RINGS):
        metadata = {"name": "load", "namespace": name}
        apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": programs})


def images() -> None:
    """Builds the images and puts them on every machine. The node's second tag is the next
    version."""
    for image, dockerfile in (
        (IMAGE, "node/Dockerfile"),
        (NEXT_IMAGE, "node/Dockerfile"),
        (OPERATOR_IMAGE, "operator/Dockerfile"),
    ):
        command("IMAGE_BUILD", IMAGE=image, DOCKERFILE=dockerfile)
        command("IMAGE_LOAD", IMAGE=image)


def operator_pod() -> Object:
    """The running operator. Raises Refused."""
    found = find("pods", SYSTEM, "app.kubernetes.io/name=dynamo-ring-operator")
    if not found:
        raise Refused("no operator")
    return found[0]


def since(began: float) -> str:
    """Seconds, for a figure."""
    return f"{time.monotonic() - began:.0f} s"
