"""Prometheus metrics, made when they are asked for: the hot path only adds to plain numbers.

Every counter of the core appears under its internal name (`dynamo_events_total{event}`), besides
the metrics that docs/operations.md names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from dynamo_node.driver import Driver
from dynamo_node.handshake import VERSION, VERSION_OLDEST

DIVERGENCE_CAUSES = ("repair", "exchange", "hint")
"""The ways by which a missed or different record came to this node: `stored_by_*` of the core."""


class NodeCollector(Collector):
    """Reads a driver's node when it is scraped."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._requests()
        yield from self._named()
        yield from self._gauges()

    def _requests(self) -> Iterator[Metric]:
        requests = self._driver.requests
        total = CounterMetricFamily(
            "dynamo_requests", "Answered client operations.", labels=["operation", "status"]
        )
        for (kind, status), count in sorted(requests.counts.items()):
            total.add_metric([kind, str(status)], count)
        yield total
        seconds = HistogramMetricFamily(
            "dynamo_request_seconds", "Time from submission to answer.", labels=["operation"]
        )
        for kind, buckets in requests.seconds.items():
            seconds.add_metric([kind], buckets.cumulative(), buckets.total)
        yield seconds
        siblings = HistogramMetricFamily("dynamo_siblings", "Siblings in the answer of a get.")
        siblings.add_metric([], requests.siblings.cumulative(), requests.siblings.total)
        yield siblings

    def _named(self) -> Iterator[Metric]:
        driver, counters = self._driver, self._driver.node.counters
        divergence = CounterMetricFamily(
            "dynamo_divergence", "Records that came here after their write.", labels=["cause"]
        )
        for cause in DIVERGENCE_CAUSES:
            divergence.add_metric([cause], counters[f"stored_by_{cause}"])
        yield divergence
        changes = CounterMetricFamily(
            "dynamo_peer_state_changes", "Changes of a peer to up or down.", labels=["peer"]
        )
        for peer, count in sorted(driver.peer_changes.items()):
            changes.add_metric([peer], count)
        yield changes
        refused = CounterMetricFamily(
            "dynamo_corrupt_records_refused", "Records with wrong checksums.", labels=["peer"]
        )
        for peer, count in sorted(driver.node.corrupt_from.items()):
            refused.add_metric([peer], count)
        yield refused
        senseless = CounterMetricFamily(
            "dynamo_senseless_input", "Refused messages that made no sense.", labels=["peer"]
        )
        for peer, count in sorted(driver.node.refusals.by_peer.items()):
            senseless.add_metric([peer], count)
        yield senseless
        for name, counter, text in (
            ("read_repairs", "stored_by_repair", "Records repaired here after a read."),
            ("exchange_differences", "exchange_differences", "Keys that anti-entropy repaired."),
            ("corrupt_records", "corrupt_records", "Records on disk that could not be read."),
            ("tombstones_collected", "tombstones_collected", "Tombstones deleted with proof."),
            ("moved_bytes", "moved_bytes", "Bytes of partitions that moved here."),
        ):
            yield CounterMetricFamily(f"dynamo_{name}", text, value=counters[counter])
        events = CounterMetricFamily("dynamo_events", "Internal events, by name.", labels=["event"])
        for event, count in sorted((counters + driver.links.ends.counters).items()):
            events.add_metric([event], count)
        yield events

    def _gauges(self) -> Iterator[Metric]:
        driver = self._driver
        node = driver.node
        hints = GaugeMetricFamily("dynamo_hints", "Hints held.", labels=["target"])
        hint_bytes = GaugeMetricFamily("dynamo_hint_bytes", "Their bytes.", labels=["target"])
        for name, (count, size) in node.hints.by_name().items():
            hints.add_metric([name], count)
            hint_bytes.add_metric([name], size)
        yield hints
        yield hint_bytes
        links = GaugeMetricFamily("dynamo_links", "Links open.", labels=["direction", "version"])
        by_version = driver.links.by_version()
        for direction in ("in", "out"):
            for index in range(VERSION_OLDEST, VERSION + 1):
                links.add_metric([direction, str(index)], by_version[direction, index])
        yield links
        status = node.admin.status()
        yield from _staleness(node.staleness.summary())
        throttle = node.throttle
        p99_ms = float("nan") if throttle.p99_ms is None else throttle.p99_ms
        clock = node.repairs.scrub.clock_entries_max
        tombstones = status["tombstones"]
        for name, text, value in (
            ("ready", "1 if this member can write and is not draining.", node.ready),
            ("writable", "0 while the store refuses writes.", node.writable),
            ("fsync_stalled", "1 while fsyncs stall: other owners coordinate puts.", node.stalled),
            ("in_flight", "Client operations under way.", node.admission_control.in_flight),
            ("ring_epoch", "Grows with every change of the ring.", status["epoch"]),
            ("partitions_owned", "Partitions of this node.", status["partitions"]["owned"]),
            ("partitions_complete", "Complete partitions here.", status["partitions"]["complete"]),
            (
                "oldest_comparison_seconds",
                "Seconds since the comparison of the pair that waits longest.",
                status["oldest_comparison_s"] or 0,
            ),
            ("tombstones", "Tombstones here; 0 before they are counted.", tombstones["count"] or 0),
            ("tombstone_oldest_seconds", "Age of the oldest one.", tombstones["oldest_s"] or 0),
            ("clock_entries_max", "Actors in the largest history; check from 50 on.", clock),
            (
                "background_budget",
                "Fraction of full speed for background work.",
                throttle.budget,
            ),
            ("background_latency_p99_ms", "Reads of the last minute; sets the budget.", p99_ms),
            ("background_latency_threshold_ms", "Above it, work slows.", throttle.threshold_ms),
            ("transfers", "Partitions that move to this node.", len(status["transfers"])),
            ("disk_bytes", "Bytes that the store takes.", driver.store.disk_bytes()),
            ("memory_bound_bytes", "Maximum memory of the process.", driver.memory_bound_bytes),
            ("access_open", "1 while clients are not asked who they are.", driver.access is None),
            ("certificate_not_after_seconds", "When its certificate expires.", _ends_s(driver)),
            ("records_read_bytes", "Large records that gets hold.", node.records.used),
        ):
            yield GaugeMetricFamily(f"dynamo_{name}", text, value=float(value))
        books = driver.books
        if books is not None:
            for name, text, value in (
                ("requests_bytes", "Bytes of unanswered requests.", books.requests.used),
                ("large_bodies_bytes", "Bytes of admitted large bodies.", books.large.used),
                ("large_bodies_allowed_bytes", "Bytes that can end in time.", books.pace.allowed),
                ("large_bodies_waiting", "Large bodies that wait for admission.", books.waiting),
                ("answers_bytes", "Bytes of answers that are not read yet.", books.answers.used),
            ):
                yield GaugeMetricFamily(f"dynamo_{name}", text, value=float(value))


def _staleness(summary: dict[str, Any] | None) -> Iterator[Metric]:
    """The last report, with the ring's own R and W; no samples before the first one."""
    fresh = GaugeMetricFamily(
        "dynamo_staleness_fresh_ratio",
        "Share of reads that see a write: predicted at once; canaries measured, and predicted.",
        labels=["of"],
    )
    after = GaugeMetricFamily(
        "dynamo_staleness_999_seconds", "Predicted time until 99.9% of reads see a write."
    )
    if summary is not None:
        for of in ("fresh_at_once", "canary", "canary_predicted"):
            if summary[of] is not None:
                fresh.add_metric([of], summary[of])
        after_ms = summary["fresh_999_ms"]
        after.add_metric([], float("inf") if after_ms is None else after_ms / 1000)
    yield fresh
    yield after


def _ends_s(driver: Driver) -> float:
    certificates = driver.links.ends.certificates
    return 0.0 if certificates is None else certificates.ends_s or 0.0


def registry_of(driver: Driver) -> CollectorRegistry:
    """The metrics of one node and its process, in a separate registry."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(driver))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
