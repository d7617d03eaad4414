"""Token moves by hand: which are done, which are still to be asked for.

A move of named partitions is done when the ring shows it. A move of a number of tokens leaves no
such trace. So its key is the id of its operation, which a ring takes once. The operator notes the
key on the StatefulSet when the ring shows that id, and forgets it with its line in the spec.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from dynamo_operator.snapshot import MOVED, Snapshot
from dynamo_operator.spec_types import Move


def key(o: Snapshot, move: Move) -> str:
    """The key of one line of `spec.ring.moves` of this resource."""
    line = [o.uid, move.partitions, move.tokens, move.zone, move.giver, move.taker]
    return sha256(json.dumps(line).encode()).hexdigest()[:16]


def moved(o: Snapshot) -> list[str]:
    """Keys of moves of tokens in the spec that have been asked for."""
    noted = (o.workload.annotations if o.workload else {}).get(MOVED, "").split(",")
    shown = (o.operation.id, *o.operation.earlier) if o.operation else ()
    keys = [key(o, move) for move in o.spec.ring.moves if move.tokens is not None]
    return [k for k in keys if k in noted or k in shown]


def outstanding(o: Snapshot) -> tuple[list[dict[str, Any]], str | None]:
    """Moves in the form of a plan request (docs/http-api.md), and their operation's id if needed.

    Moves of partitions go together; a move of tokens goes alone, under its own id.
    """
    assert o.ring is not None
    wishes: list[dict[str, Any]] = []
    for move in o.spec.ring.moves:
        for partition in move.partitions or ():
            if partition >= o.ring.partitions:
                continue
            owners = o.ring.entries[partition].owners
            if move.giver in owners and move.taker not in owners:
                line = {"partition": partition, "from": move.giver, "to": move.taker}
                wishes.append(line)
    if wishes:
        return wishes, None
    done = moved(o)
    for move in o.spec.ring.moves:
        if move.tokens is not None and key(o, move) not in done:
            tokens = {"tokens": move.tokens, "zone": move.zone, "from": move.giver}
            given = {name: value for name, value in tokens.items() if value is not None}
            return [{**given, "to": move.taker}], key(o, move)
    return [], None
