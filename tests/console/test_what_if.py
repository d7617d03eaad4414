"""The what-if page: every story, played on real processes, and what its faults look like."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from dynamo_node.console_files import ROOT
from tests.console.ring_room import Room, Viewer, counted

TRUTHS = {
    "down": 0, "two-down": 2, "frozen": 1, "split": 2, "alone": 0, "one-way": 1, "wiped": 2,
    "rolled-back": 0, "full": 2, "skewed": 1, "deleted": 0,
}  # fmt: skip
"""Which choice of a story comes true."""
PICTURED = "split"


def test_every_story_has_its_truth_here() -> None:
    text = (ROOT / "stories.js").read_text()
    assert re.findall(r'^    id: "([\w-]+)"', text, re.MULTILINE) == list(TRUTHS)


@pytest.mark.parametrize("story", TRUTHS)
def test_a_story_comes_true(viewer: Viewer, story: str) -> None:
    page = viewer.open("whatif", story)
    card = page.locator(f"#story-{story}.open")
    play = card.get_by_role("button", name="Play it", exact=True)
    play.wait_for()
    assert play.is_disabled(), "a prediction comes first"
    card.locator("input[type=radio]").nth(TRUTHS[story]).check()
    play.click()
    truth = card.locator(".truth, .level.bad")
    truth.wait_for()
    steps = card.locator(".steps li").all_text_contents()
    assert truth.get_attribute("data-truth") == str(TRUTHS[story]), steps
    assert "As you said" in (truth.text_content() or "")
    card.get_by_role("button", name="Play it again").wait_for()
    assert not card.locator("p > .level.bad").count(), "it is healed at the end"
    if story == PICTURED:
        viewer.picture("what-if", height=1000)


def fault(page: Any, name: str, node: str) -> None:
    """Presses a button of the node's card."""
    card = page.locator(f".trouble[data-node={node}]")
    card.get_by_role("button", name=name, exact=True).click()


def test_faults_by_hand_are_seen_on_the_ring(viewer: Viewer) -> None:
    page = viewer.open("whatif")
    fault(page, "Freeze", "n2")
    page.wait_for_selector(".trouble[data-node=n2] >> text=frozen")
    page.get_by_role("button", name="Cut n3 to n4", exact=True).click()
    counted(page, ".links .cut", 1)
    page.get_by_role("button", name="Mend n3 to n4", exact=True).click()
    counted(page, ".links .cut", 0)
    page.get_by_role("button", name="Cut n3 to n4", exact=True).click()
    counted(page, ".links .cut", 1)
    page.wait_for_selector(".band.bad[data-node=n2]")
    page.get_by_role("button", name="Heal everything").click()
    counted(page, ".links .cut", 0)
    counted(page, ".trouble .level.good", 5)
    counted(page, ".band.bad", 0)


def test_a_node_itself_offers_no_fault(browser: Any, room: Room) -> None:
    node = room.nodes["n3"]
    assert httpx.get(node.admin + "/what-if").status_code == 404
    viewer = Viewer(browser, node.admin)
    page = viewer.open("whatif")
    page.wait_for_selector(".empty")
    assert page.locator("button").count() == 0
    viewer.end()
