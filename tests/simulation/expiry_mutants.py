"""Deliberate faults in expiries (S-TTL-1): each version of a put has only the stamped time."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.causality import codec, records
from dynamo_core.causality.records import Record, Sibling
from dynamo_core.protocol.operations import Put
from dynamo_core.request import admission_control
from tests.simulation.mutants import Patch, mutant

LOST = "an expiry is lost in a merge"


@mutant(LOST)
def _() -> list[Patch]:
    original = records.sync

    def sync(a: Record, b: Record, lww: bool = False) -> Record:
        merged = original(a, b, lww)
        bare = tuple(msgspec.structs.replace(s, expires_ms=0) for s in merged.siblings)
        return Record(bare, merged.history)

    return [(codec, "sync", sync)]


@mutant("a second coordinator stamps an expiry again")
def _() -> list[Patch]:
    original = admission_control.fill_in

    def fill_in(operation: Any, defaults: Any, wall_ms: int) -> None:
        if isinstance(operation, Put) and operation.expires_in_s:
            operation.expires_ms = 0
        original(operation, defaults, wall_ms)

    return [(admission_control, "fill_in", fill_in)]


@mutant("expired values are shown")
def _() -> list[Patch]:
    return [(Sibling, "live", lambda self, wall_ms: self.value is not None)]


@mutant("values expire a second before their time")
def _() -> list[Patch]:
    original = Sibling.live

    def live(self: Sibling, wall_ms: int) -> bool:
        return original(self, wall_ms + 1000)

    return [(Sibling, "live", live)]


@mutant("a time that has passed stands for no expiry")
def _() -> list[Patch]:
    original = admission_control.fill_in

    def fill_in(operation: Any, defaults: Any, wall_ms: int) -> None:
        if isinstance(operation, Put) and operation.expires_ms <= wall_ms:
            operation.expires_ms = 0
        original(operation, defaults, wall_ms)

    return [(admission_control, "fill_in", fill_in)]
