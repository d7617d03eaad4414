"""The page says what it costs that nodes believe nothing that arrives."""

from __future__ import annotations

import pytest
from benchmarks.results import Results
from benchmarks.table import remarks

from benchmarks import trust_cost


@pytest.mark.parametrize(("cpu_us", "verdict"), [(300.0, "met"), (100.0, "NOT MET")])
def test_the_page_has_the_part_of_a_put(cpu_us: float, verdict: str) -> None:
    results = Results(
        trust_us={"tags": 4.0, "checks": 5.0}, cpu_us={("put", "dynamo-ring"): [1e3, cpu_us, 1.0]}
    )
    (said,) = [line for line in remarks(results, {}) if line.startswith("trust: ")]
    assert f"tags 4.0 µs, checks 5.0 µs of a put: {9 / cpu_us:.1%}" in said
    assert said.endswith(f"(goal ≤5%: {verdict})")


def test_without_a_put_there_is_no_part() -> None:
    results = Results(trust_us={"tags": 4.0})
    assert not [line for line in remarks(results, {}) if line.startswith("trust: ")]


def test_both_ends_are_measured() -> None:
    assert all(cost_us > 0 for cost_us in trust_cost.shown().values())
