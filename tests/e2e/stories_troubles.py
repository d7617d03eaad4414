"""Obstacles are reported, and edited selectors are put back."""

from __future__ import annotations

import time
from typing import Any

from tests.e2e.kubectl import apply, get, kubectl, patch, until
from tests.e2e.stage import NEXT_IMAGE, RINGS, Ring, since

ring = Ring()
ONE_MORE = {"x": "y"}
TOLD_S_MAX = 150.0
ANY_USER = 1000650000
"""Of the range that OpenShift gives to a namespace."""


def selectors_put_back() -> str:
    """One more key in each map that selects: it would select nothing."""
    edits: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("svc", ring.name, {"selector": ONE_MORE}),
        ("svc", f"{ring.name}-nodes", {"selector": ONE_MORE}),
        ("pdb", ring.name, {"selector": {"matchLabels": ONE_MORE}}),
        ("netpol", ring.name, {"podSelector": {"matchLabels": ONE_MORE}}),
    )
    began = time.monotonic()
    for kind, name, spec in edits:
        field = next(iter(spec))
        before = get(kind, RINGS, name)["spec"][field]
        patch(kind, RINGS, name, {"spec": spec})
        _look(f"{kind}/{name}")
        until(
            f"{kind} {name} as it was",
            lambda kind=kind, name=name, field=field, before=before: (  # type: ignore[misc]
                get(kind, RINGS, name)["spec"][field] == before
            ),
            60,
        )
    ring.settle(3)
    return f"{len(edits)} selectors put back in {since(began)}"


def refused_told() -> str:
    """Three rings whose pods cannot be made. A quota has room for three of five pods, and these
    three make the ring. A storage class does not exist, and is corrected while there is no volume.
    A restricted namespace refuses `hostNetwork`. `Degraded` reports each with a command; each
    heals."""
    barred, typo, exposed = Ring("barred", "quota"), Ring("typo", "other"), Ring("exposed", "other")
    _quota(3)
    few: dict[str, Any] = {"ring": {"partitions": 16}}
    barred.create(**few, size=5)
    # It names no image, so it gets the chart's, and users as OpenShift gives them.
    users = {"runAsUser": ANY_USER, "fsGroup": ANY_USER}
    typo.create(
        **few,
        image=None,
        storage={"size": "64Mi", "className": "gp3-typo"},
        runAs="Assigned",
        podTemplate={"spec": {"securityContext": users}},
    )
    exposed.create(**few, podTemplate={"spec": {"hostNetwork": True}})
    began = time.monotonic()
    until("a ring of the first three", lambda: barred.resource()["status"]["members"] == 3, 60)
    founded = since(began)
    for each, reason, words in (
        (barred, "PodNotMade", "kubectl describe statefulset barred -n quota"),
        (exposed, "PodNotMade", "kubectl describe statefulset exposed -n other"),
        (typo, "PodNotRunning", "gp3-typo"),
    ):
        _told(each, reason, words)
    told = since(began)
    kubectl("delete", "resourcequota", "few", "-n", "quota")
    # Kubernetes' own controller waits longer after each refusal; a change makes it try at once.
    patch("statefulset", "quota", "barred", {"metadata": {"annotations": {"quota": "gone"}}})
    patch("dring", "other", "typo", {"spec": {"storage": {"className": None}}})
    patch("dring", "other", "exposed", {"spec": {"podTemplate": {"spec": {"hostNetwork": None}}}})
    began = time.monotonic()
    for each, size in ((barred, 5), (typo, 3), (exposed, 3)):
        each.settle(size)
        assert _degraded(each) == "AllWell", each.conditions()
    healed = since(began)
    for pod in typo.pods():
        assert pod["spec"]["containers"][0]["image"] == NEXT_IMAGE, pod["spec"]
        assert users.items() <= pod["spec"]["securityContext"].items(), pod["spec"]
    kubectl("delete", "namespace", "quota", "--wait=false")
    kubectl("delete", "dring", "typo", "exposed", "-n", "other")
    kubectl("delete", "pvc", "-n", "other", "--wait=false", *typo.claims(), *exposed.claims())
    return f"three of five founded in {founded}, three troubles told in {told}, healed in {healed}"


def _quota(pods: int) -> None:
    few = {"name": "few", "namespace": "quota"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": few}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "quota"}})
    apply(quota | {"spec": {"hard": {"pods": str(pods)}}})


def _told(of: Ring, reason: str, words: str) -> None:
    def met() -> bool:
        fact = of.conditions().get("Degraded", {})
        return fact.get("reason") == reason and words in fact["message"]

    until(f"{of.name} tells {reason} with {words}", met, TOLD_S_MAX)


def slips_taken_back() -> str:
    """A size with too many zeros, and a deleted Secret: reported, `Ready` is False, and both are
    corrected."""
    began = time.monotonic()
    ring.change(storage={"size": "100Ti"})
    until("the size is told", lambda: "100Ti" in _unready(), 60)
    ring.change(storage={"size": "256Mi"})
    ring.settle(3)
    sized = since(began)
    began = time.monotonic()
    secret = get("secret", RINGS, f"{ring.name}-secret")
    kubectl("delete", "secret", f"{ring.name}-secret", "-n", RINGS)
    _look("Secret gone")
    until("the Secret is told", lambda: "cluster secret is gone" in _unready(), 60)
    assert _degraded(ring) == "SecretMissing", ring.conditions()
    kept = {"name": secret["metadata"]["name"], "namespace": RINGS}
    kept["labels"] = secret["metadata"]["labels"]
    apply({"apiVersion": "v1", "kind": "Secret", "data": secret["data"], "metadata": kept})
    _look("Secret restored")
    ring.settle(3)
    return f"100Ti told and taken back in {sized}, a Secret lost and restored in {since(began)}"


def _unready() -> str:
    fact = ring.conditions()["Ready"]
    return str(fact["message"]) if fact["status"] == "False" else ""


def _look(why: str) -> None:
    """The operator does not watch everything; a change of the resource makes it look at once."""
    patch("dring", RINGS, ring.name, {"metadata": {"annotations": {"looked-at": why}}})


def _degraded(of: Ring) -> str:
    return str(of.conditions().get("Degraded", {}).get("reason", ""))
