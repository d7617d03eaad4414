"""The page of live PBS in front of real nodes: sliders, the curve, what a change buys and costs."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.console.ring_room import NODES, Room, Viewer, counted, ring_of


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """With canaries; other tests count hints, and a canary may become one."""
    place = tmp_path_factory.mktemp("console") / "ring"
    with ring_of(place, NODES, "--canaries-per-minute=60") as room:
        yield room


def test_sliders_move_the_curve_and_tell_the_price(viewer: Viewer, room: Room) -> None:
    for index in range(20):
        room.put(f"sampled:{index}", "v")
        httpx.get(f"{room.door}/v1/kv/sampled:{index}", timeout=30).raise_for_status()
    page = viewer.open("staleness")
    page.wait_for_selector(".curve canvas, .page > button")
    while page.locator(".page > button").count():  # no sample has come yet
        page.locator(".page > button").click()
        page.wait_for_selector(".curve canvas, .page > button")
    counted(page, ".choices tbody tr", 9)
    assert "the ring as it is" in (page.locator(".bought caption").text_content() or "").lower()
    page.wait_for_selector("text=R + W > N: they overlap")
    for name in ("R", "W"):
        page.locator(f'.slide:has-text("{name} =") input').focus()
        page.keyboard.press("ArrowLeft")
    page.wait_for_selector("text=What R=1, W=1 would buy and cost")
    page.wait_for_selector("text=R + W ≤ N: a read may miss a write")
    assert page.locator(".choices tr.lit td").first.text_content() == "R=1, W=1"
    label = page.locator(".curve [role=img]").get_attribute("aria-label") or ""
    assert label.startswith("R=1, W=1: ")
    viewer.picture("staleness")
    page.locator('.slide:has-text("N =") input').focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=What N=4, R=1, W=1 would buy and cost")
    counted(page, ".choices tbody tr", 16)
    page.wait_for_selector("text=4 copies of each key instead of 3")
    page.get_by_role("button", name="As the ring is").click()
    counted(page, ".choices tbody tr", 9)
    page.wait_for_selector("text=R + W > N: they overlap")
