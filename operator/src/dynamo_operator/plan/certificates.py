"""Rows about the ring's own authority and the certificate of its nodes.

An authority changes in four steps, each with one write: the operator makes the next authority;
nodes trust it; it signs; nodes stop trusting the previous one. A step begins only when the nodes
have said that they have read the step before. So no node ever has a certificate that another node
does not trust.
"""

from __future__ import annotations

from msgspec import structs

from dynamo_operator import exposure, protection
from dynamo_operator.actions import Act, Certify, MakeAuthority, Note, Step
from dynamo_operator.authority import ASKED
from dynamo_operator.plan.going_over import secured
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import seconds

READ_S = 10.0
"""Between two looks while nodes read new files; a kubelet takes up to a minute."""


def authority(o: Snapshot) -> Step | None:
    """The ring's own authority: made once, renewed at two thirds of its life or when a person asks
    for it."""
    if not (secured(o) and protection.own_authority(o.spec)):
        return None
    found = o.trust.authority
    if found is None:
        return _step("making the ring's own authority", MakeAuthority(change="first", version=""))
    asked = o.resource["metadata"].get("annotations", {}).get(ASKED, "")
    if found.next is not None:
        ripe = o.now >= found.next.made + seconds(o.spec.tls.overlap)
        if not (ripe and _published(o) and believed(o, found.next.mark)):
            return None
        text = "the next authority signs from now on"
        act = MakeAuthority(change="switch", version=found.version, asked=found.asked)
    elif found.previous is not None:
        if not (_of_current(o) and shown(o)):
            return None
        text = "nodes and clients stop trusting the previous authority"
        act = MakeAuthority(change="drop", version=found.version, asked=found.asked)
    elif found.current.due(o.now) or asked != found.asked:
        text = "making the next authority"
        act = MakeAuthority(change="next", version=found.version, asked=asked)
    else:
        return None
    return _step(text, act)


def certificate(o: Snapshot) -> Step | None:
    """The Secret that is mounted into pods: the operator renews its certificate at two thirds of
    its life and when it lacks a name, and keeps the trusted authorities up to date."""
    found = o.trust.authority
    if found is None or not (secured(o) and protection.own_authority(o.spec)):
        return None
    outside = exposure.names(o.objects.values())
    names = protection.names_of(o.owner, o.spec, o.replicas, outside)
    now, version = o.trust.certificate, o.trust.version
    if now is None:
        renew = True
    else:
        ours = now.signer == found.current.mark
        stale = not ours or now.due(o.now) or not set(names) <= set(now.names)
        renew = stale and (ours or now.ends <= o.now or believed(o, found.current.mark))
        if not renew and _published(o):
            return None
    text = "making a certificate for the nodes" if renew else "giving nodes the authorities"
    return _step(text, Certify(names=names, renew=renew, version=version))


def rest_s(o: Snapshot, most: float) -> float:
    """Seconds until there is something to look for at rest: at most `most`, and soon while an
    authority changes."""
    found = o.trust.authority
    if found is None or len(found.marks) == 1:
        return most
    left_s = found.next.made + seconds(o.spec.tls.overlap) - o.now if found.next else 0.0
    return min(most, max(READ_S, left_s))


def _step(text: str, action: Act) -> Step:
    noted = structs.replace(action, note=Note("CertificatesChanged", text))
    return Step("MakingCertificates", text, (noted,))


def _published(o: Snapshot) -> bool:
    """Whether the mounted Secret has all authorities that nodes should trust, and no other."""
    return o.trust.authority is not None and set(o.trust.marks) == set(o.trust.authority.marks)


def _of_current(o: Snapshot) -> bool:
    now, found = o.trust.certificate, o.trust.authority
    return now is not None and found is not None and now.signer == found.current.mark


def believed(o: Snapshot, mark: str) -> bool:
    """Whether every node with TLS says that it trusts this authority."""
    for ordinal, pod in o.pods.items():
        node = o.nodes.get(ordinal)
        if pod.tls != "off" and (node is None or not node.tls or mark not in node.tls.authorities):
            return False
    return True


def shown(o: Snapshot) -> bool:
    """Whether every node with TLS says that it uses the present certificate."""
    assert o.trust.certificate is not None
    for ordinal, pod in o.pods.items():
        node = o.nodes.get(ordinal)
        mark = node.tls.certificate if node is not None and node.tls is not None else ""
        if pod.tls != "off" and mark != o.trust.certificate.mark:
            return False
    return True
