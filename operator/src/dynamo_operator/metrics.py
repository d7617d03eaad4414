"""The operator's own metrics; the nodes have those of the data."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dynamo_operator.act import Outcome
from dynamo_operator.actions import Act, Step
from dynamo_operator.archive_runs import whole_backups
from dynamo_operator.conditions import below_quorum, facts
from dynamo_operator.snapshot import Snapshot

CLUSTER = ("namespace", "name")
Key = tuple[str, str]


class Metrics:
    """What Prometheus scrapes."""

    def __init__(self) -> None:
        self.registry = made = CollectorRegistry()
        self.passes = Counter(
            "dynamo_operator_passes", "Passes over a cluster that ended.", ["result"], registry=made
        )
        self.pass_seconds = Histogram(
            "dynamo_operator_pass_seconds", "Duration of one look and its step.", registry=made
        )
        self.actions = Counter(
            "dynamo_operator_actions", "Changes that the operator made.", ["action"], registry=made
        )
        self.api_calls = Gauge(
            "dynamo_operator_api_calls", "Requests to the API server.", ["verb"], registry=made
        )
        self.waiting = Gauge("dynamo_operator_queue", "Clusters in the queue.", registry=made)
        self.listed = Gauge(
            "dynamo_operator_listed",
            "1 while its resources can be listed.",
            ["namespace"],
            registry=made,
        )
        self._of_cluster = {
            name: Gauge(f"dynamo_cluster_{name}", text, CLUSTER, registry=made)
            for name, text in (
                ("size", "spec.size."),
                ("ready_pods", "Pods that are Ready."),
                ("members", "Members of the ring."),
                ("readable", "1 while a majority shows one ring."),
                ("moves_pending", "Replicas that still have to move."),
                ("below_quorum", "Partitions with fewer owners up than R and W need."),
                ("hints", "Hints that wait for delivery."),
                ("progressing", "1 while a change is due or under way."),
                ("degraded", "1 while a person should act."),
                ("encrypted", "1 while every connection is in TLS."),
                ("access_required", "1 while every node asks clients who they are."),
                ("backup_up_to_date", "0 while the last backup that was due failed or is late."),
                ("last_backup_seconds", "When the last complete backup began, 0: there is none."),
                ("spec_valid", "0 while a person must change the spec or an object in it."),
            )
        }

    def saw(self, o: Snapshot, step: Step, outcome: Outcome) -> None:
        """One pass over one cluster."""
        ring = o.ring
        told = {f.type: f.holds for f in facts(o, step, outcome.said, outcome.refused)}
        whole = whole_backups(o.runs)
        hints = sum(backlog.count for node in o.nodes.values() for backlog in node.hints.values())
        for name, value in (
            ("size", o.spec.size),
            ("ready_pods", sum(pod.ready for pod in o.pods.values())),
            ("members", sum(m.state == "MEMBER" for m in ring.members) if ring else 0),
            ("readable", ring is not None),
            ("moves_pending", ring.pending if ring else 0),
            ("below_quorum", below_quorum(o)),
            ("hints", hints),
            ("progressing", step.progressing),
            ("degraded", told["Degraded"] is True),
            ("encrypted", told["CertificatesReady"] is True),
            ("access_required", told["AccessReady"] is True),
            ("backup_up_to_date", told["BackupUpToDate"] is not False),
            ("last_backup_seconds", (whole[-1].started or 0.0) if whole else 0.0),
            ("spec_valid", told["SpecValid"] is not False),
        ):
            self._of_cluster[name].labels(o.namespace, o.name).set(value)

    def did(self, action: Act) -> None:
        """Counts one action."""
        self.actions.labels(type(action).__name__).inc()

    def gone(self, key: Key) -> None:
        """The cluster does not exist any more."""
        for gauge in self._of_cluster.values():
            gauge.remove(*key)

    def text(self, queued: int, calls: Mapping[str, int]) -> bytes:
        """All metrics in the format of Prometheus."""
        self.waiting.set(queued)
        for verb, count in calls.items():
            self.api_calls.labels(verb).set(count)
        return generate_latest(self.registry)
