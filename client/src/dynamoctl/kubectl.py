"""`kubectl dynamo`: every command of `dynamoctl` on a DynamoCluster of the current context.

kubectl does the talking: it finds the cluster and its secret and forwards ports of its pods, with
the rights of who runs it. Nothing is installed in the cluster for it, and no port is opened.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from dynamo_client.tokens import token_of_secret
from dynamoctl.app import app, end
from dynamoctl.session import FAILED, NOT_FOUND, USAGE, Failed, Session, table, to_copy

TARGET_OPTIONS = {
    "-n": "--namespace", "--namespace": "--namespace", "--context": "--context",
    "--kubeconfig": "--kubeconfig", "--cluster": "--cluster",
}  # fmt: skip
CLUSTERS = "dynamoclusters.dynamo-ring.dev"
CLIENT_PORT, ADMIN_PORT = 8080, 8081
WITHOUT_CLUSTER = {"local", "--help", "-h", "--version"}
HELP = """kubectl dynamo [-n NAMESPACE] [--context NAME] [--cluster NAME] COMMAND ...

plan and approve [HASH] are about the change of owners that waits in the resource's status. Every
other command is dynamoctl's, on forwarded ports of the cluster's pods:
"""
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)")


def target_of(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command, and which cluster it is about. Raises Failed."""
    rest: list[str] = []
    target: dict[str, str] = {}
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *left]
        elif name in TARGET_OPTIONS:
            given = value if equals else next(left, None)
            if not given:
                raise Failed("wants a value", USAGE, name)
            target[TARGET_OPTIONS[name]] = given
        else:
            rest.append(argument)
    return rest, target


