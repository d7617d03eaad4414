"""docs/protocol.md shows the messages that real core nodes send today."""

from __future__ import annotations

from pathlib import Path

from dynamo_core.testing.golden import BLOCK, GOLDEN, rewritten

PAGE = Path(__file__).parents[2] / "docs/protocol.md"
HOW = "run `.venv/bin/python -m dynamo_core.testing.golden --write docs/protocol.md`, read the diff"


def test_the_page_has_every_ladder_once() -> None:
    assert [found["name"] for found in BLOCK.finditer(PAGE.read_text())] == list(GOLDEN)


def test_the_page_shows_what_the_nodes_say() -> None:
    page = PAGE.read_text()
    assert rewritten(page) == page, HOW
