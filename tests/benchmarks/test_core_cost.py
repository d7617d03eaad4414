"""The cost of an operation inside the core does not rise unnoticed: bytecodes are exact."""

from __future__ import annotations

import json

import pytest
from benchmarks.core_cost import COUNTED, COUNTS, bytecodes, python

RISE_MAX = 1.03
FALL_MIN = 0.97
WRITTEN: dict[str, dict[str, int]] = json.loads(COUNTS.read_text())


@pytest.mark.skipif(
    python() not in WRITTEN,
    reason=f"bytecodes are written down for Python {', '.join(WRITTEN)}; another has others",
)
@pytest.mark.parametrize("what", COUNTED)
def test_an_operation_takes_the_bytecodes_that_are_written_down(what: str) -> None:
    written = WRITTEN[python()][what]
    counted = bytecodes(what)
    assert FALL_MIN * written <= counted <= RISE_MAX * written, (
        f"{what}: {counted} bytecodes an operation, {written} are written down: make it less, "
        "or say in CHANGELOG.md why it rises; then `python -m benchmarks.core_cost --write`"
    )


def test_the_same_code_runs_the_same_bytecodes() -> None:
    assert bytecodes("get 48") == bytecodes("get 48")
