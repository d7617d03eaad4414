"""The bars of backups and restores, on a terminal: how much of how much, and no bar elsewhere."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from dynamoctl.backup import bar


def shown(steps: list[tuple[int, ...]], terminal: bool = True) -> str:
    """What a person sees of them."""
    file = io.StringIO()
    session: Any = SimpleNamespace(
        as_json=False, err=Console(file=file, force_terminal=terminal, width=80)
    )
    with bar(session, "partitions", None) as step:
        for one in steps:
            step(*one)
    return file.getvalue()


def test_a_bar_tells_how_much_of_how_much_once_that_is_known() -> None:
    text = shown([(0, 0), (3, 10), (4, 10)])
    assert "partitions" in text and "7/10" in text


def test_where_no_person_looks_there_is_no_bar() -> None:
    assert shown([(3, 10)], terminal=False) == ""
