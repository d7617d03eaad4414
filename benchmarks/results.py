"""What `bench.py` measures: the rows, and the results of all rounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from benchmarks.changes import Figure
from benchmarks.load_runs import Sample
from benchmarks.stores import Edge, Etcd, Naive, Nginx, Ours, Peer, Redis, Secured

ROWS: dict[str, list[type[Peer]]] = {
    "put": [Ours, Naive, Etcd, Redis],
    "get": [Ours, Naive, Etcd, Redis],
    "durable put": [Ours, Naive, Etcd, Redis],
    "update": [Ours],
    "batch put": [Ours, Etcd, Redis],
    "batch get": [Ours, Redis],
    "tls put": [Secured, Ours],
    "tls get": [Secured, Ours],
    "edge": [Edge, Nginx],
    "put at 1": [Ours, Etcd, Redis],
    "get at 1": [Ours, Etcd, Redis],
    "put at 256": [Ours, Etcd, Redis],
    "get at 256": [Ours, Etcd, Redis],
}
"""The first of a row is ours. "at": with so many connections, and as many requests in flight."""


@dataclass
class Results:
    """The measurements, and those that were not possible."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    """By row and store, one for each round."""
    cpu_us: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """Processor time of the store's processes for one operation."""
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    idle_bytes: list[int] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    phases: list[tuple[str, ...]] = field(default_factory=list)
    """Inside the core: the head of the table, then one row for each phase."""
    rights_us: dict[str, float] = field(default_factory=dict)
    """What the check of rights adds to a request, by its kind."""
    trust_us: dict[str, float] = field(default_factory=dict)
    """What a put costs because nodes believe nothing that arrives, by what it is for."""
    tmpfs: bool = True
    rounds: int = 0
    seconds: float = 0.0

    def ratio(self, row: str, name: str) -> float | None:
        """Ours divided by the peer's: the median of the rounds."""
        ours = self.samples.get((row, ROWS[row][0].name), [])
        peer = self.samples.get((row, name), [])
        pairs = [o.rate / p.rate for o, p in zip(ours, peer, strict=False) if p.rate and o.rate]
        return median(pairs) if pairs else None
