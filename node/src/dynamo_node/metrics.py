"""Prometheus metrics, made when they are asked for: the hot path only adds to plain numbers.

Every counter of the core is there under its own name (`dynamo_events_total{event}`), beside the
ones that docs/operations.md names for people outside.
"""

from __future__ import annotations

from collections.abc import Iterator

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
"""What brought a record that this node had missed or had otherwise: `stored_by_*` of the core."""


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
            "dynamo_requests", "Operations of clients answered.", labels=["operation", "status"]
        )
        for (kind, status), count in sorted(requests.counts.items()):
            total.add_metric([kind, str(status)], count)
        yield total
        seconds = HistogramMetricFamily(
            "dynamo_request_seconds", "From submission to answer.", labels=["operation"]
        )
        for kind, buckets in requests.seconds.items():
            seconds.add_metric([kind], buckets.cumulative(), buckets.total)
        yield seconds
        siblings = HistogramMetricFamily("dynamo_siblings", "Siblings that a get showed.")
        siblings.add_metric([], requests.siblings.cumulative(), requests.siblings.total)
        yield siblings

    def _named(self) -> Iterator[Metric]:
        driver, counters = self._driver, self._driver.node.counters
        divergence = CounterMetricFamily(
            "dynamo_divergence", "Records brought here after their write.", labels=["cause"]
        )
        for cause in DIVERGENCE_CAUSES:
            divergence.add_metric([cause], counters[f"stored_by_{cause}"])
        yield divergence
        changes = CounterMetricFamily(
            "dynamo_peer_state_changes", "Times that a peer was seen up or down.", labels=["peer"]
        )
        for peer, count in sorted(driver.peer_changes.items()):
            changes.add_metric([peer], count)
        yield changes
        refused = CounterMetricFamily(
            "dynamo_corrupt_records_refused", "What a peer sent does not hold.", labels=["peer"]
        )
        for peer, count in sorted(driver.node.corrupt_from.items()):
            refused.add_metric([peer], count)
        yield refused
        senseless = CounterMetricFamily(
            "dynamo_senseless_input", "Messages that made no sense, not done.", labels=["peer"]
        )
        for peer, count in sorted(driver.node.refusals.by_peer.items()):
            senseless.add_metric([peer], count)
        yield senseless
        for name, counter, text in (
            ("read_repairs", "stored_by_repair", "Records mended here after a read."),
            ("exchange_differences", "exchange_differences", "Keys that anti-entropy mended."),
            ("corrupt_records", "corrupt_records", "Records that did not read back."),
            ("tombstones_collected", "tombstones_collected", "Forgotten here, with proof."),
            ("moved_bytes", "moved_bytes", "Bytes that came here with partitions on their way."),
        ):
            yield CounterMetricFamily(f"dynamo_{name}", text, value=counters[counter])
        events = CounterMetricFamily(
            "dynamo_events", "What else happened, by its name in the code.", labels=["event"]
        )
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
            for number in range(VERSION_OLDEST, VERSION + 1):
                links.add_metric([direction, str(number)], by_version[direction, number])
        yield links
        status = node.admin.status()
        throttle = node.throttle
        p99_ms = float("nan") if throttle.p99_ms is None else throttle.p99_ms
        clock = node.repairs.scrub.clock_entries_max
        tombstones = status["tombstones"]
        for name, text, value in (
            ("ready", "1 when a member that can write and does not drain.", node.ready),
            ("writable", "0 while the store refuses writes.", node.writable),
            ("fsync_stalled", "1 while fsyncs stall: others coordinate its puts.", node.stalled),
            ("in_flight", "Operations of clients under way.", node.admission_control.in_flight),
            ("ring_epoch", "Grows with every change of the ring.", status["epoch"]),
            ("partitions_owned", "Partitions of this node.", status["partitions"]["owned"]),
            ("partitions_complete", "Of these, complete.", status["partitions"]["complete"]),
            (
                "oldest_comparison_seconds",
                "Since the pair of owners that waits longest was compared.",
                status["oldest_comparison_s"] or 0,
            ),
            ("tombstones", "Tombstones held, where counted.", tombstones["count"] or 0),
            ("tombstone_oldest_seconds", "Since the oldest was met.", tombstones["oldest_s"] or 0),
            ("clock_entries_max", "Actors in the largest history; 50 is reason to look.", clock),
            (
                "background_budget",
                "Share of its speed that background work has.",
                throttle.budget,
            ),
            ("background_latency_p99_ms", "Of reads in the last minute, its reason.", p99_ms),
            ("background_latency_threshold_ms", "The budget falls above.", throttle.threshold_ms),
            ("transfers", "Partitions on their way to this node.", len(status["transfers"])),
            ("disk_bytes", "Bytes that the store takes.", driver.store.disk_bytes()),
            ("memory_bound_bytes", "What the process takes at most.", driver.memory_bound_bytes),
            ("records_read_bytes", "Large records that gets have in hand.", node.records.used),
        ):
            yield GaugeMetricFamily(f"dynamo_{name}", text, value=float(value))
        books = driver.books
        if books is not None:
            for name, text, value in (
                ("requests_bytes", "Of requests that are not answered yet.", books.requests.used),
                ("large_bodies_bytes", "Of these, bodies let in.", books.large.used),
                ("large_bodies_allowed_bytes", "So much ends in time.", books.pace.allowed),
                ("large_bodies_waiting", "Bodies that wait to be let in.", books.waiting),
                ("answers_bytes", "Of answers that are not read yet.", books.answers.used),
            ):
                yield GaugeMetricFamily(f"dynamo_{name}", text, value=float(value))


def registry_of(driver: Driver) -> CollectorRegistry:
    """The metrics of one node and its process; nothing global."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(driver))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
