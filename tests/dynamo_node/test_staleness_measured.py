"""Predicted and measured staleness of real nodes whose links are delayed by proxies."""

from __future__ import annotations

from pathlib import Path

from benchmarks.staleness import delayed_ring, everywhere, measured

READS = 1500
POINTS = 0.05


def test_what_is_predicted_is_what_canaries_measure(tmp_path: Path) -> None:
    """Delays of 5 ms and an exponential time of 40 ms are far above the noise of the machine, which
    is in both numbers anyway. The standard deviation of their difference is about 1.2 points."""
    with delayed_ring(tmp_path, everywhere(), (1, 1)) as nodes:
        body = measured(nodes["a"], READS)
    canary = body["canary"]
    assert body["nodes"] == ["a", "b", "c"] and not body["missing"]
    assert 0.2 < canary["measured"] < 0.97, "the delays must matter"
    assert abs(canary["measured"] - canary["predicted"]) <= POINTS, canary
    present = next(line for line in body["settings"] if line["present"])
    overlap = next(line for line in body["settings"] if (line["r"], line["w"]) == (2, 2))
    assert (present["r"], present["w"]) == (1, 1) and present["fresh_at_once"] < 0.5
    assert overlap["fresh_at_once"] == 1.0 and overlap["read_ms"]["p50"] > 10
