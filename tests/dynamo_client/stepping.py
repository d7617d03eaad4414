"""Drives the client's steps without sockets, on a clock that only pauses move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dynamo_client.attempts import Attempts
from dynamo_client.operations import Operations
from dynamo_client.routing import Routes
from dynamo_client.steps import Ask, Failure, Pause, Reply, Steps, T

PROBLEMS = "https://dynamo-ring.dev/problems/"
REFUSED = Failure(False, "refused")
LOST = Failure(True, "reset")
NAMES = ("a", "b", "c", "d")
Server = Callable[[Ask], Reply | Failure]


class World:
    """A client of `endpoints`, the clock, and what it asked and waited for."""

    def __init__(
        self,
        *endpoints: str,
        routing: bool = False,
        attempts_max: int = 5,
        deadline_s: float = 60.0,
    ) -> None:
        self.now = 1000.0
        self.asked: list[Ask] = []
        self.pauses: list[float] = []
        self.routes = Routes(endpoints or ("http://e1", "http://e2"), routing, lambda: self.now)
        self.attempts = Attempts(self.routes, attempts_max, lambda: 0.5, 2.0)
        self.client = Operations(self.attempts, deadline_s)

    def run(self, steps: Steps[T], *script: Reply | Failure | Server) -> T:
        """Answers in turn, the last one for ever; a function answers by what is asked."""
        answers = list(script)
        heard: Reply | Failure | None = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if isinstance(step, Pause):
                self.now += step.seconds
                self.pauses.append(step.seconds)
                heard = None
                continue
            self.asked.append(step)
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            heard = answer if isinstance(answer, Reply | Failure) else answer(step)

    @property
    def hosts(self) -> list[str]:
        """Who was asked, in order."""
        return [ask.url.split("/")[2] for ask in self.asked]


def stored(node: str = "a") -> Reply:
    acks = "total=2 owners=1 hinted=1 durable=1"
    headers = {"dynamo-node": node, "dynamo-context": "ctx", "dynamo-acks": acks}
    return Reply(204, headers, b"")


def record(*values: bytes, node: str = "a", context: str = "ctx", key: bytes = b"k") -> Reply:
    shown = [{"data": v, "content_type": "t/p", "dot": str(at)} for at, v in enumerate(values)]
    body = msgspec.json.encode({"key": key, "context": context, "values": shown})
    return Reply(200, {"dynamo-node": node}, body)


def absent(node: str = "a") -> Reply:
    return refused(404, "not-found", {"dynamo-node": node})


def refused(status: int, slug: str, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    body = {"type": PROBLEMS + slug, "status": status, "detail": f"field: {slug}", **more}
    return Reply(status, headers or {}, msgspec.json.encode(body))


def ring(owners: tuple[str, ...] = ("b", "c", "d"), epoch: int = 1) -> Reply:
    """A ring of four where every partition has the same owners."""
    document = {
        "cluster_id": "x", "epoch": epoch, "digest": "", "partitions": 16, "n": 3,
        "r": 2, "w": 2, "dw": 1, "conflicts": "Siblings", "target": None,
        "members": [
            {"name": name, "id": f"{at:016x}", "incarnation": 1, "address": f"{name}:3",
             "client": f"{name}:1", "zone": "", "weight": 1, "state": "MEMBER"}
            for at, name in enumerate(NAMES)
        ],
        "entries": [
            {"owners": list(owners), "move": None, "old": None, "term": 0, "version": 0}
        ] * 16,
    }  # fmt: skip
    return Reply(200, {"etag": f'"{epoch}"'}, msgspec.json.encode(document))
