"""The console in a real browser, in front of real nodes (docs/console.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from PIL import Image
from ring_room import SECRET, WAIT_MS, Room, ring_of

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/pictures"
COLOURS = 255
"""Of a picture in the docs: flat colours stay as they are, at a third of the bytes."""
PAGES = ("ring", "key", "flow", "plan")


def with_few_colours(whole: Image.Image) -> Image.Image:
    """The picture in the colours that it has most of; each other one becomes the nearest."""
    counts = whole.getcolors(whole.width * whole.height) or []
    most = [colour for _, colour in sorted(counts, reverse=True)[:COLOURS]]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in most for part in colour])  # type: ignore[misc]
    return whole.quantize(palette=palette, dither=Image.Dither.NONE)


class Seen:
    """One page, and all that it asked for and complained of."""

    def __init__(self, browser: Any, room: Room, **more: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **more})
        self.context.set_default_timeout(WAIT_MS)
        self.page = self.context.new_page()
        self.room = room
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append("a dialog") or dialog.dismiss())

    def open(self, page: str, key: str = "") -> Any:
        """A page of the console, drawn."""
        self.page.goto(f"{self.room.door}/console#/{page}" + (f"/{quote(key)}" if key else ""))
        self.page.wait_for_selector("main h1")
        return self.page

    def picture(self, name: str) -> None:
        """For the docs, when DYNAMO_PICTURES is set: a run like any other leaves them alone."""
        if os.environ.get("DYNAMO_PICTURES"):
            small = with_few_colours(
                Image.open(BytesIO(self.page.screenshot(animations="disabled"))).convert("RGB")
            )
            small.save(PICTURES / f"console-{name}.png", optimize=True)


@pytest.fixture
def seen(browser: Any, room: Room) -> Iterator[Seen]:
    seen = Seen(browser, room)
    yield seen
    seen.context.close()
    assert not seen.faults
    foreign = [url for url in seen.asked if not url.startswith(room.door + "/")]
    assert not foreign, "no request leaves the node"


def counted(page: Any, selector: str, count: int) -> None:
    """Waits until so many elements are there."""
    page.wait_for_function(
        "([what, count]) => document.querySelectorAll(what).length === count", arg=[selector, count]
    )


def press(page: Any, name: str) -> None:
    """Presses the button of that name."""
    page.get_by_role("button", name=name, exact=True).click()


def test_two_puts_without_context_are_two_boxes_and_a_merge_is_one(seen: Seen) -> None:
    page = seen.open("key", "merge:1")
    page.fill("input.value", "two apples")
    press(page, "Put without context")
    counted(page, ".event", 1)
    page.fill("input.value", "bread")
    press(page, "Put without context")
    counted(page, ".event.live", 2)
    assert page.locator(".cause").count() == 0, "none of both had seen the other"
    counted(page, ".copy .sibling", 6)
    press(page, "Read")
    page.fill("input.value", "two apples, bread")
    press(page, "Put with context")
    counted(page, ".event.live", 1)
    counted(page, ".event.past", 2)
    counted(page, ".cause", 2)
    assert page.locator(".event.live text").first.inner_html().startswith("two apples")
    counted(page, ".copy .sibling", 3)
    seen.picture("key")
    press(page, "Explain a read")
    counted(page, ".rung", 5)
    press(page, "Delete")
    counted(page, ".event.live.tombstone", 1)


def test_figure_3_is_drawn(seen: Seen, room: Room) -> None:
    """[P 4.4]: two writers that had read the same version; then both are reconciled."""
    key = "figure3"
    x, y, z = (room.nodes[name].endpoint for name in room.preference(key)[0])

    def put(at: str, value: str, context: str = "") -> None:
        headers = {"Dynamo-Context": context} if context else {}
        target = f"{at}/v1/kv/{key}?w=3&timeout_ms=10000"
        httpx.put(target, content=value, headers=headers).raise_for_status()

    def context() -> str:
        return httpx.get(f"{x}/v1/kv/{key}?r=3").headers["dynamo-context"]

    put(x, "D1")
    put(x, "D2", context())
    both = context()
    put(y, "D3", both)
    put(z, "D4", both)
    page = seen.open("key", key)
    counted(page, ".event.live", 2)
    put(x, "D5", context())
    counted(page, ".event.live", 1)
    first = page.locator(".event text:first-of-type")
    words = first.evaluate_all("texts => texts.map(text => text.textContent)")
    assert sorted(words) == ["D1", "D2", "D3", "D4", "D5"]
    assert page.locator(".cause").count() == 5
    assert page.locator(".actor").count() == 3
    seen.picture("figure3")


def test_a_value_stays_text(seen: Seen, room: Room) -> None:
    value = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    key = "<b onmouseover=alert(3)>"
    room.put(quote(key), value)
    for name in ("key", "ring"):
        page = seen.open(name, key)
        if name == "key":
            page.wait_for_selector(".copy .sibling")
            assert value[:30] in (page.locator(".copy .sibling span").first.text_content() or "")
        else:
            page.wait_for_selector(".owners .chip")
        assert page.locator("main script, main img, main b[onmouseover]").count() == 0


def test_a_killed_node_fades_and_its_writes_become_hints(seen: Seen, room: Room) -> None:
    key = room.key_without("n1")
    victim = room.preference(key)[0][-1]
    page = seen.open("ring", key)
    page.wait_for_selector(".owners .chip")
    assert page.locator(".band.bad").count() == 0
    room.nodes[victim].kill()
    page.wait_for_selector(f".band.bad[data-node={victim}]")
    page.wait_for_selector("text=1 of 5 down")
    seen.picture("ring")
    page = seen.open("key", key)
    page.fill("input.value", "while it was down")
    press(page, "Put without context")
    page.wait_for_selector(".copy.hint")
    assert victim in (page.locator(".copy.hint header").text_content() or "")
    page.wait_for_selector(".copy.down")
    page = seen.open("flow")
    page.wait_for_selector('.count[data-count="1"]')
    page.wait_for_selector(f"text={victim} is down")
    seen.picture("flow")
    room.start(victim)
    page.wait_for_selector('h2:has-text("Hints") .count[data-count="0"]')
    page = seen.open("key", key)
    counted(page, ".copy.hint", 0)
    counted(page, ".copy:not(.down) .sibling", 3)
    page = seen.open("ring", key)
    page.wait_for_selector("text=all 5 up")


def test_a_plan_is_shown_then_approved_and_its_bars_come_true(seen: Seen) -> None:
    page = seen.open("plan")
    page.locator("select").first.select_option("weight")
    page.locator("select.node").select_option("n2")
    page.fill("input[type=number]", "3")
    press(page, "Show the plan")
    counted(page, '.bars tr[data-node="n2"] td.num', 2)
    row = page.locator('.bars tr[data-node="n2"] td.num')
    before, after = (int((cell or "").split(" ")[0]) for cell in row.all_text_contents())
    assert after > before
    seen.picture("plan")
    press(page, "Approve and apply")
    page.wait_for_selector("text=approved")
    page.wait_for_selector(".operation .level.good")
    page = seen.open("ring")
    page.wait_for_function(
        "n => document.querySelector('tr[data-node=n2]').children[5].textContent === String(n)",
        arg=after,
    )


def test_the_ring_by_keyboard_and_as_a_table(seen: Seen) -> None:
    page = seen.open("ring")
    page.focus("svg.ring")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("svg.ring", "aria-valuenow") == "2"
    press(page, "Show as a table")
    counted(page, ".partitions tbody tr", 64)
    assert page.locator(".partitions tr.lit td").first.text_content() == "2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_at_400_pixels(browser: Any, room: Room, scheme: str) -> None:
    seen = Seen(browser, room, viewport={"width": 400, "height": 800}, color_scheme=scheme)
    room.put("narrow", "a value that is long enough to be wider than a small screen, " * 3)
    for name in PAGES:
        page = seen.open(name, "narrow")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, name
    seen.open("ring", "narrow")
    seen.picture(f"narrow-{scheme}")
    seen.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_no_serious_fault_for_who_cannot_see(seen: Seen, room: Room, name: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    room.put("axe", "v")
    page = seen.open(name, "axe")
    page.wait_for_selector("h2")
    found = Axe().run(page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, [(v["id"], v["nodes"][0]["html"][:200]) for v in serious]


def test_the_token_is_asked_for_once(browser: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    with ring_of(tmp_path, 1, f"--cluster-secret-file={secret}", token=SECRET) as room:
        seen = Seen(browser, room)
        for path in ("v1/cluster", "v1/records/k", "v1/events", "v1/kv/k", "v1/hints"):
            assert httpx.get(f"{room.door}/{path}").status_code == 401, path
        page = seen.open("ring")
        page.fill("input[type=password]", SECRET)
        press(page, "Open")
        page.wait_for_selector("svg.ring")
        page.reload()
        page.wait_for_selector("svg.ring")
        seen.context.close()
