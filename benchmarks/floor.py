"""The least that a put can take in Python, for `core_cost.py` to compare with: no proposal.

Three replicas of the usual put as straight loops over one turn: the same records, digests, leaves,
batches and frames as the core makes, and the same checks of what a peer sends. There are no
machines, no timers, no other cases. What the core takes beyond this is its layers and its rules;
what both take is Python, msgspec and BLAKE2.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from statistics import median
from time import thread_time_ns

import msgspec

from dynamo_core.causality.codec import digest_of, merge_bytes
from dynamo_core.causality.context import Context
from dynamo_core.causality.records import Sibling
from dynamo_core.keys import DATA, TREE, store_key
from dynamo_core.protocol.arrivals import verified_record
from dynamo_core.protocol.frames import Frame, decode_frame, encode_frame
from dynamo_core.protocol.messages import COMPLETE, OWNER, Message, Store, Stored
from dynamo_core.protocol.operations import Acks, Outcome, Put
from dynamo_core.replica.store import Change
from dynamo_node.memory_store import MemoryStore

PARTITION_BITS, LEAF_BITS, DIGEST_BYTES = 8, 8, 16
MASK = (1 << 8 * DIGEST_BYTES) - 1
ENTRY = (1, 1)
ACTOR = 0x1234567890ABCDEF
ROUNDS, PUTS_A_ROUND = 5, 1200
_encoder = msgspec.msgpack.Encoder()


class Floor:
    """One coordinator and two replicas."""

    def __init__(self) -> None:
        self.stores = [MemoryStore() for _ in range(3)]
        self.leaves: list[dict[int, int]] = [{} for _ in range(3)]
        self.roots: list[dict[int, int]] = [{} for _ in range(3)]
        self._numbers = count(1)

    def turn(self, puts: list[Put]) -> list[Outcome]:
        """The puts of one turn, from the request to the answer."""
        rows, contexts = [], []
        for put in puts:
            key = put.key
            event = ({ACTOR: 1}, ())
            sibling = Sibling(ACTOR, 1, put.value, put.content_type, put.request_id)
            body = _encoder.encode((*event, (sibling,)))
            record = digest_of(key, body) + len(body).to_bytes(4, "big") + body
            rows.append((store_key(key), record))
            contexts.append(_encoder.encode((*event, ())))
        self._write(0, rows)
        acks = [self._replica(who, self._stores(rows)) for who in (1, 2)]
        met = [0] * len(puts)
        outcomes = []
        for frame in acks:
            for at, message in enumerate(decode_frame(frame).messages):
                met[at] += isinstance(message, Stored) and message.flags == OWNER | COMPLETE
                if met[at] == 1:  # and the own one
                    context = Context(contexts[at], "n0")
                    acked = Acks(2, 2, 0, 1)
                    outcomes.append(Outcome(status=204, context=context, acks=acked, node="n0"))
        return outcomes

    def _stores(self, rows: list[tuple[bytes, bytes]]) -> bytes:
        shift = 32 - PARTITION_BITS
        return _frame(
            [
                Store(next(self._numbers), int.from_bytes(s[:4], "big") >> shift, ENTRY, s, record)
                for s, record in rows
            ]
        )

    def _replica(self, who: int, frame: bytes) -> bytes:
        rows, acks = [], []
        for message in decode_frame(frame).messages:
            assert isinstance(message, Store) and message.entry_id == ENTRY
            rows.append((message.stored, verified_record(message.stored, message.record)))
            acks.append(Stored(message.id, OWNER | COMPLETE))
        self._write(who, rows)
        return _frame(acks)

    def _write(self, who: int, rows: list[tuple[bytes, bytes]]) -> None:
        store, leaves, roots = self.stores[who], self.leaves[who], self.roots[who]
        batch: list[Change] = []
        for stored, record in rows:
            before = store.get(DATA, stored)
            new = merge_bytes(stored[4:], before, record)
            delta = int.from_bytes(new[:DIGEST_BYTES], "big")
            if before is not None:
                delta -= int.from_bytes(before[:DIGEST_BYTES], "big")
            slot = int.from_bytes(stored[:4], "big") >> (32 - PARTITION_BITS - LEAF_BITS)
            partition = slot >> LEAF_BITS
            leaves[slot] = total = (leaves.get(slot, 0) + delta) & MASK
            roots[partition] = (roots.get(partition, 0) + delta) & MASK
            leaf = total.to_bytes(DIGEST_BYTES, "big")
            batch += [(DATA, stored, new), (TREE, slot.to_bytes(4, "big"), leaf)]
        store.write(batch)


def _frame(messages: list[Message]) -> bytes:
    return encode_frame(Frame(1, "cost", "n0", 1, "n0:1", 1, 1, 1, 1, messages))


def floor_turn(size: int, value: bytes) -> Callable[[], object]:
    """One turn of so many puts, not the first of its replicas."""
    floor = Floor()
    puts = [Put(key=b"new-%d" % index, value=value) for index in range(2 * size)]
    floor.turn(puts[:size])
    return lambda: floor.turn(puts[size:])


def floor_us(size: int, value: bytes) -> float:
    """Median µs of processor a put, in turns of that size."""
    floor, names = Floor(), count()
    rounds = []
    for _ in range(ROUNDS):
        turns = [
            [Put(key=b"new-%d" % next(names), value=value) for _ in range(size)]
            for _ in range(PUTS_A_ROUND // size)
        ]
        began = thread_time_ns()
        for puts in turns:
            floor.turn(puts)
        rounds.append((thread_time_ns() - began) / len(turns) / size / 1000)
    return median(rounds)
