"""What a node does with archives for an administrator, over its admin listener: the newest backup,
values written again, deletions that come twice, and refusals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.dynamoctl.filled_rings import EXPIRES, KEYS, Place, whole

WAIT_S = 60.0
ASK_S = 30.0


class Asked:
    """The first node of a ring, as an administrator asks it."""

    def __init__(self, place: Place, archive: str) -> None:
        token = place.ring.token
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.admin, self.archive = place.nodes[0].admin, archive

    def post(self, path: str, **body: Any) -> httpx.Response:
        """A request about this archive."""
        asked = {"archive": self.archive} | body
        return httpx.post(f"{self.admin}{path}", json=asked, headers=self.headers, timeout=ASK_S)

    def done(self, path: str, **body: Any) -> dict[str, Any]:
        """Asks, and again until it has ended. Raises AssertionError."""
        until = time.monotonic() + WAIT_S
        while True:
            answer = self.post(path, **body)
            assert answer.status_code == 202, answer.text
            if answer.json()["state"] == "done":
                url = f"{self.admin}{path}/{body['id']}"
                found = httpx.get(url, headers=self.headers, timeout=ASK_S)
                return dict(found.json() if found.status_code == 200 else answer.json())
            assert time.monotonic() < until, answer.text


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Two nodes with keys."""
    made = Place(tmp_path / "ring", 2, 16)
    try:
        made.fill()
        yield made
    finally:
        made.ring.stop()


def test_values_are_written_again_once_and_old_backups_are_deleted(
    place: Place, tmp_path: Path
) -> None:
    ask = Asked(place, (tmp_path / "archive").as_uri())
    assert ask.post("/v1/restores", id="early").status_code == 503
    first = ask.done("/v1/backups", id="first")
    assert first["records"] == len(KEYS) + 1
    with place.client() as client:
        client.update(KEYS[0], lambda values: b"mistaken")
        client.delete(KEYS[1])
    past = {"backup": "first", "into_past": True}
    again = ask.done("/v1/restores", id="past", **past)
    assert (again["records"], again["skipped"]) == (2, len(KEYS) - 1)
    assert again["parts_done"] == again["parts_total"] > 0
    assert place.values() == whole()
    with place.client() as client:
        assert client.get("session").values[0].expires_at == EXPIRES
        client.update(KEYS[0], lambda values: b"since then")
    place.nodes[0].kill()
    place.nodes[0].start(*place.ring.flags)
    Waited(place).until_ready()
    ask.done("/v1/restores", id="past", **past)  # by its mark: a request that comes late
    assert place.values([KEYS[0]]) == {KEYS[0]: [b"since then"]}
    second = ask.done("/v1/backups", id="second", base="first")
    assert second["new_bytes"] < second["stored_bytes"]
    newest = ask.done("/v1/restores", id="merge")
    assert newest["backup"] == "second"
    gone = ask.done("/v1/deletions", id="tidy", backups=["first", "never"])
    assert gone["parts"] > 0
    assert ask.done("/v1/deletions", id="again", backups=["first"])["parts"] == 0
    ask.done("/v1/restores", id="after", backup="second")


class Waited:
    """Until a started node is a member again."""

    def __init__(self, place: Place) -> None:
        self.admin = place.nodes[0].admin

    def until_ready(self) -> None:
        """Raises AssertionError."""
        until = time.monotonic() + WAIT_S
        while True:
            try:
                if httpx.get(f"{self.admin}/readyz", timeout=5.0).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            assert time.monotonic() < until


def test_what_a_node_refuses_names_the_field(place: Place, tmp_path: Path) -> None:
    ask = Asked(place, (tmp_path / "elsewhere").as_uri())
    for path, body in (
        ("/v1/deletions", {"backups": ["one"]}),
        ("/v1/restores", {"into_past": True, "backup": "one"}),
        ("/v1/restores", {}),
    ):
        answer = ask.post(path, id="x", **body)
        assert answer.status_code == 400 and "archive: " in answer.json()["detail"], answer.text
    assert ask.post("/v1/deletions", id="x", backups=[]).status_code == 400
