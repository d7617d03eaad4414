"""What PyPI is told of the package: every link and picture of its readme has a whole address."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from hatchling.builders.wheel import WheelBuilder
from trove_classifiers import classifiers

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_readme_of_the_package_shows_away_from_the_repository() -> None:
    page = WheelBuilder(str(ROOT)).metadata.core.readme
    at_version = f"/v{PROJECT['version']}/"
    source = PROJECT["urls"]["Source"]
    pages = f"{source}/blob{at_version}"
    pictures = source.replace("github.com", "raw.githubusercontent.com") + at_version
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", page)
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text()))
    for mark, address in links:
        assert address.startswith("https://"), address
        own = pictures if mark else pages
        assert source not in address or address.startswith(own), address
        if address.startswith(own):
            assert (ROOT / address.removeprefix(own).split("#")[0]).exists(), address
    assert any(mark for mark, _ in links)


def test_indexes_know_the_words_of_the_package() -> None:
    assert set(PROJECT["classifiers"]) <= classifiers
    assert PROJECT["classifiers"] == sorted(PROJECT["classifiers"])
    assert PROJECT["license"] == "Apache-2.0" and PROJECT["keywords"]
    assert {"Homepage", "Source", "Issues", "Documentation", "Changelog"} == set(PROJECT["urls"])


def test_the_changelog_has_one_form() -> None:
    """`Not there yet` is of the first release alone."""
    page = (ROOT / "CHANGELOG.md").read_text()
    order = ["Safety", "Added", "Changed", "Fixed", "Not there yet"]
    first, *releases = re.split(r"^## ", page, flags=re.M)[1:]
    assert first.startswith("Unreleased\n")
    assert releases[0].startswith(f"{PROJECT['version']}\n")
    for release in (first, *releases):
        parts = re.findall(r"^### (.*)$", release, re.M)
        assert parts == sorted(parts, key=order.index)


def test_forms_and_the_workflow_are_what_github_reads() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            assert form["name"] and form["description"]
            fields = [part for part in form["body"] if part["type"] != "markdown"]
            assert len({part["id"] for part in fields}) == len(fields) > 0
            assert all(part["attributes"]["label"] for part in fields)
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["run"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]
