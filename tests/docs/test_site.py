"""The site of the pages, as `make docs` builds it: nothing in it comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD_S_MAX = 300
FETCHED = re.compile(
    r'<(?:script|img|iframe|source|video)\b[^>]*\bsrc="(?:https?:)?//'
    r'|<link\b[^>]*\brel="(?:stylesheet|preconnect|preload|icon)"[^>]*\bhref="(?:https?:)?//'
    r'|<link\b[^>]*\bhref="(?:https?:)?//[^"]*"[^>]*\brel="(?:stylesheet|preconnect|preload|icon)"'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    words = ["build", "--strict", "--site-dir", str(place)]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_S_MAX,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place


def test_every_page_is_in_the_site_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    for path in (ROOT / "docs").rglob("*.md"):
        name = path.relative_to(ROOT / "docs").with_suffix("")
        assert (name.with_name("index") if name.name == "README" else name) in pages
    for path in site.rglob("*.html"):
        assert FETCHED.search(path.read_text()) is None, path
    assert "fonts.googleapis" not in (site / "index.html").read_text()


def test_pages_of_the_root_lead_to_pages_of_the_site(site: Path) -> None:
    start = (site / "index.html").read_text()
    assert 'href="ten-pictures.html"' in start and 'src="pictures/ring.svg"' in start
    assert 'href="architecture.html"' in start


def test_there_are_ten_pictures() -> None:
    page = (ROOT / "docs/ten-pictures.md").read_text()
    numbers = re.findall(r"^## (\d+)\. ", page, re.M)
    assert numbers == [str(index) for index in range(1, 11)]
    for part in re.split(r"^## ", page, flags=re.M)[1:]:
        assert re.findall(r"^!\[", part, re.M), part[:40]
