"""docs/rules.md defines every cited rule and claim, and the tests that it names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/rules.md"
FOLDERS = ("node", "client", "operator", "tests", "benchmarks", "docs", "charts", "manifests")
TESTING = ("tests/", "node/src/dynamo_core/testing/", "benchmarks/")
TESTS = {
    "mutant": "tests/simulation/*.py",
    "ladder": "tests/simulation/*ladders.py",
    "mix": "node/src/dynamo_core/testing/*.py",
    "counter": "node/src/dynamo_core/testing/*.py",
}
"""Where the tests of a kind have their names; seeds are files, stories are functions."""
STORIES = "benchmarks/stories.py"
CITED = re.compile(r"\b(S-[A-Z]+|T)-(\d+)((?:\.\.\d+|, \d+\b(?!%))*)|(?<![\w%])(C)(\d{1,2})\b")
NAMED = re.compile(r"\b(mutant|ladder|mix|counter|seed|story)(?:e?s)?((?:,? \"[^\"]+\")+)")
DOCUMENT = re.compile(r"(?<![\w{}*./-])((?:[\w.-]+/)*[\w-]+\.md)\b")
HARD = re.compile(
    r"\b(?:[Ww](?:ho|hom|hich)ever|[Nn]obody|so long|[Aa]mid(?:st)?|midst|of its own(?! \w))\b"
)
READ = ("node/src/", "client/src/", "operator/src/", "charts/", "manifests/")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
NO_PAGES = {"artist.md"}
"""Keys, and files that a program would write, in examples."""


def texts() -> dict[str, str]:
    """What people wrote, by its path; aside are this page, this test, and the program that names
    pages of the site that it makes."""
    paths = [*ROOT.glob("*.md")]
    for folder in FOLDERS:
        for kind in ("py", "md", "yaml", "toml"):
            paths += (ROOT / folder).rglob(f"*.{kind}")
    names = {str(path.relative_to(ROOT)): path for path in paths}
    own = {"docs/rules.md", "tests/docs/test_rules.py", "docs/site_pages.py"}
    return {name: path.read_text() for name, path in sorted(names.items()) if name not in own}


TEXTS = texts()


def cited(text: str) -> set[str]:
    """Rules and claims; "S-MOVE-1..3" is three of them, and so is "S-MOVE-1, 2, 3"."""
    found: set[str] = set()
    for kind, first, more, claim, number in CITED.findall(text):
        if claim:
            found.add(claim + number)
            continue
        last = int(first)
        found.add(f"{kind}-{last}")
        for sign, end in re.findall(r"(\.\.|, )(\d+)", more):
            numbers = range(last + 1, int(end) + 1) if sign == ".." else [int(end)]
            found |= {f"{kind}-{n}" for n in numbers}
            last = int(end)
    return found


def entries() -> Iterator[tuple[str, str]]:
    """Name and words of each rule, on one line."""
    for paragraph in PAGE.read_text().split("\n\n"):
        if start := re.match(r"\*\*([SCT]-?[A-Z0-9-]+)\. ", paragraph):
            yield start[1], " ".join(paragraph.split())


ENTRIES = dict(entries())


def test_a_list_or_a_range_of_rules_is_read_as_its_rules() -> None:
    assert cited("(S-DEL-2, 3, S-MOVE-1..3, T-2), %C3 and C4") == {
        *("S-DEL-2", "S-DEL-3", "S-MOVE-1", "S-MOVE-2", "S-MOVE-3", "T-2", "C4"),
    }


def test_every_rule_has_one_entry() -> None:
    names = [name for name, _ in entries()]
    assert len(names) == len(set(names))


def test_what_is_cited_is_defined() -> None:
    missing = {name: cited(text) - set(ENTRIES) for name, text in TEXTS.items()}
    assert {name: rules for name, rules in missing.items() if rules} == {}


def test_the_page_cites_what_it_defines() -> None:
    assert cited(PAGE.read_text()) <= set(ENTRIES)


@pytest.mark.parametrize("rule", ENTRIES)
def test_a_rule_is_cited_by_a_test_or_says_why_not(rule: str) -> None:
    """Either by its name, or by a claim that the simulator checks, or the entry says so."""
    _, separator, tests = ENTRIES[rule].partition("*Tested by:* ")
    assert separator and tests
    by_name = any(rule in cited(text) for at, text in TEXTS.items() if at.startswith(TESTING))
    if by_name:
        assert "not cite the" not in tests, "a test cites it now"
    else:
        assert "not cite the" in tests or re.search(r"claims? C\d", tests)


@pytest.mark.parametrize("rule", ENTRIES)
def test_what_an_entry_names_exists(rule: str) -> None:
    _, _, tests = ENTRIES[rule].partition("*Tested by:* ")
    files = re.findall(r"`([\w/]+\.py)`", tests)
    known = {name.rpartition("/")[2] for name in TEXTS} | set(TEXTS) | {Path(__file__).name}
    assert set(files) <= known
    named = [(kind, name) for kind, row in NAMED.findall(tests) for name in _names(row)]
    assert len(named) == len(_names(tests)), "a name without its kind"
    for kind, name in named:
        assert stands(kind, name), f"no {kind} {name!r}"
    assert files or named or cited(tests)


def _names(text: str) -> list[str]:
    return re.findall(r"\"([^\"]+)\"", text)


def stands(kind: str, name: str) -> bool:
    """Whether there is a test of that kind and name."""
    if kind == "seed":
        return (ROOT / f"tests/simulation/seeds/{name}.json").exists()
    if kind == "story":
        return f"def {name}(" in TEXTS[STORIES]
    return any(f'"{name}"' in path.read_text() for path in ROOT.glob(TESTS[kind]))


def test_no_document_is_cited_that_is_not_here() -> None:
    everything = {**TEXTS, "docs/rules.md": PAGE.read_text()}
    pages = {name for name in everything if name.endswith(".md")}
    known = pages | {page.rpartition("/")[2] for page in pages} | NO_PAGES
    missing = {
        name: gone
        for name, text in everything.items()
        if (gone := [at for at in DOCUMENT.findall(text) if not _leads(name, at, known)])
    }
    assert missing == {}


def _leads(name: str, document: str, known: set[str]) -> bool:
    return document in known or ((ROOT / name).parent / document).exists()


def test_no_section_of_a_document_that_is_not_here() -> None:
    assert [name for name, text in TEXTS.items() if "§" in text] == []


def test_plain_words() -> None:
    """No hard words in pages, product code and charts; examples to type may have them."""
    everything = {**TEXTS, "docs/rules.md": PAGE.read_text()}
    found = {
        name: words
        for name, text in everything.items()
        if name.endswith(".md") or name.startswith(READ)
        if (words := HARD.findall(FENCE.sub("", text)))
    }
    assert found == {}