@dataclass
class Cluster:
    """A DynamoCluster, by way of kubectl."""

    kubectl: list[str]
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the resource."""
        return str(self.resource["metadata"]["name"])

    @staticmethod
    def find(target: dict[str, str]) -> Cluster:
        """The one that is named, or the only one. Raises Failed."""
        options = [f"{name}={value}" for name, value in target.items() if name != "--cluster"]
        kubectl = ["kubectl", *options]
        wanted = target.get("--cluster")
        found = _json([*kubectl, "get", CLUSTERS, *([wanted] if wanted else [])])
        clusters = [found] if wanted else found["items"]
        if len(clusters) == 1:
            return Cluster(kubectl, clusters[0])
        names = ", ".join(each["metadata"]["name"] for each in clusters)
        if names:
            raise Failed(f"several are here: {names}; name one", USAGE, "--cluster")
        raise Failed("no DynamoCluster here; name its namespace with -n", NOT_FOUND)

    def token(self) -> str | None:
        """Of administrators, from the cluster secret; None to who may not read that."""
        named = self.resource["spec"].get("auth", {}).get("secretName") or f"{self.name}-secret"
        try:
            data = _json([*self.kubectl, "get", "secret", named])["data"]
        except Failed:
            return None
        return token_of_secret(base64.b64decode(data["secret"]))

    def pods(self) -> list[str]:
        """Names of those that run."""
        label = f"app.kubernetes.io/name=dynamo-ring,app.kubernetes.io/instance={self.name}"
        found = _json([*self.kubectl, "get", "pods", "--selector", label])["items"]
        return [
            pod["metadata"]["name"]
            for pod in found
            if pod["status"].get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        ]

    @contextmanager
    def forwarded(self) -> Iterator[dict[str, dict[int, int]]]:
        """Ports on this machine by pod and by port there, while the context lasts."""
        with ExitStack() as stack:
            running = {pod: stack.enter_context(self._forward(pod)) for pod in self.pods()}
            yield {pod: ports for pod, process in running.items() if (ports := _ports(process))}

    @contextmanager
    def _forward(self, pod: str) -> Iterator[subprocess.Popen[str]]:
        command = [*self.kubectl, "port-forward", "--address=127.0.0.1", f"pod/{pod}"]
        with subprocess.Popen(
            [*command, f":{CLIENT_PORT}", f":{ADMIN_PORT}"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.terminate()


def _ports(process: subprocess.Popen[str]) -> dict[int, int]:
    """What one kubectl forwards; {} when it could not."""
    found: dict[int, int] = {}
    assert process.stdout is not None
    for line in process.stdout:
        if match := FORWARDING.match(line):
            found[int(match[2])] = int(match[1])
        if len(found) == 2:
            return found
    return {}


def _json(command: list[str]) -> Any:
    return json.loads(_run([*command, "--output=json"]))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failed("kubectl is not on the PATH") from None
    if done.returncode:
        code = NOT_FOUND if "(NotFound)" in done.stderr else FAILED
        # What comes before the last line is kubectl's own log, of one refused dial after the other.
        said = done.stderr.strip().splitlines() or [f"kubectl ended with {done.returncode}"]
        raise Failed(said[-1], code)
    return done.stdout


def plan(cluster: Cluster) -> None:
    """Shows the change of owners that waits for an approval. Raises Failed."""
    waiting = cluster.resource.get("status", {}).get("plan")
    if not waiting:
        raise Failed("no plan waits", NOT_FOUND)
    session = Session([], [], None, as_json=False)
    rows = table("node", ">tokens now", ">then")
    for name in sorted(waiting["before"].keys() | waiting["after"].keys()):
        before, after = (waiting[when].get(name, 0) for when in ("before", "after"))
        rows.add_row(name, str(before), str(after))
    violations = [f"violation: {words}" for words in waiting.get("violations", ())]
    session.show(
        waiting,
        rows,
        f"{waiting['moves']} replicas move, {to_copy(waiting.get('bytes'))}",
        *violations,
        f"to carry it out: kubectl dynamo approve {waiting['hash']}",
    )


def approve(cluster: Cluster, hashes: Sequence[str]) -> None:
    """Lets the plan be carried out that waits, or fails when it is not the named one."""
    waiting = cluster.resource.get("status", {}).get("plan")
    if not waiting:
        raise Failed("no plan waits", NOT_FOUND)
    if hashes and hashes[0] != waiting["hash"]:
        raise Failed(f"the plan that waits is {waiting['hash']}: look at it first", FAILED, "HASH")
    patch = json.dumps({"spec": {"ring": {"approvedPlan": waiting["hash"]}}})
    _run([*cluster.kubectl, "patch", CLUSTERS, cluster.name, "--type=merge", f"--patch={patch}"])
    print(f"approved: {waiting['hash']}")


def session_maker(
    cluster: Cluster, ports: dict[str, dict[int, int]], target: dict[str, str] | None = None
) -> Any:
    """What `app` makes its session with. Raises Failed when no pod can be reached."""
    if not ports:
        raise Failed(f"no pod of {cluster.name} runs, or none can be reached")
    clients = [f"http://127.0.0.1:{each[CLIENT_PORT]}" for each in ports.values()]
    admins = {pod: f"http://127.0.0.1:{each[ADMIN_PORT]}" for pod, each in ports.items()}
    token = cluster.token()
    options = tuple(f"{name}={value}" for name, value in (target or {}).items())
    return lambda as_json: Session(
        clients, list(admins.values()), token, as_json, admins, "kubectl dynamo", options
    )


def main() -> None:
    """The entry point of `kubectl-dynamo`."""
    try:
        arguments, target = target_of(sys.argv[1:])
        if not arguments or WITHOUT_CLUSTER & set(arguments):
            if not {"local", "--version"} & set(arguments):
                print(HELP)
            app(arguments or ["--help"])
        cluster = Cluster.find(target)
        match arguments:
            case ["plan"]:
                plan(cluster)
            case ["approve", *hashes]:
                approve(cluster, hashes)
            case _:
                with cluster.forwarded() as ports:
                    app(arguments, obj=session_maker(cluster, ports, target))
    except Failed as failed:
        end(failed, "kubectl dynamo", as_json=False)
    except KeyboardInterrupt:
        sys.exit(130)
