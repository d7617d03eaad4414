"""What the console costs: a redraw of a large ring in a browser, and an open page on its node.

A redraw is 9 nodes and 4,096 partitions, as they are and while a tenth of the partitions moves:
script, style and layout of the whole picture, the median of several. An open page shows the ring of
five nodes at rest; the share of a core is that of the node which is asked, beside its share without
a page.

    python -m benchmarks.console
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from benchmarks.processes import cpu_s

from dynamo_client.local_nodes import LocalNode, LocalRing, create_ring, free_base
from dynamo_client.local_process import until

NODES = 5
START_S_MAX = 120.0
REDRAWS = 30
REDRAW_MS_MAX, CORE_MAX = 50.0, 0.01
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
REDRAW = """async ([turns, moving]) => {
  const { Picture } = await import("/console/ring.js");
  const { html, marks_of, render } = await import("/console/parts.js");
  const names = Array.from({ length: 9 }, (_, at) => "n" + (at + 1));
  const marks = marks_of(names.map((name) => ({ name })));
  const levels = Object.fromEntries(names.map((name) => [name, "good"]));
  const place = document.body.appendChild(document.createElement("div"));
  place.style.width = "540px";
  const took = [];
  for (let turn = 0; turn < turns; turn++) {
    const entries = Array.from({ length: 4096 }, (_, p) => ({
      owners: [0, 1, 2].map((rank) => names[(p * 7 + turn + rank * 2) % 9]),
      move: moving && p % 10 === 0 ? { out: "n1", in: "n2" } : null,
    }));
    const ring = { entries, n: 3, r: 2, w: 2, epoch: turn, digest: "turn " + turn };
    const more = { marks, levels, chosen: turn, place: null, word: "", lit: "", onChoose() {} };
    const began = performance.now();
    render(html`<${Picture} ring=${ring} ...${more} />`, place);
    place.getBoundingClientRect();
    took.push(performance.now() - began);
    await new Promise((go) => setTimeout(go));
  }
  return took.sort((a, b) => a - b)[turns >> 1];
}"""


@contextmanager
def five_nodes(place: Path) -> Iterator[list[LocalNode]]:
    """A ring at rest."""
    ring = LocalRing(place / "ring")
    base = free_base(NODES)
    for _ in range(NODES):
        ring.add(base)
    nodes = list(ring.nodes.values())
    try:
        for node in nodes:
            node.start("--history-bytes-max=8388608")
        for node in nodes:
            until(node.lives, f"{node.name} does not answer", START_S_MAX)
        create_ring(nodes, None, partitions=256, n=3, r=2, w=2)
        for node in nodes:
            until(node.ready, f"{node.name} is not ready", START_S_MAX)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def share(node: LocalNode, seconds: float) -> float:
    """The share of a core that the node uses in that time."""
    assert node.process is not None
    pid = node.process.pid
    before, began = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_s(pid) - before) / (time.monotonic() - began)


def measure(page: Any, node: LocalNode, seconds: float) -> Iterator[str]:
    """A line for each figure."""
    quiet = share(node, seconds)
    page.goto(f"{node.admin}/console#/ring")
    page.wait_for_selector("svg.ring")
    for words, moving in (("at rest", False), ("while a tenth moves", True)):
        took = page.evaluate(REDRAW, [REDRAWS, moving])
        goal = f"goal < {REDRAW_MS_MAX:.0f} ms"
        yield f"redraw of 9 nodes x 4,096 partitions {words}: {took:.1f} ms ({goal})"
    page.reload()
    page.wait_for_selector("svg.ring")
    more = share(node, seconds) - quiet
    goal = f"goal < {CORE_MAX:.0%}"
    yield f"a node at rest: {quiet:.2%} of a core; an open page adds {more:.2%} ({goal})"


def main(
    seconds: Annotated[float, typer.Option(help="How long each share is measured.")] = 60.0,
) -> None:
    """Measure, and print one line for each figure."""
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with TemporaryDirectory() as place, five_nodes(Path(place)) as nodes, sync_playwright() as play:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = play.chromium.launch(executable_path=browser_path, args=options)
        for line in measure(browser.new_page(), nodes[0], seconds):
            print(line)
        browser.close()


if __name__ == "__main__":
    typer.run(main)
