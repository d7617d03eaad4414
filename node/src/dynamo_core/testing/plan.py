"""A history to be, as data: what clients do and what fails, stored as JSON and run again."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dynamo_core.testing.faults import Fault
from dynamo_core.testing.network import Weather

NAMES = "abcdefgh"
KEYS = 5
READY_S, CREATED_S = 1.7, 2.8
"""Clients begin so long after the first start: all have met by the third heartbeat."""


class Step(msgspec.Struct, omit_defaults=True):
    """One operation of a client. `context`: below 0 none, else which of the contexts collected so
    far, 1.0 the latest; an "update" reads first and uses what it read. `retry`: the node asked
    again under the same request id when there was no success, after `retry_s`. `strict` None: as
    the ring has it."""

    at: float
    kind: str
    key: int
    node: int
    context: float = -1.0
    r: int = 0
    w: int = 0
    strict: bool | None = None
    named: bool = False
    retry: int = -1
    retry_s: float = 0.5
    expires_s: int = 0
    show: bool = False


class Plan(msgspec.Struct):
    """One history to be."""

    seed: int
    nodes: int
    n: int
    r: int
    w: int
    dw: int
    lossy: bool
    quiet: bool
    created: bool
    """By the administrator's command, not by hand."""
    weather: Weather
    lag_s: float
    """A node's turn takes up to so long: entries in between share one batch."""
    hint_bytes_max: int
    ends_at: float
    idle_s: float
    steps: list[Step]
    faults: list[Fault]
    families: list[str]
    sloppy: bool = True
    """As the ring has it at its beginning."""
    siblings_max: int = 100
    in_flight_max: int = 4096
    founders: int = 0
    """So many of the nodes found the ring, 0: all; the others may join."""
    tombstone_age_s: float = 12.0
    """More than any operation, its retry and a frame may live (S-DEL-2)."""
    latency_threshold_ms: float = 75.0
    """S-BG-1; so low that any read over the network is above, background work crawls."""
    looks: int = 0
    """How many rounds of reads follow the healing, while nodes rebuild themselves."""


def save_plan(path: Path, plan: Plan) -> None:
    """As JSON, for tests/simulation/seeds."""
    path.write_bytes(msgspec.json.encode(plan) + b"\n")


def load_plan(path: Path) -> Plan:
    """The inverse. Raises msgspec.MsgspecError."""
    return msgspec.json.decode(path.read_bytes(), type=Plan)
