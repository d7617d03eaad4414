"""What the check of rights adds to a request: processor time of the two calls that the edge makes.

One connection asks again and again with the token that it has shown before, as clients do; the
first request of a connection pays for a hash or a signature besides.

    python -m benchmarks.rights_cost
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from time import thread_time_ns

from dynamo_node.access import Access, Asker, Head
from dynamo_node.audit import Audit
from dynamo_node.rights import Rights, Rule

ROUNDS, CALLS = 7, 20_000
HEADERS = [
    (b"host", b"127.0.0.1:8080"),
    (b"user-agent", b"a client"),
    (b"accept", b"*/*"),
    (b"authorization", b"Bearer reader"),
]
RIGHTS = Rights([
    Rule(token_sha256=sha256(b"reader").hexdigest(), name="reader",
         prefixes=["cart:", "session:", "order:", "user:"], verbs=["get", "put", "delete"]),
])  # fmt: skip
REQUESTS: dict[str, tuple[Head, bool]] = {
    "get": (("GET", b"/v1/kv/user:1234", HEADERS), False),
    "put": (("PUT", b"/v1/kv/user:1234", [*HEADERS, (b"content-length", b"9")]), True),
}


class _Plain:
    """A transport without a certificate."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Nothing."""
        return default


def shown() -> dict[str, float]:
    """Microseconds of one request, by its kind."""
    access = Access(RIGHTS, None, Audit(Counter()))
    return {kind: _best_us(access, *request) for kind, request in REQUESTS.items()}


def _best_us(access: Access, head: Head, has_body: bool) -> float:
    asker = access.ask(Asker("127.0.0.1", "127.0.0.1"), _Plain(), head, has_body)

    def once() -> None:
        now = access.ask(asker, None, head, has_body)
        if not has_body:
            access.allow(now, head)

    spent = min(_spent_ns(once) for _ in range(ROUNDS))
    return (spent - min(_spent_ns(_nothing) for _ in range(ROUNDS))) / CALLS / 1000


def _nothing() -> None:
    """What a call costs."""


def _spent_ns(call: Callable[[], None]) -> int:
    began = thread_time_ns()
    for _ in range(CALLS):
        call()
    return thread_time_ns() - began


if __name__ == "__main__":
    for kind, cost_us in shown().items():
        print(f"{kind}: {cost_us:.2f} µs")
