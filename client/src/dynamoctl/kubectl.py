"""`kubectl dynamo`: every command of `dynamoctl` on a DynamoCluster of the current context.

kubectl does the network part: it finds the cluster and its secret and forwards ports of its pods,
with the rights of the user. Nothing is installed in the cluster for this, and no port is opened.
"""

from __future__ import annotations

import atexit
import base64
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from dynamo_client.errors import BadParameter
from dynamo_client.tls import SYSTEM, Tls
from dynamo_client.tokens import token_of_secret
from dynamoctl.account_token import AccountToken
from dynamoctl.app import app, end
from dynamoctl.session import FAILED, NOT_FOUND, USAGE, Failed, Session, table, to_copy

CLUSTER_OPTIONS = {
    "-n": "--namespace",
    "--namespace": "--namespace",
    "--context": "--context",
    "--kubeconfig": "--kubeconfig",
    "--cluster": "--cluster",
    "--service-account": "--service-account",
}
CLUSTERS = "dynamoclusters.dynamo-ring.dev"
CLIENT_PORT, ADMIN_PORT = 8080, 8081
FORWARD_S_MAX = 15.0
"""A pod whose ports are not forwarded by then is left out: its machine may be dead, and the API
server tries to reach it for longer."""
WITHOUT_CLUSTER = {"local", "--help", "-h", "--version"}
OWN = ("--cluster", "--service-account")
"""What kubectl itself is not told."""
HELP = """kubectl dynamo [-n NAMESPACE] [--context NAME] [--cluster NAME] COMMAND ...

If nodes ask who sends a request, the command sends a token of the ServiceAccount of
--service-account NAME. Default: the only ServiceAccount of the ring's namespace that
spec.access.rules names.

plan shows the change of owners that waits for approval; approve [HASH] approves it. Every
other command is one of dynamoctl, through forwarded ports of the cluster's pods:
"""
FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)")


