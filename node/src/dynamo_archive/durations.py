"""How long a restore takes, for its plan: by the rate that a person gives, else as an earlier
restore from the same archive, else by an assumed rate."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_archive.objects import Archive
from dynamo_core.backup.marks import MARKS

BYTES_S = 5_000_000
"""Assumed of a merge into three nodes on a small machine."""
KEYS_S = 500
"""Assumed of values that a client writes again: one get and one put for each key."""
MARKS_READ_MAX = 20


class _Merged(msgspec.Struct):
    state: str
    report: dict[str, Any]


def estimate(
    archive: Archive, counts: dict[str, int], into_past: bool, rate: float
) -> tuple[int, str]:
    """Seconds, and in words how they were estimated. `rate`: MB in a second, 0 for none. A restore
    of keys with a prefix reads all parts too, so it takes no longer than this."""
    size, records = counts["bytes"], counts["records"]
    if rate:
        return _whole(size / rate / 1e6), f"at {rate:g} MB/s"
    if into_past:
        return _whole(records / KEYS_S), f"assumed: {KEYS_S} keys a second"
    found = _measured(archive)
    if found is None:
        return _whole(size / BYTES_S), f"assumed: {BYTES_S / 1e6:g} MB/s; --rate gives another"
    name, report = found
    seconds = report["took_ms"] / 1000
    more = max(size / report["bytes_total"], records / max(1, report["records"]))
    speed = report["bytes_total"] / seconds / 1e6
    return _whole(seconds * more), f"as {name}, which merged {speed:.3g} MB/s"


def _whole(seconds: float) -> int:
    return max(1, round(seconds))


def _measured(archive: Archive) -> tuple[str, dict[str, Any]] | None:
    """The largest of the last merges from this archive that are over."""
    found = None
    names = sorted(name for name, _ in archive.names(MARKS))
    for name in names[-MARKS_READ_MAX:]:
        data = archive.get(name)
        try:
            mark = msgspec.json.decode(data or b"", type=_Merged)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # of a run into the past, or none
        report = mark.report
        sizes = [report.get(field) for field in ("took_ms", "bytes_total", "records")]
        if not all(isinstance(one, int) and one > 0 for one in sizes):
            continue
        if found is None or report["bytes_total"] > found[1]["bytes_total"]:
            found = (name.removeprefix(MARKS).removesuffix(".json"), report)
    return found
