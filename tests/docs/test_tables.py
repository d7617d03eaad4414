"""The tables of the pages agree with the code, and every link leads somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dynamo_node.reload import LIVE
from dynamo_node.settings import NodeSettings
from dynamo_operator.metrics import Metrics
from tests.docs.conftest import Room
from tests.test_tidy import LAYERS

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
CONDITIONS = (ROOT / "docs/kubernetes/conditions.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCES = [
    path
    for package in ("dynamo_core", "dynamo_node")
    for path in sorted((ROOT / "node/src" / package).rglob("*.py"))
    if "testing" not in path.parts
]
NO_PROBLEMS = {
    "content-type", "content-encoding", "dynamo-request-id",
    "dynamo-expires-in", "dynamo-expires-at", "content-range",  # of headers
    "dynamo-node", "dynamo-ring",  # ours
    "hints-full", "wrong-name",  # between nodes; of a data directory
    "stand-in",
    "date-time",  # a format of OpenAPI
    "last-event-id", "no-store", "no-cache", "no-referrer", "same-origin",  # of browsers
}  # fmt: skip
"""Words of the code that look like slugs but are none."""
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def table(name: str, page: str = OPERATIONS) -> list[list[str]]:
    """The rows of a marked table, without its head."""
    rows = page.split(f"<!-- table: {name} -->\n")[1].split("\n\n")[0].splitlines()
    return [[cell.strip().strip("`") for cell in row.split("|")[1:-1]] for row in rows[2:]]


def words(path: Path) -> set[str]:
    """Every string that stands in a module, docstrings included."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def test_settings() -> None:
    def shown(field: str) -> str:
        default = NodeSettings.model_fields[field].default
        if field == "name":
            return "host name"
        if default in (None, "", ()):
            return "none"
        if isinstance(default, tuple):
            return ",".join(default)
        return str(default).lower() if isinstance(default, bool) else _number(default)

    assert [row[:2] for row in table("settings")] == [
        [field, shown(field)] for field in NodeSettings.model_fields
    ]


def test_settings_that_take_effect_at_once() -> None:
    listed = re.search(r"settings\s+take\s+effect\s+at\s+once: (.*?)\.", OPERATIONS, re.S)
    assert listed and re.findall(r"`(\w+)`", listed[1]) == list(LIVE)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_problems() -> None:
    slug = re.compile(r"[a-z]+(-[a-z]+)+|overloaded|draining|unauthorized|forbidden|superseded")
    found = {word for path in SOURCES for word in words(path) if slug.fullmatch(word)}
    assert sorted(row[0] for row in table("problems")) == sorted(found - NO_PROBLEMS)


def test_events() -> None:
    found: set[str] = set()
    for path in SOURCES:
        for name in re.findall(r"counters\[([^\]]+)\]", path.read_text()):
            found |= set(re.findall(r'"([a-z_]+)"', name))
    causes = {row[0] for row in table("events") if row[0].startswith("stored_by_")}
    assert causes == {
        f"stored_by_{cause}" for cause in ("put", "repair", "hint", "exchange", "offer", "restore")
    }
    assert sorted(row[0] for row in table("events")) == sorted(found | causes)


def test_metrics(room: Room) -> None:
    """Names and types as one of the nodes exposes them."""
    text = httpx.get(room.admin(1) + "/metrics").text
    exposed = dict(re.findall(r"^# TYPE (dynamo_\w+) (\w+)$", text, re.M))
    assert {row[0]: row[1] for row in table("metrics")} == exposed
    labels = {row[0]: set(re.findall(r"\w+", row[2])) for row in table("metrics")}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = family.name + ("_total" if family.type == "counter" else "")
            if name in labels:
                assert set(sample.labels) - {"le"} == labels[name]


def test_metrics_of_the_operator() -> None:
    """Names and types as the operator exposes them."""
    exposed = {
        metric.name + ("_total" if metric.type == "counter" else ""): metric.type
        for metric in Metrics().registry.collect()
    }
    assert {row[0]: row[1] for row in table("operator metrics", CONDITIONS)} == exposed


def test_the_threat_model_names_tests_that_are_there() -> None:
    named = set(re.findall(r"`((?:[\w/]+/)?test_\w+\.py)`", (ROOT / "SECURITY.md").read_text()))
    assert len(named) > 20
    there = {path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    places = {str(path) for path in there} | {
        path.name for path in there if path.parts[1] == "dynamo_node"
    }
    assert named - places == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for link in ("".join(pair) for pair in LINK.findall(text)):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: nothing there"
        if heading:
            assert heading in headings(target), f"{link}: no such heading"


def headings(page: Path) -> set[str]:
    """Anchors of a page, as Markdown viewers make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_pictures_are_as_drawn(tmp_path: Path) -> None:
    """A picture is changed in draw.py, not in its file."""
    pictures = ROOT / "docs/pictures"
    subprocess.run([sys.executable, pictures / "draw.py", tmp_path], check=True)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_text() for path in pictures.glob("*.svg")}


def test_layers_of_the_core() -> None:
    """ARCHITECTURE.md shows the rooms as the tidy test keeps them, the highest first."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert len(text.splitlines()) < 200
    core = text.split("### dynamo_core\n")[1].split("\n### ")[0]
    shown = re.findall(r"^\| `(\w+)` \| (.*?) \|", core, re.M)
    assert shown[::-1] == LAYERS


def test_every_module_has_its_place_in_the_architecture() -> None:
    """In a table of its package; and every test named there is."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = {name for line in re.findall(r"^\| .*\|$", text, re.M) for name in _quoted(line)}
    packages = (
        *("node/src/dynamo_core", "node/src/dynamo_node"),
        *("client/src/dynamo_client", "client/src/dynamoctl", "operator/src/dynamo_operator"),
        "node/src/dynamo_archive",
    )
    modules = {
        path.stem
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if "testing" not in path.parts
    }
    assert modules - named == {"__init__"}
    tests = {path.name for path in ROOT.glob("tests/**/*.py")}
    assert set(re.findall(r"\btest_\w+\.py", text)) <= tests


def _quoted(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)
