"""Load and counting, in a pod of the cluster: writes a history and lets the checker judge it.

Runs until the file `stop` exists, and pauses while `pause` exists; then reads everything and prints
one line of JSON. A failure is one that the client library could not hide by a retry.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

from dynamo_client import AsyncDynamoClient, ClientError, Tls
from dynamo_core.testing.checker import check
from dynamo_core.testing.history import OK, Attempt, Event, Setting

STOP, PAUSE = Path("/tmp/stop"), Path("/tmp/pause")
FINAL_S_MAX = 60.0
HOT = 40


class Shopper:
    """One client: reads, and writes with the context that it has."""

    def __init__(self, number: int, load: Load) -> None:
        self.number = number
        self.load = load
        self.random = random.Random(load.options.seed * 100 + number)
        self.contexts: dict[bytes, tuple[str | None, list[int]]] = {}
        self.next_value = 1 + number

    async def run(self) -> None:
        """Runs until the load ends, with its share of the rate in operations a second."""
        pause_s = self.load.options.clients / self.load.options.rate
        while not STOP.exists():
            if PAUSE.exists():
                await asyncio.sleep(0.1)
                continue
            began = time.monotonic()
            key = self.random.choice(self.load.hot)
            if self.random.random() < 0.5:
                await self.put(key)
            else:
                await self.get(key)
            await asyncio.sleep(max(0.0, pause_s - (time.monotonic() - began)))

    async def put(self, key: bytes) -> None:
        """One write under its own id."""
        context, covered = self.contexts.get(key, (None, []))
        value = self.next_value
        self.next_value += self.load.options.clients + 1
        attempt = self._attempt("put", key, value=value, covered=covered, sent=b"v%d " % value * 9)
        try:
            stored = await self.load.client.put(
                key,
                attempt.sent,
                context=context,
                w=self.load.options.w,
                request_id=f"{self.load.run_id}-{value}",
            )
        except ClientError as error:
            self._failed(attempt, error, error.applied)
        else:
            self.contexts[key] = (stored.context, [*covered, value])
            self._ended(attempt, OK)

    async def get(self, key: bytes, final: bool = False) -> bool:
        """One read; whether it was answered."""
        attempt = self._attempt("get", key, final=final)
        try:
            found = await self.load.client.get(key, r=self.load.options.r)
        except ClientError as error:
            self._failed(attempt, error, "fail")
            return False
        attempt.shown = [version.data for version in found.values]
        attempt.status = 200 if found.values else 404
        self.contexts[key] = (found.context, [int(d.split()[0][1:]) for d in attempt.shown])
        self._ended(attempt, OK)
        return True

    def _attempt(self, kind: Literal["put", "get"], key: bytes, **more: Any) -> Attempt:
        options = self.load.options
        return Attempt(
            kind=kind,
            key=key,
            node=options.endpoint,
            r=options.r,
            w=options.w,
            began=time.monotonic(),
            **more,
        )

    def _failed(self, attempt: Attempt, error: ClientError, applied: str) -> None:
        attempt.problem, attempt.status = error.slug, error.status
        self._ended(attempt, "unknown" if applied == "unknown" else "fail")
        if not attempt.final:
            self.load.errors[f"{attempt.kind} {type(error).__name__}: {error}"[:160]] += 1

    def _ended(self, attempt: Attempt, outcome: Literal["ok", "fail", "unknown"]) -> None:
        attempt.outcome, attempt.ended = outcome, time.monotonic()
        self.load.events.append(attempt)
        if not attempt.final:
            self.load.met[f"{attempt.kind} {outcome}"] += 1
            self.load.took.append(attempt.ended - attempt.began)


class Load:
    """All shoppers, their history, and the verdict."""

    def __init__(self, options: argparse.Namespace, client: AsyncDynamoClient) -> None:
        self.options = options
        self.client = client
        self.run_id = secrets.token_hex(4)
        mine = self.run_id.encode()
        self.counted = [b"%s-%05d" % (mine, index) for index in range(options.keys)]
        self.hot = [b"%s-hot-%d" % (mine, index) for index in range(HOT)]
        self.events: list[Event] = [Setting(n=options.n)]
        self.met: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.took: list[float] = []

    async def run(self) -> dict[str, Any]:
        """Writes the counted keys, loads, and reads everything."""
        first = Shopper(self.options.clients, self)
        for key in self.counted:
            await first.put(key)
        print("ready", flush=True)
        shoppers = [Shopper(index, self) for index in range(self.options.clients)]
        await asyncio.gather(*(shopper.run() for shopper in shoppers))
        unread = await self._read_all(first)
        violations = [f"{v.claim} {v.key!r}: {v.detail}" for v in check(self.events)]
        self.took.sort()
        return {
            "operations": len(self.took),
            "puts": self.met["put ok"],
            "gets": self.met["get ok"],
            "failed_puts": self.met["put fail"] + self.met["put unknown"],
            "failed_gets": self.met["get fail"] + self.met["get unknown"],
            "p99_ms": self._percentile(0.99),
            "max_ms": self._percentile(1),
            "keys": len(self.counted) + len(self.hot),
            "unread": unread,
            "violations": violations[:20],
            "errors": dict(self.errors.most_common(8)),
        }

    def _percentile(self, share: float) -> float:
        at = min(len(self.took) - 1, int(share * len(self.took)))
        return round(self.took[at] * 1000, 1) if self.took else 0.0

    async def _read_all(self, reader: Shopper) -> int:
        """Reads every key once if it can be read in time; returns the number of the others."""
        until = time.monotonic() + FINAL_S_MAX
        left = [*self.counted, *self.hot]
        while left and time.monotonic() < until:
            left = [key for key in left if not await reader.get(key, final=True)]
        return len(left)


async def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--ca-file")
    parser.add_argument("--token-file")
    for name, default in (("keys", 300), ("clients", 4), ("rate", 60), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("n", 3), ("r", 2), ("w", 2)):
        parser.add_argument(f"-{name}", type=int, default=default)
    options = parser.parse_args()
    tls = Tls(ca_file=options.ca_file)
    async with AsyncDynamoClient(
        options.endpoint, attempts_max=8, tls=tls, token_file=options.token_file
    ) as client:
        verdict = await Load(options, client).run()
    print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
