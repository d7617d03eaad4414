"""The lines about what happens on a node."""

from __future__ import annotations

import re
from pathlib import Path

from dynamo_core.runtime.event_log import COUNTED, KEPT_MAX, EventLog

ROOT = Path(__file__).parents[3]


def test_a_bounded_number_of_lines_is_kept() -> None:
    lines, heard = EventLog(), []
    lines.tell(lambda: heard.append(1))
    for n in range(KEPT_MAX + 10):
        lines.add(n, "ring", "S-RING-3", {"epoch": n})
    assert len(heard) == KEPT_MAX + 10
    assert next(line.serial for line in lines.since(0)) == 11
    assert [line.serial for line in lines.since(KEPT_MAX + 8)] == [KEPT_MAX + 9, KEPT_MAX + 10]
    assert len(lines.since(1 << 40)) == KEPT_MAX, "a number of an earlier process"


def test_counters_that_grow_become_lines() -> None:
    lines = EventLog()
    lines.beat(1, {"hints_kept": 3})
    lines.beat(2, {"hints_kept": 3})
    lines.beat(3, {"hints_kept": 5, "switches": 1})
    assert [(line.kind, line.about["count"]) for line in lines.since(0)] == [
        ("hints_kept", 3),
        ("hints_kept", 2),
        ("switches", 1),
    ]


def test_each_counter_and_rule_exists() -> None:
    events = (ROOT / "docs/operations.md").read_text()
    rules = (ROOT / "docs/rules.md").read_text()
    for counter, rule in COUNTED.items():
        assert f"| `{counter}` |" in events
        assert re.search(rf"\*\*{rule}\. ", rules), rule
