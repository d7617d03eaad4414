"""Clients of real nodes that record what they were told, and the record for the checker."""

from __future__ import annotations

import asyncio
import random
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec
from benchmarks.cluster import Cluster

from dynamo_core.testing.checker import Violation, check
from dynamo_core.testing.history import Attempt, Damage, Event, Setting, save

TIMEOUT_MS = 4000
CLIENTS = 6
MEANINGS = {"C1": "lost", "C2": "invented", "C14": "invented", "C3": "resurrected"}
"""People's words for the violation of a claim; other claims keep their names."""
Kind = Literal["get", "put", "delete"]


class Record:
    """What clients saw of some keys, what disks lost meanwhile, and the steps of the story."""

    def __init__(self, keys: Sequence[bytes], n: int = 3) -> None:
        self.keys = list(keys)
        self.apart: list[bytes] = []
        """Keys of the story itself, which the clients do not touch."""
        self.events: list[Event] = [Setting(n=n)]
        self.steps: list[tuple[float, str]] = []
        """The steps, in seconds of the monotonic clock."""
        self._losses: list[tuple[str, float, float, bool]] = []

    def say(self, sentence: str) -> None:
        """Adds a step of the story, now."""
        self.steps.append((time.monotonic(), sentence))

    def lost(self, name: str, since: float = 0.0, silent: bool = False) -> None:
        """The disk of `name` lost now what was written since then. Each put may have had a copy
        there (C7: W-1 disks may be lost)."""
        self._losses.append((name, since, time.monotonic(), silent))

    def all_keys(self) -> list[bytes]:
        """All keys of the final reads."""
        return self.keys + self.apart

    def attempts(self) -> list[Attempt]:
        """All operations."""
        return [event for event in self.events if isinstance(event, Attempt)]

    def met(self) -> Counter[tuple[str, str]]:
        """The number of operations by kind and outcome."""
        return Counter((attempt.kind, attempt.outcome) for attempt in self.attempts())

    def history(self) -> list[Event]:
        """For the checker."""
        damage = [
            Damage(attempt.value, name, silent)
            for name, since, until, silent in self._losses
            for attempt in self.attempts()
            if attempt.kind != "get" and attempt.began < until and attempt.ended > since
        ]
        return [*self.events, *damage]

    def verdict(self) -> list[Violation]:
        """The violations; empty if there are none."""
        return check(self.history())

    def save(self, place: Path, wrong: Iterable[Violation]) -> None:
        """Saves the history, and the ladder of the wrong keys: steps and operations in order."""
        place.mkdir(parents=True, exist_ok=True)
        save(place / "history.jsonl", self.history())
        wrong = list(wrong)
        about = {violation.key for violation in wrong}
        rungs = [(at, f"-- {sentence}") for at, sentence in self.steps]
        rungs += [(a.began, rung(a)) for a in self.attempts() if a.key in about]
        lines = [f"{violation.claim} {violation.key!r} {violation.detail}" for violation in wrong]
        lines += [f"{at:12.3f} {words}" for at, words in sorted(rungs)]
        (place / "ladder.txt").write_text("\n".join(lines) + "\n")


def rung(attempt: Attempt) -> str:
    """One operation as a line of a ladder."""
    words = [attempt.node, attempt.kind, attempt.key.decode()]
    if attempt.kind != "get":
        words += [f"v{attempt.value} over {attempt.covered} w={attempt.w}"]
    else:
        words += [f"r={attempt.r}", *(data.split()[0].decode() for data in attempt.shown)]
    words += ["strict"] * attempt.strict + ["final"] * attempt.final
    took = f"{attempt.ended - attempt.began:.3f} s"
    return " ".join([*words, f"-> {attempt.status} {attempt.outcome} {attempt.problem}", took])


