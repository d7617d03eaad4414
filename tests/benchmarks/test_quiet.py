"""A machine that does something else is told apart from a quiet one."""

from __future__ import annotations

from benchmarks.quiet import Ticks

from benchmarks import quiet

STAT = """cpu  400 10 90 9000 400 5 15 80 7 0
cpu0 200 5 45 4500 200 2 8 40 0 0
"""


def test_the_first_line_has_all_cores_and_guests_are_not_counted_twice() -> None:
    assert quiet.parsed(STAT) == Ticks(total=10_000, idle=9_400, stolen=80)


def test_a_core_that_others_use_is_busy() -> None:
    before = Ticks(1000, 1000, 0)
    assert quiet.used(before, Ticks(1400, 1390, 0)) == ""
    assert "others use 50% of the cores" in quiet.used(before, Ticks(1400, 1200, 0))


def test_what_the_host_takes_is_told_before_and_after() -> None:
    before = Ticks(1000, 1000, 10)
    assert quiet.used(before, Ticks(1400, 1384, 26)) == "the host has taken 4.0% of the cores"
    assert quiet.stolen(before, Ticks(1400, 1000, 18)) == ""
    assert "4.0%" in quiet.stolen(before, Ticks(1400, 1000, 26))


def test_this_machine_has_ticks_that_grow() -> None:
    first = quiet.ticks()
    assert first.total >= first.idle >= 0
    assert quiet.ticks().total >= first.total
