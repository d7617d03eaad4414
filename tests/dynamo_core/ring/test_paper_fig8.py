"""Figure 8 of the paper, reproduced: efficiency of strategies 1 and 3, and of our own placement."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[3] / "benchmarks" / "fig8.py"
_spec = importlib.util.spec_from_file_location("fig8", _PATH)
assert _spec is not None
assert _spec.loader is not None
fig8 = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fig8)

TOLERANCE = 0.03


@pytest.mark.parametrize(("x", "paper"), list(zip(fig8.POINTS, fig8.PAPER_1, strict=True)))
def test_strategy_1_has_the_efficiency_of_the_paper(x: int, paper: float) -> None:
    assert fig8.mean_of_runs(fig8.strategy_1, x) == pytest.approx(paper, abs=TOLERANCE)


@pytest.mark.parametrize(("x", "paper"), list(zip(fig8.POINTS, fig8.PAPER_3, strict=True)))
def test_strategy_3_has_the_efficiency_of_the_paper(x: int, paper: float) -> None:
    assert fig8.mean_of_runs(fig8.strategy_3, x) == pytest.approx(paper, abs=TOLERANCE)


@pytest.mark.parametrize("x", fig8.POINTS)
def test_strategy_2_is_the_worst_as_in_the_paper(x: int) -> None:
    two = fig8.mean_of_runs(fig8.strategy_2, x)
    assert two < fig8.mean_of_runs(fig8.strategy_1, x)
    assert two < fig8.mean_of_runs(fig8.strategy_3, x)


@pytest.mark.parametrize("x", fig8.POINTS)
def test_our_placement_is_at_least_as_efficient_as_strategy_3(x: int) -> None:
    ours = fig8.dynamo_ring(x)
    assert ours >= fig8.mean_of_runs(fig8.strategy_3, x)
    assert ours == 1.0  # N*x is a multiple of S at every point, so all nodes can be equal


def test_a_ring_that_does_not_divide_evenly_is_within_one_replica() -> None:
    assert fig8.dynamo_ring(256) == pytest.approx(25.6 / 26)
    assert fig8.dynamo_ring(1024) == pytest.approx(102.4 / 103)