class Witness:
    """Reads, writes and deletes at random, one operation after another."""

    def __init__(
        self,
        number: int,
        cluster: Cluster,
        record: Record,
        seed: int,
        *,
        timeout_ms: int = TIMEOUT_MS,
        rest_s: float = 0.0,
    ) -> None:
        self.random = random.Random(seed * 100 + number)
        self.cluster = cluster
        self.record = record
        self.next_value = 1 + number
        self.timeout_ms = timeout_ms
        self.rest_s = rest_s
        """Pause between two operations, which limits the load."""
        self.contexts: dict[bytes, tuple[str, list[int]]] = {}

    async def run(self, stop: asyncio.Event, open_: asyncio.Event | None = None) -> None:
        """Runs until it is told to stop; pauses while `open_` is not set."""
        async with self.http() as http:
            while not stop.is_set():
                if open_ is not None:
                    await open_.wait()
                kind = self.random.choices(["get", "put", "delete"], [4, 5, 1])[0]
                key = self.random.choice(self.record.keys)
                known = self.random.random() < 0.8
                await self.operation(http, kind, key, known)  # type: ignore[arg-type]
                await asyncio.sleep(self.rest_s)

    def http(self) -> httpx.AsyncClient:
        """Connections whose timeout is a little longer than a node's."""
        return httpx.AsyncClient(timeout=self.timeout_ms / 1000 + 1)

    async def operation(
        self, http: httpx.AsyncClient, kind: Kind, key: bytes, known: bool = True, w: int = 0
    ) -> Attempt:
        """One operation, repeated elsewhere if its outcome is unknown. `known`: with this client's
        context of the key."""
        text, covered = "", list[int]()
        if kind != "get" and known and key in self.contexts:
            text, covered = self.contexts[key]
        attempt = Attempt(
            kind=kind,
            key=key,
            covered=covered,
            known=kind != "delete" or bool(text),
            r=self.random.choice([1, 2, 2, 3]),
            w=w or self.random.choice([1, 2, 2, 3]),
            strict=self.random.random() < 0.2,
        )
        if kind != "get":
            attempt.value = self.next_value
            self.next_value += CLIENTS + 1
            attempt.sent = b"v%d " % attempt.value * 9 if kind == "put" else b""
        headers = {"Dynamo-Request-Id": f"v{attempt.value}"} if kind != "get" else {}
        if text:
            headers["Dynamo-Context"] = text
        for _ in range(2):
            node = self.random.choice(self.cluster.asked)
            attempt = msgspec.structs.replace(attempt, node=node, status=0, problem="", shown=[])
            await self.attempt(http, attempt, headers)
            if attempt.outcome != "unknown":
                break
        return attempt

    async def attempt(
        self, http: httpx.AsyncClient, attempt: Attempt, headers: dict[str, str]
    ) -> httpx.Response | None:
        """One request, recorded."""
        node = self.cluster.nodes[attempt.node]
        url = f"{node.endpoint}/v1/kv/{attempt.key.decode()}?timeout_ms={self.timeout_ms}"
        url += f"&strict={str(attempt.strict).lower()}"
        url += f"&r={attempt.r}" if attempt.kind == "get" else f"&w={attempt.w}"
        answer = None
        attempt.began = time.monotonic()
        try:
            answer = await http.request(
                attempt.kind.upper(),
                url,
                headers={**headers, "Accept": "application/json"},
                content=attempt.sent or None,
            )
        except httpx.HTTPError as error:
            attempt.outcome, attempt.ended = "unknown", time.monotonic()
            attempt.problem = type(error).__name__
        else:
            attempt.ended = time.monotonic()
            self._answered(attempt, answer)
        well = self.cluster.troubled.get(attempt.node, 0.0) < attempt.began
        easy = attempt.kind == "put" and attempt.w == 1 and not attempt.strict
        attempt.due = attempt.final or (well and easy and attempt.status != 409)  # C8
        self.record.events.append(attempt)
        return answer

    def _answered(self, attempt: Attempt, answer: httpx.Response) -> None:
        attempt.status = answer.status_code
        if answer.status_code >= 400 and answer.content:
            attempt.problem = answer.json()["type"].rpartition("/")[2]
        absent = attempt.kind == "get" and answer.status_code == 404
        if answer.status_code < 300 or absent:
            attempt.outcome = "ok"
        elif answer.headers.get("dynamo-applied") == "unknown":
            attempt.outcome = "unknown"
        else:
            attempt.outcome = "fail"
        if attempt.outcome != "ok":
            return
        context = answer.headers.get("dynamo-context", "")
        if attempt.kind == "get":
            values: list[dict[str, Any]] = (
                answer.json()["values"] if answer.status_code == 200 else []
            )
            attempt.shown = [b64decode(value["data"]) for value in values]
            covered = [int(data.split()[0][1:]) for data in attempt.shown]
        else:
            covered = [*attempt.covered, attempt.value]
        if context:
            self.contexts[attempt.key] = (context, covered)


async def look(cluster: Cluster, record: Record, names: Sequence[str] = ()) -> None:
    """The final look: every key through every node."""
    witness = Witness(CLIENTS, cluster, record, 0, timeout_ms=30_000)
    async with witness.http() as http:
        for key in record.all_keys():
            for name in names or cluster.asked:
                await witness.attempt(http, Attempt(kind="get", key=key, node=name, final=True), {})
