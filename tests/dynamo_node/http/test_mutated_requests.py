"""Mutated requests by seed, against both fronts of the client listener and the admin listener.

No answer is 5xx except 503; the answers have the order of the requests, and a completed put has its
own answer (T-6); both fronts answer alike; each node goes on and logs no error.
"""

from __future__ import annotations

import base64
import re
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx
import pytest

from tests.dynamo_node.http.client_listener import TOKEN
from tests.dynamo_node.http.mutated_requests import Case, admin_case, client_case

CHILD = Path(__file__).parent / "children" / "guarded_listener.py"
SEED = 12
CASES = 4000
"""About five requests each."""
AT_ONCE = 400
DEADLINE_S = 120.0
STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) [A-Z]")


@contextmanager
def listening(front: str, log: Path) -> Iterator[int]:
    """The port of a listener in a separate process, which must end well."""
    with log.open("w") as errors:
        child = subprocess.Popen(
            [sys.executable, str(CHILD), front],
            text=True,
            stderr=errors,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    assert child.stdin is not None and child.stdout is not None
    try:
        yield int(child.stdout.readline())
        assert child.poll() is None, "it died"
        child.stdin.close()
        assert child.wait(DEADLINE_S) == 0
    finally:
        child.kill()
        child.wait(DEADLINE_S)
        child.stdin.close()
        child.stdout.close()
    faults = [line for line in log.read_text().splitlines() if '"level": "error"' in line]
    assert faults == []


class Talk:
    """One connection: says its bytes in one or two pieces and hears until the listener closes."""

    def __init__(self, port: int, case: Case, cut: int) -> None:
        self.heard = b""
        self._pieces = [piece for piece in (case.data[:cut], case.data[cut:]) if piece]
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))

    def go_on(self, events: int, selector: selectors.BaseSelector) -> bool:
        """Says or hears what can be now; False at the end."""
        try:
            if events & selectors.EVENT_WRITE:
                sent = self.socket.send(self._pieces[0])
                self._pieces[0] = self._pieces[0][sent:]
                if not self._pieces[0]:
                    del self._pieces[0]
                if not self._pieces:
                    selector.modify(self.socket, selectors.EVENT_READ, self)
            if events & selectors.EVENT_READ:
                piece = self.socket.recv(1 << 16)
                self.heard += piece
                return bool(piece)
        except OSError:  # it is closed with bytes of ours unread
            if self._pieces:
                self._pieces.clear()
                selector.modify(self.socket, selectors.EVENT_READ, self)
                return True
            return False
        return True


def tell(port: int, cases: Sequence[Case], seed: int) -> list[list[int]]:
    """The statuses that each case is answered with; interim ones left out."""
    random = Random(seed)
    selector = selectors.DefaultSelector()
    talks: list[Talk] = []
    under_way = 0
    until = time.monotonic() + DEADLINE_S
    while under_way or len(talks) < len(cases):
        assert time.monotonic() < until, f"{under_way} connections are not ended"
        while under_way < AT_ONCE and len(talks) < len(cases):
            case = cases[len(talks)]
            cut = random.randrange(len(case.data)) if random.random() < 0.2 else 0
            talks.append(Talk(port, case, cut))
            selector.register(
                talks[-1].socket, selectors.EVENT_READ | selectors.EVENT_WRITE, talks[-1]
            )
            under_way += 1
        for key, events in selector.select(1.0):
            talk = key.data
            if not talk.go_on(events, selector):
                selector.unregister(talk.socket)
                talk.socket.close()
                under_way -= 1
    selector.close()
    found = ([int(status) for status in STATUS.findall(talk.heard)] for talk in talks)
    return [[status for status in statuses if status != 100] for statuses in found]


def check_answers(case: Case, said: list[int]) -> None:
    """What holds for the answers to one connection."""
    assert [status for status in said if status >= 500 and status != 503] == [], case.data
    assert said[: len(case.first)] == case.first, case.data
    assert len(said) > len(case.first), ("neither answered nor refused", case.data)


def done(port: int, cases: Sequence[Case]) -> set[bytes]:
    """The whole puts that were done."""
    keys = [key for case in cases for key in case.puts]
    found = set()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as client:
        for at in range(0, len(keys), 100):
            some = keys[at : at + 100]
            asked = [{"op": "get", "key": base64.b64encode(key).decode()} for key in some]
            answer = client.post("/v1/batch", json={"operations": asked})
            assert answer.status_code == 200, answer.text
            for key, result in zip(some, answer.json()["results"], strict=True):
                assert result["status"] in (200, 404), result
                if result["status"] == 200:
                    found.add(key)
    return found


@pytest.mark.parametrize("seed", [SEED])
def test_both_fronts_answer_mutated_requests_in_order_and_alike(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    cases = [client_case(random, index) for index in range(CASES)]
    heard = {}
    for front in ("protocol", "asgi"):
        with listening(front, tmp_path / front) as port:
            heard[front] = tell(port, cases, seed)
            were_done = done(port, cases)
        for case, said in zip(cases, heard[front], strict=True):
            check_answers(case, said)
            puts = [key for key in case.puts if key in were_done]
            assert said.count(204) >= len(puts), ("a put was done in silence", said, case.data)
    for case, one, other in zip(cases, heard["protocol"], heard["asgi"], strict=True):
        assert one == other, case.data


def test_the_admin_listener_answers_mutated_requests(tmp_path: Path) -> None:
    random = Random(SEED)
    cases = [admin_case(random, TOKEN) for _ in range(CASES)]
    with listening("admin", tmp_path / "admin") as port:
        for case, said in zip(cases, tell(port, cases, SEED), strict=True):
            check_answers(case, said)
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
