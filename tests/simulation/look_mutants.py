"""Deliberate faults in looks inside and in the history of keys. Each is sought in histories that
all have looks (`EVERY`)."""

from __future__ import annotations

from typing import Any

from dynamo_core.errors import Corrupt
from dynamo_core.look import gathering, own_copy
from dynamo_core.protocol.look_messages import Look, Looked
from dynamo_core.protocol.registry import SINCE
from dynamo_core.replica import key_history
from dynamo_core.runtime import dispatcher, outbox
from dynamo_core.testing import looking
from tests.simulation.mutants import Patch, mutant

EVERY: Patch = (looking, "LOOKED", 1.0)


@mutant("a look sent to a node that does not know it")
def _() -> list[Patch]:
    known = {kind: since for kind, since in SINCE.items() if kind not in (Look, Looked)}
    return [EVERY, (dispatcher, "SINCE", known), (outbox, "SINCE", known)]


@mutant("a history that keeps more than its bound")
def _() -> list[Patch]:
    return [EVERY, (key_history.KeyHistory, "_forget", lambda self: None)]


@mutant("a look waits for a silent node")
def _() -> list[Patch]:
    def expired(self: Any, now: float) -> Any:
        self.wake_at = now + 1000.0
        return []

    return [EVERY, (gathering.Gathering, "expired", expired)]


@mutant("a look gives a damaged record up")
def _() -> list[Patch]:
    read = own_copy.OwnCopy._read

    def given_up(self: Any, own: bool, target: Any, stored: bytes) -> Any:
        try:
            return read(self, own, target, stored)
        except Corrupt:
            if own:
                self.node.replica.note_damage(stored)
            raise

    return [EVERY, (own_copy.OwnCopy, "_read", given_up)]
