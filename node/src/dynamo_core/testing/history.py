"""What happened, for the checker: one event in each line, alike for simulated and real runs.

Every put and delete has its own id (`value`), which all attempts under one request id share. The
bytes of each put are unique, so a read shows which puts it has.
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
    """The ring of the history. `lossy` means last writer wins (S-LWW-1); `quiet` means that nothing
    failed and every write knew all earlier ones: no read may show siblings."""

    n: int
    lossy: bool = False
    quiet: bool = False


class Attempt(msgspec.Struct, tag="op", kw_only=True, omit_defaults=True):
    """One operation as its client saw it. Times in seconds of one clock.

    `covered`: ids that the sent context covers; ids that these supersede may be left out. `known`
    False on a delete: it had no context, so it supersedes what its coordinator read, which no
    client knows. `due`: nothing excuses a failure. `holders`: the number
    of disks that held a put when it was acked; `synced`: those that held it durably (-1: not
    counted). `outdated`: the answer is from a node that was removed by force and started again, or
    from a node whose disk was put back and that has not yet heard again what it knew of the key's
    owners. `expires`: the client asked for an expiry; `expires_ms` is the stamped time, in ms of
    wall time, 0 if no node stamped it. `earliest_ms`: the earliest time of any machine during the
    operation; `latest_ms`: the latest time that any node had used at its end (0: not known).
    """

    kind: Literal["put", "delete", "get"]
    key: bytes
    node: str = ""
    value: int = 0
    sent: bytes = b""
    covered: list[int] = []
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
    """The other write whose request id it reuses (S-REQ-2)."""


class Dot(msgspec.Struct, tag="dot", frozen=True):
    """A version in some record; `what` names its content."""

    key: bytes
    actor: int
    counter: int
    what: str


class Damage(msgspec.Struct, tag="damage", frozen=True):
    """The disk of `node` lost the put `value`. `silent`: the node cannot know, because its notes
    were rolled back together with the data (C10). `durable`: lost after an fsync, so a power cut
    alone does not explain it."""

    value: int
    node: str
    silent: bool = False
    durable: bool = True


class Copy(msgspec.Struct, tag="copy", frozen=True):
    """An owner's record of a key after convergence, as a digest."""

    key: bytes
    node: str
    digest: bytes


class Trouble(msgspec.Struct, tag="trouble", frozen=True):
    """A fault that the run itself has found."""

    claim: str
    detail: str


class Restored(msgspec.Struct, tag="restored", frozen=True):
    """A backup with these values of the key was merged: a value that was deleted since may come
    back, because its tombstone may have been collected."""

    key: bytes
    values: list[bytes]


Event = Setting | Attempt | Dot | Damage | Copy | Trouble | Restored


def save(path: Path, events: Iterable[Event]) -> None:
    """Writes one JSON object in each line."""
    encoder = msgspec.json.Encoder()
    path.write_bytes(b"".join(encoder.encode(event) + b"\n" for event in events))


def load(path: Path) -> list[Event]:
    """The inverse. Raises msgspec.MsgspecError on a line that is not an event."""
    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line]
