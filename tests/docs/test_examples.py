"""The commands of the pages, run word for word as a reader pastes them, against real nodes.

A page is one story: its `console`, `sh` and `python` blocks run in order, in one shell. Their
output is compared with the page by two rules. "…" stands for any text within a line, and for any
number of lines if it is alone on a line. A line of JSON is compared as data, a list of siblings in
any order, because siblings have the order of their random dots. A command must exit with 0, unless
the page shows the error line of `dynamoctl`. Only the ports differ, so that a running ring on this
machine is not touched. A second ring runs beside the ring of the pages, and no command of a page
may touch it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.docs.conftest import Other, Room, wait_until_synced

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md", "docs/ten-pictures.md", "docs/http-api.md", "docs/causality.md", "docs/client.md",
    "docs/operations.md",
)  # fmt: skip
NOT_HERE = {
    "make": "`make up` is what the fixture plays; the others run for minutes, or need docker",
    "docker": "builds an image",
    "helm": "needs a cluster",
    "kubectl": "needs a cluster",
    "pip": "the dev group has the packages, and no test asks a registry",
    "dynamo-node": "its flags name machines and files of the reader",
}
"""Commands of the pages that do not run here, by their first word, with the reason."""
STORY_S_MAX = 300
MARK = "---- end of step"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


class Step(NamedTuple):
    """One command or program, its place, and its output in the page."""

    line: int
    script: str
    expected: str


def steps_of(text: str) -> list[Step]:
    """The steps of a page, in order."""
    steps: list[Step] = []
    of_python = False
    for block in FENCE.finditer(text):
        kind, body = block.groups()
        line = text.count("\n", 0, block.start()) + 1
        if kind == "console":
            steps += _commands(body, line)
        elif kind == "sh":
            lines = body.replace("\\\n", "").splitlines()
            steps += [Step(line + at, command, "…") for at, command in enumerate(lines, 1)]
        elif kind == "python":
            steps.append(Step(line, f"{sys.executable} - <<'PYTHON'\n{body}PYTHON", ""))
        elif kind == "text" and of_python:
            steps[-1] = steps[-1]._replace(expected=body.rstrip("\n"))
        of_python = kind == "python"
    return steps


def _commands(body: str, first: int) -> Iterator[Step]:
    """`$ ` begins a command, a backslash at its end continues it, the rest is what it prints."""
    lines = body.splitlines()
    at = 0
    while at < len(lines):
        assert lines[at].startswith("$ "), f"line {first + 1 + at}: a command begins with $"
        begin, command = at, [lines[at][2:]]
        while command[-1].endswith("\\"):
            at += 1
            command.append(lines[at])
        at += 1
        said = at
        while at < len(lines) and not lines[at].startswith("$ "):
            at += 1
        yield Step(first + 1 + begin, "\n".join(command), "\n".join(lines[said:at]))


def matches(expected: str, got: str) -> bool:
    """Whether the output is what the page shows."""
    return _lines_match(expected.splitlines(), [line.rstrip() for line in got.splitlines()])


def _lines_match(expected: list[str], got: list[str]) -> bool:
    if not expected:
        return not got
    if expected[0] == "…":
        return any(_lines_match(expected[1:], got[at:]) for at in range(len(got) + 1))
    return bool(got) and _line_matches(expected[0], got[0]) and _lines_match(expected[1:], got[1:])


def _line_matches(expected: str, got: str) -> bool:
    if expected[:1] in ("{", "["):
        try:
            return _data_matches(json.loads(expected), json.loads(got))
        except ValueError:
            pass
    return _text_matches(expected, got)


def _text_matches(expected: str, got: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), got) is not None


def _data_matches(expected: Any, got: Any) -> bool:
    if expected == "…":
        return True
    if isinstance(expected, str) and isinstance(got, str):
        return _text_matches(expected, got)
    if isinstance(expected, dict) and isinstance(got, dict):
        if expected.keys() - {"…"} != got.keys() & expected.keys() - {"…"}:
            return False
        if "…" not in expected and expected.keys() != got.keys():
            return False
        return all(_data_matches(value, got[k]) for k, value in expected.items() if k != "…")
    if isinstance(expected, list) and isinstance(got, list):
        return _lists_match(expected, got)
    return bool(expected == got)


def _lists_match(expected: list[Any], got: list[Any]) -> bool:
    more = "…" in expected
    wanted = [item for item in expected if item != "…"]
    if not all(isinstance(item, dict) and "dot" in item for item in wanted):
        got = got[: len(wanted)] if more else got
        return len(wanted) == len(got) and all(map(_data_matches, wanted, got))
    left = list(got)
    for item in wanted:
        same = next((other for other in left if _data_matches(item, other)), None)
        if same is None:
            return False
        left.remove(same)
    return more or not left


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """PATH for a page's shell: this environment's commands first, and a curl where none is."""
    places = [str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]
    if shutil.which("curl") is None:
        (tmp_path / "curl").write_text(
            f'#!/bin/sh\nexec {sys.executable} {Path(__file__).parent / "curl.py"} "$@"\n'
        )
        (tmp_path / "curl").chmod(0o755)
    return os.pathsep.join(places)


def played(page: str) -> list[Step]:
    """The steps of a page except those that do not run here."""
    steps = steps_of((ROOT / page).read_text())
    return [step for step in steps if step.script.split()[0] not in NOT_HERE]


def printed(steps: list[Step], path: str, room: Room) -> list[tuple[str, int]]:
    """The output of each step, both streams together, with the page's addresses; and its exit."""
    script = "".join(f"{step.script}\nprintf '\\n{MARK} %s\\n' $?\n" for step in steps)
    for page, real in room.addresses.items():
        script = script.replace(page, real)
    clean = {name: text for name, text in os.environ.items() if not name.startswith("DYNAMO_")}
    done = subprocess.run(
        ["sh"],
        input=script,
        env={**clean, "PATH": path, "PYTHONWARNINGS": "error"},
        cwd=room.directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=STORY_S_MAX,
        check=False,
    )
    said = done.stdout.replace("\r\n", "\n")
    for page, real in room.addresses.items():
        said = said.replace(real, page)
    parts = re.split(rf"^{MARK} (\d+)\n", said, flags=re.M)
    return [
        (text.strip("\n"), int(code)) for text, code in zip(parts[:-1:2], parts[1::2], strict=True)
    ]


