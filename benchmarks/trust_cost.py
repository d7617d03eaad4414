"""What it costs a put that nodes believe nothing that arrives (T-1, T-2): processor time of the
checks and tags of all three nodes for one put of 1 KB.

The coordinator sends the record to two replicas in frames. Each frame has a tag, made by the sender
and checked by the receiver, and each replica checks the digest and the body of the record. Their
answers are frames with a few bytes for each put.

    python -m benchmarks.trust_cost
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import thread_time_ns

from benchmarks.load_runs import VALUE_BYTES

from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.records import EMPTY, Sibling, update
from dynamo_core.keys import store_key
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.frame_tags import KEY_BYTES, Opener, Sealer

REPLICAS = 2
TURN = 48
"""Puts in one frame, as with 48 connections."""
ANSWER_BYTES, STORE_BYTES = 16, 64
"""Of one put in a frame, beside its record."""
ROUNDS, CALLS = 9, 200


def _us(call: Callable[[], object]) -> float:
    def spent() -> float:
        began = thread_time_ns()
        for _ in range(CALLS):
            call()
        return (thread_time_ns() - began) / CALLS / 1000

    return median(spent() for _ in range(ROUNDS))


def _tag_us(size: int) -> float:
    """Both ends of one frame."""
    key, frame = bytes(KEY_BYTES), bytes(size)
    sealer, opener = Sealer(key), Opener(key)

    def once() -> None:
        opener.check(sealer.head(frame), 0, frame)

    return _us(once)


def shown() -> dict[str, float]:
    """Microseconds of one put, by what they are for."""
    key = b"key-12345"
    sibling = Sibling(7, 1, bytes(VALUE_BYTES), "text/plain")
    stored, record = store_key(key), encode_record(key, update(EMPTY, EMPTY.context(), sibling))
    frames = _tag_us(TURN * (len(record) + STORE_BYTES)) + _tag_us(TURN * ANSWER_BYTES)
    return {
        "tags of frames": REPLICAS * frames / TURN,
        "checks of records": REPLICAS * _us(lambda: verified_record(stored, record)),
    }


if __name__ == "__main__":
    for what, cost_us in shown().items():
        print(f"{what}: {cost_us:.2f} µs of a put")
