"""The pages of the console in a real browser, in front of real nodes (docs/console.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dynamo_client.local_nodes import LocalRing
from dynamo_client.local_process import until
from dynamo_client.tokens import token_of_secret
from tests.console.ring_room import (
    PARTITIONS,
    SECRET,
    START_S_MAX,
    Room,
    Viewer,
    counted,
    press,
    ring_of,
)

PAGES = ("ring", "key", "flow", "staleness", "whatif", "plan")


def test_two_puts_without_context_are_two_boxes_and_a_merge_is_one(viewer: Viewer) -> None:
    page = viewer.open("key", "merge:1")
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
    page.get_by_text("The same as a table").click()
    counted(page, ".events tbody tr", 3)
    merged = page.locator(".events tbody tr").last.locator("td").all_text_contents()
    assert merged[0] == "two apples, bread" and len(merged[3].split("] [")) == 2
    assert "(replica)" in merged[5], "the way by which it came to the other copies"
    counted(page, ".copy .sibling", 3)
    viewer.picture("key")
    press(page, "Explain a read")
    counted(page, ".rung", 5)
    press(page, "Delete")
    counted(page, ".event.live.tombstone", 1)


def test_a_read_that_is_refused_is_no_empty_key(viewer: Viewer) -> None:
    page = viewer.open("key", "k" * 1025)
    for name in ("Read", "Explain a read"):
        press(page, name)
        page.wait_for_selector(".said .level.bad >> text=400: key")
        page.reload()
        page.wait_for_selector("main h1")


def test_the_name_of_a_story_is_no_key(viewer: Viewer) -> None:
    page = viewer.open("whatif", "split")
    page.wait_for_selector("#story-split.open")
    page.get_by_role("link", name="Ring", exact=True).click()
    page.wait_for_selector("svg.ring")
    assert page.input_value("input.key") == "" and page.title() == "Ring · dynamo-ring"
    page.fill("input.key", "cart:42")
    page.wait_for_selector(".owners .chip")
    page.get_by_role("link", name="What if", exact=True).click()
    page.wait_for_selector("#story-split.open")
    page.get_by_role("link", name="Key", exact=True).click()
    page.wait_for_selector(".copies")
    assert page.input_value("input.key") == "cart:42"


def test_figure_3_is_drawn(viewer: Viewer, room: Room) -> None:
    """[P 4.4]: two writers that had read the same version; then both are reconciled."""
    key = "figure3"
    x, y, z = (room.nodes[name].endpoint for name in room.preference(key)[0])

    def put(at: str, value: str, context: str = "") -> None:
        headers = {"Dynamo-Context": context} if context else {}
        target = f"{at}/v1/kv/{key}?w=3&timeout_ms=20000"
        httpx.put(target, content=value, headers=headers, timeout=30).raise_for_status()

    def context() -> str:
        return httpx.get(f"{x}/v1/kv/{key}?r=3", timeout=30).headers["dynamo-context"]

    put(x, "D1")
    put(x, "D2", context())
    both = context()
    put(y, "D3", both)
    put(z, "D4", both)
    page = viewer.open("key", key)
    counted(page, ".event.live", 2)
    put(x, "D5", context())
    counted(page, ".event.live", 1)
    first = page.locator(".event text:first-of-type")
    words = first.evaluate_all("texts => texts.map(text => text.textContent)")
    assert sorted(words) == ["D1", "D2", "D3", "D4", "D5"]
    assert page.locator(".cause").count() == 5
    assert page.locator(".actor").count() == 3
    viewer.picture("figure3")


def test_a_value_stays_text(viewer: Viewer, room: Room) -> None:
    value = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    key = "<b onmouseover=alert(3)>"
    room.put(quote(key), value)
    for name in ("key", "ring"):
        page = viewer.open(name, key)
        if name == "key":
            page.wait_for_selector(".copy .sibling")
            assert value[:30] in (page.locator(".copy .sibling span").first.text_content() or "")
        else:
            page.wait_for_selector(".owners .chip")
        assert page.locator("main script, main img, main b[onmouseover]").count() == 0


def test_a_killed_node_fades_and_its_writes_become_hints(viewer: Viewer, room: Room) -> None:
    """The console goes on, whichever node it was that looked."""
    key = "cart:42"
    owners = room.preference(key)[0]
    victim = "n1" if "n1" in owners else owners[-1]
    page = viewer.open("ring", key)
    page.wait_for_selector(".owners .chip")
    page.wait_for_selector("text=all 5 up")
    assert page.locator(".band.bad").count() == 0
    room.nodes[victim].kill()
    page.wait_for_selector(f".band.bad[data-node={victim}]")
    page.wait_for_selector("text=1 of 5 down")
    page.wait_for_selector(".disc.bad .cross")
    viewer.picture("ring")
    page = viewer.open("key", key)
    page.fill("input.value", "while it was down")
    press(page, "Put without context")
    page.wait_for_selector(".copy.hint")
    assert victim in (page.locator(".copy.hint header").text_content() or "")
    page.wait_for_selector(".copy.down")
    page = viewer.open("flow")
    page.wait_for_selector('.count[data-count="1"]')
    page.wait_for_selector(f"text={victim} is down")
    viewer.picture("flow")
    room.start(victim)
    page.wait_for_selector('h2:has-text("Hints") .count[data-count="0"]')
    page = viewer.open("key", key)
    counted(page, ".copy.hint", 0)
    counted(page, ".copy:not(.down) .sibling", 3)
    page = viewer.open("ring", key)
    page.wait_for_selector("text=all 5 up")


def test_a_plan_is_shown_then_approved_and_its_bars_come_true(viewer: Viewer) -> None:
    page = viewer.open("plan")
    page.locator("select").first.select_option("weight")
    page.locator("select.node").select_option("n2")
    page.fill("input[type=number]", "3")
    press(page, "Show the plan")
    counted(page, '.bars tr[data-node="n2"] td.num', 2)
    row = page.locator('.bars tr[data-node="n2"] td.num')
    before, after = (int((cell or "").split(" ")[0]) for cell in row.all_text_contents())
    assert after > before
    viewer.picture("plan")
    press(page, "Approve and apply")
    page.wait_for_selector("text=approved")
    page.wait_for_selector(".operation .level.good")
    page = viewer.open("ring")
    page.wait_for_function(
        "n => document.querySelector('tr[data-node=n2]').children[5].textContent === String(n)",
        arg=after,
    )


def test_a_replica_moves_by_hand(viewer: Viewer, room: Room) -> None:
    def owners() -> list[str]:
        found = httpx.get(room.door + "/v1/ring").raise_for_status().json()
        return list(found["entries"][7]["owners"])

    before = owners()
    (giver, *_), taker = before, next(name for name in room.nodes if name not in before)
    page = viewer.open("plan")
    page.locator("select").first.select_option("move")
    page.fill("input.partition", "7")
    page.locator("select.gives").select_option(giver)
    page.locator("select.takes").select_option(taker)
    press(page, "Show the plan")
    for name, change in ((giver, "−1"), (taker, "+1")):
        row = page.locator(f'.bars tr[data-node="{name}"] td.num').last
        assert (row.text_content() or "").endswith(change)
    press(page, "Approve and apply")
    page.wait_for_selector("text=approved")
    after = sorted([taker, *before[1:]])
    until(lambda: sorted(owners()) == after, "the replica has not moved", START_S_MAX)


def test_the_ring_by_keyboard_and_as_a_table(viewer: Viewer) -> None:
    page = viewer.open("ring")
    page.focus("svg.ring")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("svg.ring", "aria-valuenow") == "2"
    page.keyboard.press("End")
    assert page.get_attribute("svg.ring", "aria-valuenow") == str(PARTITIONS - 1)
    page.keyboard.press("Home")
    name = page.get_by_role("button", name="Show n2 on the ring")
    name.focus()
    counted(page, ".band.pointed", 3)
    counted(page, ".band.dim", 12)
    page.keyboard.press("Enter")
    page.focus("svg.ring")
    counted(page, ".band.pointed", 3)
    name.click()
    page.mouse.move(0, 0)
    page.focus("svg.ring")
    counted(page, ".band.dim", 0)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    press(page, "Show as a table")
    counted(page, ".partitions tbody tr", PARTITIONS)
    assert page.locator(".partitions tr.lit td").first.text_content() == "2"


def test_a_large_ring_is_a_few_shapes(viewer: Viewer) -> None:
    """Nine nodes and 4,096 partitions: one path for each node and rank, so a redraw is short."""
    page = viewer.open("ring")
    drawn = page.evaluate(
        """async () => {
          const { bands } = await import("/console/ring.js");
          const entries = Array.from({ length: 4096 },
            (_, p) => ({ owners: [0, 1, 2].map((rank) => "n" + ((p * 7 + rank) % 9)) }));
          return bands(entries, 3).map((band) => band.d.split("Z").length - 1);
        }"""
    )
    assert len(drawn) == 27 and sum(drawn) == 3 * 4096


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_at_400_pixels(browser: Any, room: Room, scheme: str) -> None:
    viewer = Viewer(browser, room.door, viewport={"width": 400, "height": 800}, color_scheme=scheme)
    room.put("narrow", "a value that is long enough to be wider than a small screen, " * 3)
    for name in PAGES:
        page = viewer.open(name, "narrow")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, name
    viewer.open("ring", "narrow").wait_for_selector(".owners .chip")
    viewer.picture(f"narrow-{scheme}")
    viewer.end()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_no_serious_fault_for_who_cannot_see(
    browser: Any, room: Room, name: str, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    room.put("axe", "v")
    viewer = Viewer(browser, room.door, color_scheme=scheme)
    page = viewer.open(name, "axe")
    page.wait_for_selector("h2, .page .empty")
    found = Axe().run(page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not serious, [(v["id"], v["nodes"][0]["html"][:200]) for v in serious]
    viewer.end()


def test_a_copy_that_lags_is_one_leaf_in_the_trees(browser: Any, room: Room) -> None:
    """The third owner hears only one node, which owns nothing of it. Its own page shows the leaf
    that differs, until the links are mended."""
    key = "lagging"
    owners, stand_ins = room.preference(key)
    third, watcher = owners[2], stand_ins[1]
    viewer = Viewer(browser, room.nodes[watcher].admin)
    partition = httpx.get(f"{room.door}/v1/preference-list/{key}").json()["partition"]
    page = viewer.open("flow")
    page.fill("input[type=number]", str(partition))
    trees = 'h2:has-text("Hash trees") .count'
    counted(page, ".trees figure", 3)
    page.wait_for_selector(f'{trees}[data-count="0"]')
    token = httpx.get(room.door + "/what-if").json()["token"]

    def fault(**wanted: str) -> None:
        shown = {"Dynamo-What-If": token}
        answer = httpx.post(room.door + "/what-if", json=wanted, headers=shown, timeout=60)
        answer.raise_for_status()

    for other in (owners[0], owners[1], stand_ins[0]):
        fault(fault="cut", source=other, target=third)
        fault(fault="cut", source=third, target=other)
    put = f"{room.door}/node/{owners[0]}/v1/kv/{key}?w=2"
    httpx.put(put, content="v", timeout=30).raise_for_status()
    page.wait_for_selector(f'{trees}[data-count="1"]')
    counted(page, ".leaf.differs", 3)
    fault(fault="heal")
    page.wait_for_selector(f'{trees}[data-count="0"]')
    viewer.end()


def test_the_token_is_asked_for_once(browser: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    token = token_of_secret(SECRET.encode())
    flag = f"--cluster-secret-file={secret}"
    with ring_of(tmp_path / "ring", 1, flag, token=token) as room:
        viewer = Viewer(browser, room.door)
        for path in ("v1/cluster", "v1/records/k", "v1/events", "v1/kv/k", "v1/hints", "what-if"):
            assert httpx.get(f"{room.door}/{path}").status_code == 401, path
        viewer.page.clock.install()
        page = viewer.open("ring")
        page.fill("input[type=password]", "another one")
        press(page, "Open")
        page.wait_for_selector("[role=alert] >> text=this token is not known here")
        asked = len(viewer.asked)
        page.clock.run_for(60_000)
        assert page.evaluate("document.querySelectorAll('svg.ring').length") == 0
        assert len(viewer.asked) == asked, "a wrong token is shown once, or the node slows us down"
        page.fill("input[type=password]", token)
        press(page, "Open")
        page.wait_for_selector("svg.ring")
        page.reload()
        page.wait_for_selector("svg.ring")
        viewer.end()
        assert LocalRing(room.ring.directory).token == token