def fails(step: Step) -> bool:
    """Whether the page shows that the command fails."""
    *_, last = ["", *step.expected.splitlines()]
    return last.startswith("dynamoctl: ")


@pytest.mark.parametrize("page", PAGES)
def test_commands_do_what_the_page_says(page: str, room: Room, other: Other, tools: str) -> None:
    steps = played(page)
    assert len(steps) > 5
    wait_until_synced(room)
    before = other.state()
    said = printed(steps, tools, room)
    assert len(said) == len(steps)
    wrong = [
        f"{page}:{step.line}: {step.script}\n--- the page\n{step.expected}\n--- printed\n{got}"
        f"\n--- it ended with {code}"
        for step, (got, code) in zip(steps, said, strict=True)
        if not matches(step.expected, got) or fails(step) is not bool(code)
    ]
    assert not wrong, "\n\n".join(wrong)
    assert other.state() == before, "a command of the page touched another ring"


def test_what_is_not_played_is_on_a_page() -> None:
    steps = [step for page in PAGES for step in steps_of((ROOT / page).read_text())]
    assert {step.script.split()[0] for step in steps} >= NOT_HERE.keys()


def test_what_a_ring_tells_to_paste_acts_on_that_ring(room: Room, other: Other) -> None:
    """In the directory of another ring, too, whose keys stay as they are."""
    keys = other.keys_of(room.admin(1))
    told = re.search(r"^  (export DYNAMO_.*)$", other.said, re.M)
    assert told
    code, said = other.pasted(
        f"{told[1]}\ndynamoctl put pasted here && dynamoctl get pasted", room.directory
    )
    assert code == 0 and said.endswith("here")
    assert b"pasted" in other.state()[1] and other.keys_of(room.admin(1)) == keys
    code, said = other.pasted(f"dynamoctl local kill n1 --dir {other.directory}", room.directory)
    again = re.search(r"; (dynamoctl local start .*) brings it back", said)
    assert code == 0 and again
    code, said = other.pasted(again[1], room.directory)
    assert code == 0 and said.startswith("n1 runs at"), said


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ("milk", "milk", True),
        ("milk", "bread", False),
        ("milk", "milk\nbread", False),
        ("Dynamo-Node: n1\n…", "Dynamo-Node: n1\nETag: x\nDate: y", True),
        ("Dynamo-Context: AV…", "Dynamo-Context: AVda-_", True),
        ("Dynamo-Context: AV…", "Dynamo-Context: BVda-_", False),
        ('{"a":1,"b":"…"}', '{"b": "x", "a": 1}', True),
        ('{"a":1}', '{"a":1,"b":2}', False),
        ('{"a":1,"…":"…"}', '{"a":1,"b":2}', True),
        (
            '[{"data":"a","dot":"…"},{"data":"b","dot":"…"}]',
            '[{"data":"b","dot":"2"},{"data":"a","dot":"1"}]',
            True,
        ),
        ('[{"data":"a","dot":"…"}]', '[{"data":"a","dot":"1"},{"data":"b","dot":"2"}]', False),
        ('["a","b"]', '["b","a"]', False),
        ('["a","…"]', '["a","b","c"]', True),
    ],
)
def test_the_rules_of_comparison(expected: str, got: str, same: bool) -> None:
    assert matches(expected, got) is same
