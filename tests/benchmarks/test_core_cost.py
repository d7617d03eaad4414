"""What an operation costs inside the core does not rise without a word: bytecodes are exact."""

from __future__ import annotations

import json

import pytest
from benchmarks.core_cost import COUNTS, KINDS, bytecodes, python

RISE_MAX = 1.03
FALL_MIN = 0.97
WRITTEN: dict[str, dict[str, int]] = json.loads(COUNTS.read_text())


@pytest.mark.skipif(
    python() not in WRITTEN,
    reason=f"bytecodes are written down for Python {', '.join(WRITTEN)}; another has others",
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_operation_takes_the_bytecodes_that_are_written_down(kind: str) -> None:
    written = WRITTEN[python()][kind]
    counted = bytecodes(kind)
    assert FALL_MIN * written <= counted <= RISE_MAX * written, (
        f"a {kind} runs {counted} bytecodes of the core, {written} are written down: make it less, "
        "or say in CHANGELOG.md why it rises; then `python -m benchmarks.core_cost --write`"
    )


def test_the_same_code_runs_the_same_bytecodes() -> None:
    assert bytecodes("get", 8) == bytecodes("get", 8)
