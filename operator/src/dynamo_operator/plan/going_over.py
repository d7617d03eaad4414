"""How a ring changes from plain connections to TLS while it serves, and back.

Theorem 4: *a node that takes no TLS and a node that takes nothing else never run at once*, because
they could not speak with each other. The phase `allow` is between them: it takes both. So the pods
that exist decide the next phase, by the phase with which each was started. Before the last step, to
`require`, each node must say itself that it takes TLS: an image that knows no TLS would stay plain.

The operator notes the phase on the StatefulSet, and the template of the pods changes with it. Each
step is a rolling update with the usual checks.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import structs

from dynamo_operator import exposure, protection
from dynamo_operator.snapshot import ASKS, TLS, Snapshot
from dynamo_operator.spec import ClusterSpec
from dynamo_operator.trust import Mode, Phase, Security

TARGETS: dict[Mode, Phase] = {"Disabled": "off", "Allowed": "allow", "Required": "require"}
MODES: dict[Phase, Mode] = {phase: mode for mode, phase in TARGETS.items()}


def completed(o: Snapshot) -> ClusterSpec:
    """The spec, with the modes that are not set. A new ring is secure. A ring that exists stays as
    it is, so that a newer operator neither restarts its pods nor refuses its clients. The operator
    sees its modes in the StatefulSet, else in the pods, else in notes on the members' claims."""
    tls, access = o.spec.tls, o.spec.access
    if tls.mode is None:
        noted = _least({claim.annotations.get(TLS, "off") for claim in o.recorded})
        tls = structs.replace(tls, mode=MODES[applied(o) or noted or "require"])
    if access.mode is None:
        access = structs.replace(access, mode="Required" if _asks(o) else "Open")
    return structs.replace(o.spec, tls=tls, access=access)


def _asks(o: Snapshot) -> bool:
    """Whether nodes ask clients who they are, in a ring whose spec does not say it."""
    if o.workload is not None:
        return o.workload.asks
    if o.pods:
        return all(pod.asks for pod in o.pods.values())
    return all(ASKS in claim.annotations for claim in o.recorded)


def _least(phases: Collection[str]) -> Phase | None:
    """The phase in which a node can speak with nodes of all these phases; None: there are none."""
    if "require" in phases and "off" not in phases:
        return "require"
    return ("off" if "off" in phases else "allow") if phases else None


def wished(o: Snapshot) -> Phase:
    """The phase that the spec asks for."""
    return TARGETS[o.spec.tls.mode or "Disabled"]


def applied(o: Snapshot) -> Phase | None:
    """The phase of new pods now; without a StatefulSet, the phase of the pods that it left. None:
    there are no pods either."""
    if o.workload is None:
        return _least({pod.tls for pod in o.pods.values()})
    noted = o.workload.annotations.get(TLS, "off")
    return next((phase for phase in TARGETS.values() if phase == noted), "off")


def secured(o: Snapshot) -> bool:
    """Whether any node has TLS, or should get it."""
    started = any(pod.tls != "off" for pod in o.pods.values())
    return started or wished(o) != "off" or applied(o) not in (None, "off")


def phase(o: Snapshot) -> Phase:
    """The phase of new pods from now on."""
    wish, now = wished(o), applied(o)
    if now == wish or (not o.pods and not o.replicas):
        return wish
    if hindrance(o):
        return now or "allow"
    if wish == "allow" or _may_follow(o, wish):
        return wish
    return "allow"


def hindrance(o: Snapshot) -> str:
    """Why a ring cannot begin to change to TLS; "" if it can, or has begun."""
    if wished(o) == "off" or applied(o) not in (None, "off"):
        return ""
    if why := certificate_fault(o):
        return why
    for node in o.nodes.values():
        if node.tls is None:
            return f"the image of {node.name} knows no TLS: update spec.image first"
    return ""


def certificate_fault(o: Snapshot) -> str:
    """Why nodes cannot use the certificate that exists; "" if they can."""
    name = protection.certificate_secret(o.owner, o.spec)
    if o.trust.fault:
        return o.trust.fault
    found = o.trust.certificate
    if found is None:
        return f"Secret {name} does not exist yet"
    if found.ends <= o.now:
        return f"the certificate in Secret {name} has expired"
    if not found.signer:
        return f"the authority in ca.crt has not issued the certificate in Secret {name}"
    pods = [o.pod_name(ordinal) for ordinal in range(max(o.spec.size, o.replicas))]
    if missing := [pod for pod in pods if pod not in found.names]:
        return f"the certificate in Secret {name} does not name {', '.join(missing[:3])}"
    return ""


def _may_follow(o: Snapshot, wish: Phase) -> bool:
    """Whether every pod that runs, or that the present template may still make, can speak with one
    of `off` or of `require`."""
    if o.workload is not None and (applied(o) != "allow" or not o.workload.caught_up):
        return False
    if wish == "off":
        return all(pod.tls != "require" for pod in o.pods.values())
    every = set(range(o.replicas)) | o.pods.keys()
    return not certificate_fault(o) and all(_says_tls(o, ordinal) for ordinal in every)


def _says_tls(o: Snapshot, ordinal: int) -> bool:
    pod, node = o.pods.get(ordinal), o.nodes.get(ordinal)
    if pod is None or node is None or node.tls is None:
        return False
    return pod.tls != "off" and node.tls.peers != "off"


def security(o: Snapshot) -> Security:
    """What the objects of the ring are made with."""
    now = phase(o)
    strict = now == "require" or any(pod.tls == "require" for pod in o.pods.values())
    own = protection.own_authority(o.spec) and now != "off"
    return Security(
        tls=now,
        https=strict,
        replicas=max(o.replicas, o.spec.size),
        believed=o.trust.believed if own else "",
        keys=o.keys,
        issuer=o.issuer,
        outside=exposure.names(o.objects.values()),
        copy_of=o.copy_of,
    )
