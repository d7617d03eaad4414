"""The conditions CertificatesReady and AccessReady, and their troubles.

Each says what the running nodes report, not what the spec asks for.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from dynamo_operator import protection
from dynamo_operator.plan.going_over import applied, certificate_fault, hindrance, wished
from dynamo_operator.quantity import stamp
from dynamo_operator.snapshot import Snapshot

SOON_S = 7 * 86_400.0
"""A certificate that expires sooner was not renewed: the operator renews its own a month before."""


class Protected(Struct, frozen=True):
    """A condition without its type."""

    holds: bool
    reason: str
    message: str


def certificates(o: Snapshot) -> Protected:
    """Whether all connections are encrypted, with valid certificates."""
    wish, now = wished(o), applied(o)
    if wish == "off" and now in (None, "off") and not _with(o, "allow", "require"):
        text = f"nothing is encrypted on its way: {_said(o, 'tls', 'Disabled')}"
        return Protected(False, "Plain", text)
    if (why := hindrance(o)) or (why := certificate_fault(o) if wish != "off" else ""):
        return Protected(False, "NotUsable", why)
    if o.trust.certificate is not None and o.trust.certificate.ends - o.now < SOON_S:
        when = stamp(o.trust.certificate.ends)
        return Protected(False, "EndsSoon", f"the certificate expires at {when}{_who_renews(o)}")
    if wish != now or _others(o):
        done = sum(pod.tls == wish for pod in o.pods.values())
        text = f"{done} of {len(o.pods)} pods have connections as the spec asks; meanwhile"
        return Protected(False, "GoingOver", f"{text} nodes take TLS and plain connections")
    if wish == "allow":
        text = f"nodes take plain connections as well: {_said(o, 'tls', 'Allowed')}"
        return Protected(False, "PlainAllowed", text)
    if o.trust.authority is not None and len(o.trust.authority.marks) > 1:
        text = "the authority of the ring is changing; nodes believe the old and the new one"
        return Protected(True, "AuthorityChanging", text)
    when = stamp(o.trust.certificate.ends) if o.trust.certificate else "an unknown time"
    return Protected(
        True, "Encrypted", f"every connection is in TLS; the certificate expires at {when}"
    )


def access(o: Snapshot) -> Protected:
    """Whether every node asks clients who they are."""
    if not o.spec.access.required:
        text = "every client that reaches the client port may read, write and delete every key"
        return Protected(False, "Open", f"{text}: {_said(o, 'access', 'Open')}")
    silent = [o.pod_name(i) for i in range(o.replicas) if i not in o.nodes]
    if silent or not o.nodes:
        return Protected(False, "NodeSilent", _silent(silent))
    if lax := sorted(n.name for n in o.nodes.values() if n.access in (None, "open")):
        old = [n.name for n in o.nodes.values() if n.access is None]
        how = f"; the image of {old[0]} knows no rights: update spec.image" if old else ""
        return Protected(False, "NotYet", f"{', '.join(lax)} does not ask clients yet{how}")
    rules = len(o.spec.access.rules) + len(o.spec.access.administrators)
    told = f"{rules} rules" if rules else "no rule in spec.access.rules allows anything yet"
    return Protected(True, "Required", f"every node asks clients who they are; {told}")


def troubles(o: Snapshot) -> Iterator[tuple[str, str]]:
    """What a person should look at."""
    if wished(o) == "off" or _being_made(o):
        return
    if why := hindrance(o) or certificate_fault(o):
        yield "CertificateUnusable", why
    elif o.trust.certificate is not None and o.trust.certificate.ends - o.now < SOON_S:
        when = stamp(o.trust.certificate.ends)
        yield "CertificateEndsSoon", f"the certificate expires at {when}{_who_renews(o)}"


def _silent(names: list[str]) -> str:
    return f"{', '.join(names)} does not answer" if names else "no node answers"


def _being_made(o: Snapshot) -> bool:
    """Whether the ring's own certificate is absent: the operator makes it in this pass."""
    absent = o.trust.certificate is None and not o.trust.fault
    return absent and protection.own_authority(o.spec)


def _who_renews(o: Snapshot) -> str:
    if o.spec.tls.issuer_ref is not None:
        show = f"kubectl describe certificate {o.name} -n {o.namespace}"
        return f": cert-manager has not renewed it ({show})"
    if o.spec.tls.secret_name is not None:
        return f": renew what is in Secret {o.spec.tls.secret_name}"
    name = protection.authority_name(o.owner)
    return f": the operator has not renewed it; look at its log and at Secret {name}"


def _said(o: Snapshot, part: str, mode: str) -> str:
    """Why it is so: the spec says it, or the spec says nothing and the ring stays as it was."""
    if ((o.resource.get("spec") or {}).get(part) or {}).get("mode") is not None:
        return f"spec.{part}.mode is {mode}"
    return f"spec.{part}.mode is unset, so the ring stays as it was: set it to change that"


def _with(o: Snapshot, *ways: str) -> bool:
    return any(pod.tls in ways for pod in o.pods.values())


def _others(o: Snapshot) -> bool:
    """Whether a pod runs otherwise than the spec asks for."""
    wish = wished(o)
    return any(pod.tls != wish for pod in o.pods.values())
