"""From the released version to this one, and back, under load."""

from __future__ import annotations

import subprocess
import tarfile
import time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.e2e.kubectl import find, get, kubectl, run, until
from tests.e2e.stage import (
    IMAGE,
    OPERATOR_IMAGE,
    RINGS,
    ROOT,
    SHOPPERS,
    SYSTEM,
    VERBS,
    Load,
    Ring,
    command,
    no_failure,
    since,
)

RELEASED = "881e895645bff5bcd3415b24d690ef297bfb4417"
"""The commit of version 0.1.0, the version before this one."""
OLD_IMAGE, OLD_OPERATOR = "dynamo-ring-node:released", "dynamo-ring-operator:released"
CRDS = ("dynamoclusters.dynamo-ring.dev", "dynamorepairs.dynamo-ring.dev")
ring = Ring("aged")


def upgraded_from_the_release_and_back() -> str:
    """A ring of the released version, its operator and its chart, under load. A newer operator
    restarts no pod. Then one pod has this version and two the last, then all have this one, then
    all have the last again; nothing fails, and every key exists. At last it gets this version, TLS
    and rights, while its clients go over."""
    packed = subprocess.run(
        ("git", "archive", RELEASED), cwd=ROOT, capture_output=True, check=False, timeout=60
    )
    if packed.returncode:
        return f"NOT PLAYED: this clone has no commit {RELEASED[:7]}; a clone with its history has"
    began = time.monotonic()
    with TemporaryDirectory() as place:
        with tarfile.open(fileobj=BytesIO(packed.stdout)) as files:
            files.extractall(place)  # of our own making: it needs no filter
        _images(Path(place))
        _installed(Path(place), OLD_OPERATOR)
    ring.create(image=OLD_IMAGE, update={"minReadySeconds": 2, "canary": 1}, access=None)
    ring.settle(3)
    figures = [f"released version runs after {since(began)}"]
    load = Load(ring, "aged", {"seed": 31, "keys": 500}, account="", encrypted=False).start()
    figures.append(f"operator upgraded {_operator_upgraded()}, no pod touched")
    figures.append(f"one of three pods {_canary()}")
    for name, image in (("all", IMAGE), ("back", OLD_IMAGE)):
        began = time.monotonic()
        ring.change(image=image, update={"canary": None})
        until(name, lambda image=image: _run_by(image) == 3 and ring.settled(3, whole=False), 240)  # type: ignore[misc]
        if image == IMAGE:
            until("all links are of version 2", lambda: _links(0, 1) == 0 < _links(0, 2), 30)
        figures.append(f"{name} {since(began)}")
    began = time.monotonic()
    ring.change(image=IMAGE, tls={"mode": "Allowed"})
    until("nodes take both", lambda: _is("CertificatesReady", "PlainAllowed"), 360)
    figures += [f"this version and TLS {since(began)}", no_failure(load.finish())]
    load = Load(ring, "secured", {"seed": 32, "keys": 100}).start()  # clients have gone over
    began = time.monotonic()
    every = {"serviceAccount": f"{SHOPPERS}/load", "prefixes": [""], "verbs": VERBS}
    ring.change(tls={"mode": "Required"}, access={"mode": "Required", "rules": [every]})
    until("it is secure", lambda: _is("CertificatesReady", "Encrypted"), 240)
    until("it asks clients", lambda: _is("AccessReady", "Required"), 60)
    figures += [f"secure {since(began)}", no_failure(load.finish())]
    _taken_away()
    return "; ".join(figures)


def _images(source: Path) -> None:
    for image, dockerfile in (
        (OLD_IMAGE, "node/Dockerfile"),
        (OLD_OPERATOR, "operator/Dockerfile"),
    ):
        command("IMAGE_BUILD", source, IMAGE=image, DOCKERFILE=dockerfile)
        command("IMAGE_LOAD", IMAGE=image)


def _installed(source: Path, image: str) -> None:
    repository, tag = image.split(":")
    run(
        "helm",
        "upgrade",
        "--install",
        "dynamo-ring",
        str(source / "charts/dynamo-ring"),
        "--namespace",
        SYSTEM,
        "--create-namespace",
        "--wait",
        "--timeout=90s",
        "--set",
        f"image.repository={repository}",
        "--set",
        f"image.tag={tag}",
    )


def _operator_upgraded() -> str:
    """Waits until the new operator has looked and found nothing to do."""
    began = time.monotonic()
    before = _lives()
    _installed(ROOT, OPERATOR_IMAGE)
    until("the new operator's word", lambda: "renderedBy" in ring.resource()["status"], 60)
    ring.arrive(3)
    sets = get("statefulset", RINGS, ring.name)["status"]
    assert sets["currentRevision"] == sets["updateRevision"], sets
    assert _lives() == before, "a newer operator restarted a pod"
    return since(began)


def _canary() -> str:
    """One pod has this version, and uses the protocol that the others know."""
    began = time.monotonic()
    ring.change(image=IMAGE)
    until("the canary", lambda: ring.conditions()["Progressing"]["reason"] == "CanaryReached", 120)
    assert _run_by(IMAGE) == 1
    until("links of both versions", lambda: _links(2, 1) >= 2, 30)
    return f"{since(began)}, {_links(2, 1)} of its links are of the first protocol"


def _is(kind: str, reason: str) -> bool:
    """Whether a ring under load is as its spec says, and a condition has this reason."""
    return ring.settled(3, whole=False) and ring.conditions()[kind]["reason"] == reason


def _run_by(image: str) -> int:
    return sum(pod["spec"]["containers"][0]["image"] == image for pod in ring.pods())


def _lives() -> dict[str, tuple[str, int]]:
    """The uid of each pod, and how often its container has restarted."""
    return {
        pod["metadata"]["name"]: (
            pod["metadata"]["uid"],
            pod["status"]["containerStatuses"][0]["restartCount"],
        )
        for pod in ring.pods()
    }


def _links(ordinal: int, version: int) -> int:
    """Links of a node by the version of their protocol, in both directions."""
    code = "import urllib.request as web; print(web.urlopen('http://127.0.0.1:8081/metrics',timeout=9).read().decode())"
    words = ("exec", ring.pod(ordinal), "-n", RINGS, "-c", "node", "--", "python", "-c", code)
    lines = [line for line in kubectl(*words).splitlines() if line.startswith("dynamo_links{")]
    return sum(int(float(line.split()[-1])) for line in lines if f'version="{version}"' in line)


def _taken_away() -> None:
    """Removes everything: the next story installs into an empty cluster."""
    kubectl("delete", "dring", ring.name, "-n", RINGS)
    until("no pods", lambda: not ring.pods() or None, 90)
    kubectl("delete", "pvc", "-n", RINGS, *ring.claims())
    run("helm", "uninstall", "dynamo-ring", "--namespace", SYSTEM, "--wait", "--timeout=90s")
    kubectl("delete", "crd", *CRDS)
    until("no operator", lambda: not find("pods", SYSTEM), 60)