def chosen_in(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command, and its cluster. Raises Failed."""
    rest: list[str] = []
    chosen: dict[str, str] = {}
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.partition("=")
        if argument == "--":
            rest += [argument, *left]
        elif name in CLUSTER_OPTIONS:
            given = value if equals else next(left, None)
            if not given:
                raise Failed("needs a value", USAGE, name)
            chosen[CLUSTER_OPTIONS[name]] = given
        else:
            rest.append(argument)
    return rest, chosen


@dataclass
class Cluster:
    """A DynamoCluster, through kubectl."""

    kubectl: list[str]
    resource: dict[str, Any]
    account: str | None = None

    @property
    def name(self) -> str:
        """The name of the resource."""
        return str(self.resource["metadata"]["name"])

    @staticmethod
    def find(chosen: dict[str, str]) -> Cluster:
        """The named cluster, or the only one. Raises Failed."""
        options = [f"{name}={value}" for name, value in chosen.items() if name not in OWN]
        kubectl = ["kubectl", *options]
        wanted = chosen.get("--cluster")
        found = _json([*kubectl, "get", CLUSTERS, *([wanted] if wanted else [])])
        clusters = [found] if wanted else found["items"]
        if len(clusters) == 1:
            return Cluster(kubectl, clusters[0], chosen.get("--service-account"))
        names = ", ".join(each["metadata"]["name"] for each in clusters)
        if names:
            raise Failed(f"this namespace has several: {names}; name one", USAGE, "--cluster")
        raise Failed("no DynamoCluster in this namespace; give another one with -n", NOT_FOUND)

    def token(self) -> str | None:
        """The administrator's token, from the cluster secret; None if the user may not read it.
        If it is no cluster secret, a note says so: commands about keys need none."""
        named = self.resource["spec"].get("auth", {}).get("secretName") or f"{self.name}-secret"
        try:
            found = _json([*self.kubectl, "get", "secret", named])
        except Failed:
            return None
        try:
            return token_of_secret(base64.b64decode(_field(f"Secret {named}", found, "secret")))
        except (Failed, BadParameter, ValueError) as error:
            why = str(error).removeprefix(f"Secret {named}: ")
            print(f"no token of administrators is shown: Secret {named}: {why}", file=sys.stderr)
            return None

    def authority(self) -> str:
        """The authority of the nodes' certificates, as PEM. Raises Failed."""
        tls = self.resource["spec"].get("tls", {})
        if "secretName" in tls or "issuerRef" in tls:
            named = tls.get("secretName") or f"{self.name}-cert-manager"
            found = _json([*self.kubectl, "get", "secret", named])
            text = base64.b64decode(_field(f"Secret {named}", found, "ca.crt"))
            return text.decode("ascii", "replace")
        named = f"{self.name}-ca"
        found = _json([*self.kubectl, "get", "configmap", named])
        return _field(f"ConfigMap {named}", found, "ca.crt")

    def account_token(self) -> str | None:
        """A new token of the ServiceAccount, for the nodes alone. Without one that the user names,
        of the only one of this namespace that has rights; if the user may not have its token, a
        note says so. Raises Failed."""
        access = self.resource["spec"].get("access", {})
        audience = access.get("audience", "dynamo-ring")
        account = self.account or self._only_account(access)
        if account is None:
            return None
        words = ["create", "token", account, f"--audience={audience}"]
        try:
            return _run([*self.kubectl, *words]).strip()
        except Failed as failed:
            if self.account is not None:
                raise
            print(f"no token of ServiceAccount {account} is shown: {failed}", file=sys.stderr)
            return None

    def _only_account(self, access: dict[str, Any]) -> str | None:
        """Of the rules of a ring that may ask; None if they name none, or several."""
        here = str(self.resource["metadata"].get("namespace", ""))
        named = (rule.get("serviceAccount", "/") for rule in access.get("rules", ()))
        pairs = (name.split("/", 1) for name in named)
        accounts = {account for namespace, account in pairs if account and namespace == here}
        return accounts.pop() if len(accounts) == 1 and access.get("mode") != "Open" else None

    def pods(self) -> dict[str, str]:
        """Names of the running pods, with `http` or `https` as their nodes take it. Labels alone
        make no pod of the ring: it is of the ring's StatefulSet, and in TLS if all of them are.
        Otherwise a stranger's pod would be shown tokens."""
        label = f"app.kubernetes.io/name=dynamo-ring,app.kubernetes.io/instance={self.name}"
        found = _json([*self.kubectl, "get", "pods", "--selector", label])["items"]
        return {
            pod["metadata"]["name"]: _scheme(pod)
            for pod in found
            if pod["status"].get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
            and _owner(pod) == ("StatefulSet", self.name)
            and not (self.encrypted and _scheme(pod) == "http")
        }

    @property
    def encrypted(self) -> bool:
        """Whether the operator says that every connection is in TLS."""
        told = self.resource.get("status", {}).get("conditions", ())
        return any(c["type"] == "CertificatesReady" and c["status"] == "True" for c in told)

    @contextmanager
    def forwarded(self) -> Iterator[dict[str, dict[int, int]]]:
        """Local ports, by pod and by the pod's port, while the context lasts."""
        with ExitStack() as stack:
            running = {pod: stack.enter_context(self._forward(pod)) for pod in self.pods()}
            yield {pod: ports for pod, begun in running.items() if (ports := _ports(*begun))}

    @contextmanager
    def _forward(self, pod: str) -> Iterator[tuple[subprocess.Popen[str], Timer]]:
        command = [*self.kubectl, "port-forward", "--address=127.0.0.1", f"pod/{pod}"]
        with subprocess.Popen(
            [*command, f":{CLIENT_PORT}", f":{ADMIN_PORT}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            late = Timer(FORWARD_S_MAX, process.terminate)
            late.start()
            try:
                yield process, late
            finally:
                late.cancel()
                process.terminate()


def _owner(pod: dict[str, Any]) -> tuple[str, str]:
    """Kind and name of the object that controls it."""
    references = pod["metadata"].get("ownerReferences", ())
    found = ((each["kind"], each["name"]) for each in references if each.get("controller"))
    return next(found, ("", ""))


def _scheme(pod: dict[str, Any]) -> str:
    told = {
        line["name"]: line.get("value")
        for container in pod.get("spec", {}).get("containers", ())
        for line in container.get("env", ())
    }
    return "http" if told.get("DYNAMO_CLIENT_TLS", "off") == "off" else "https"


def _ports(process: subprocess.Popen[str], late: Timer) -> dict[int, int]:
    """The ports that one kubectl forwards; {} if it could not, or not in time."""
    found: dict[int, int] = {}
    assert process.stdout is not None
    for line in process.stdout:
        if match := FORWARDING.match(line):
            found[int(match[2])] = int(match[1])
        if len(found) == 2:
            late.cancel()
            return found
    return {}


def _field(where: str, found: dict[str, Any], name: str) -> str:
    """A value of a Secret or a ConfigMap. Raises Failed."""
    if not (text := (found.get("data") or {}).get(name)):
        raise Failed(f"{where}: has no {name}")
    return str(text)


def _json(command: list[str]) -> Any:
    return json.loads(_run([*command, "--output=json"]))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failed("kubectl is not on the PATH") from None
    if done.returncode:
        code = NOT_FOUND if "(NotFound)" in done.stderr else FAILED
        # The lines before the last one are kubectl's log of refused dials.
        said = done.stderr.strip().splitlines() or [f"kubectl ended with {done.returncode}"]
        raise Failed(said[-1], code)
    return done.stdout


def plan(cluster: Cluster) -> None:
    """Shows the change of owners that waits for approval. Raises Failed."""
    waiting = cluster.resource.get("status", {}).get("plan")
    if not waiting:
        raise Failed("no plan waits for approval", NOT_FOUND)
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
    """Approves the plan that waits; fails if its hash is not the given one."""
    waiting = cluster.resource.get("status", {}).get("plan")
    if not waiting:
        raise Failed("no plan waits for approval", NOT_FOUND)
    if hashes and hashes[0] != waiting["hash"]:
        raise Failed(f"the waiting plan is {waiting['hash']}: look at it first", FAILED, "HASH")
    patch = json.dumps({"spec": {"ring": {"approvedPlan": waiting["hash"]}}})
    _run([*cluster.kubectl, "patch", CLUSTERS, cluster.name, "--type=merge", f"--patch={patch}"])
    print(f"approved: {waiting['hash']}")


def session_maker(
    cluster: Cluster, ports: dict[str, dict[int, int]], chosen: dict[str, str] | None = None
) -> Any:
    """The function with which `app` makes its session. Raises Failed if no pod can be reached."""
    if not ports:
        raise Failed(f"no pod of {cluster.name} runs or can be reached")
    schemes = cluster.pods()
    urls = {pod: f"{schemes.get(pod, 'http')}://127.0.0.1" for pod in ports}
    clients = [f"{urls[pod]}:{each[CLIENT_PORT]}" for pod, each in ports.items()]
    admins = {pod: f"{urls[pod]}:{each[ADMIN_PORT]}" for pod, each in ports.items()}
    shown = cluster.account_token()
    held = None
    if shown is not None:
        held = AccountToken(_kept("token", shown), cluster.account_token)
    token = cluster.token() or held
    options = tuple(f"{name}={value}" for name, value in (chosen or {}).items())
    tls = SYSTEM
    if any(url.startswith("https") for url in clients):
        tls = Tls(ca_file=_kept("ca.crt", cluster.authority()))
    return lambda as_json: Session(
        clients, list(admins.values()), token, as_json, admins, "kubectl dynamo", options, tls, held
    )


def _kept(name: str, text: str) -> Path:
    """A file for as long as this command runs, for its user alone."""
    place = Path(tempfile.mkdtemp(prefix="kubectl-dynamo-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / name).write_text(text)
    return place / name


def main() -> None:
    """The entry point of `kubectl-dynamo`."""
    try:
        arguments, chosen = chosen_in(sys.argv[1:])
        if not arguments or WITHOUT_CLUSTER & set(arguments):
            if not {"local", "--version"} & set(arguments):
                print(HELP)
            app(arguments or ["--help"])
        cluster = Cluster.find(chosen)
        match arguments:
            case ["plan"]:
                plan(cluster)
            case ["approve", *hashes]:
                approve(cluster, hashes)
            case _:
                with cluster.forwarded() as ports:
                    app(arguments, obj=session_maker(cluster, ports, chosen))
    except Failed as failed:
        end(failed, "kubectl dynamo", as_json=False)
    except KeyboardInterrupt:
        sys.exit(130)
