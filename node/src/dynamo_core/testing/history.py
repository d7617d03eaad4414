"""What happened, as the checker reads it: one event a line, alike for simulated and real runs.

Every put and delete has an id of its own (`value`), shared by all attempts under one request id. A
put's bytes are unique, so that a read says which puts it shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

import msgspec

Ending = Literal["ok", "fail", "unknown", ""]
OK: Final = "ok"
FAIL: Final = "fail"
UNKNOWN: Final = "unknown"
HUNG: Final = ""


class Setting(msgspec.Struct, tag="setting", frozen=True):
    """The ring that the history ran on. `lossy` is last-writer-wins (S-LWW-1); `quiet` says that
    nothing failed and every write knew all before it: no read may show siblings."""

    n: int
    lossy: bool = False
    quiet: bool = False


class Attempt(msgspec.Struct, tag="op", kw_only=True, omit_defaults=True):
    """One operation as its client saw it. Times in seconds of one clock.

    `seen`: ids that the client had seen through the context it sent; what these supersede in turn
    need not be listed. `known` False on a delete: sent without a context, so it supersedes what its
    coordinator read, which nobody here knows. `due`: nothing excuses a failure. `holders` counts
    disks that held a put when it was acked, `synced` those that held it durably (-1: not looked).
    `outdated`: answered by a node that was removed by force and started all the same, or whose disk
    was put back and that has not heard again what it had known of the key's owners. `expires`: the
    client asked for an expiry; `expires_ms` is what it became, in ms of wall time, 0 where no node
    took it. `earliest_ms`: no machine's clock told less during the operation; `latest_ms`: no node
    had been told more when it ended (0: not known).
    """

    kind: Literal["put", "delete", "get"]
    key: bytes
    node: str = ""
    value: int = 0
    sent: bytes = b""
    seen: list[int] = []
    known: bool = True
    outcome: Ending = ""
    status: int = 0
    problem: str = ""
    shown: list[bytes] = []
    began: float = 0.0
    ended: float = 0.0
    r: int = 1
    w: int = 1
    dw: int = 0
    strict: bool = False
    expires: bool = False
    expires_ms: int = 0
    earliest_ms: int = 0
    latest_ms: int = 0
    final: bool = False
    due: bool = False
    holders: int = -1
    synced: int = -1
    outdated: bool = False
    reuses: int = 0
    """The write whose request id it has, and whose it is not (S-REQ-2)."""


class Dot(msgspec.Struct, tag="dot", frozen=True):
    """A version as it was found in some record; `what` names its content."""

    key: bytes
    actor: int
    counter: int
    what: str


class Damage(msgspec.Struct, tag="damage", frozen=True):
    """The disk of `node` lost what it had held of the put `value`. `silent`: nobody can know, for
    it was rolled back together with its own notes (C10). `durable`: after an fsync, so that no
    power cut alone explains it."""

    value: int
    node: str
    silent: bool = False
    durable: bool = True


class Copy(msgspec.Struct, tag="copy", frozen=True):
    """What an owner held of a key after convergence, as a digest."""

    key: bytes
    node: str
    digest: bytes


class Trouble(msgspec.Struct, tag="trouble", frozen=True):
    """Something that the run itself found broken."""

    claim: str
    detail: str


Event = Setting | Attempt | Dot | Damage | Copy | Trouble


def save(path: Path, events: Iterable[Event]) -> None:
    """One JSON object a line."""
    encoder = msgspec.json.Encoder()
    path.write_bytes(b"".join(encoder.encode(event) + b"\n" for event in events))


def load(path: Path) -> list[Event]:
    """The inverse. Raises msgspec.MsgspecError on a line that is not an event."""
    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line]
