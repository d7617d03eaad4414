"""What `bench.py` measures of backups: a ring with data is saved into a directory while clients ask
it, saved again, and restored into a larger ring. `--all` has a gigabyte of values.

    python benchmarks/bench.py --only backup [--all]
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.changes import (
    BEFORE_S,
    CHANGE_S_MAX,
    LOOK_S,
    P999_MS_MAX,
    Figure,
    Load,
    Ring,
    Sizes,
    between,
    met,
    percentile,
    ring,
)
from benchmarks.load_runs import VALUE_BYTES

from dynamo_client.admin import AdminClient

COPY_PART_MIN = 0.6
"""Of the rate at which one copy of the same bytes goes to the same disk."""
P99_TIMES_MAX = 1.5
NODES, NODES_AFTER = 3, 5


def backups(place: Path, sizes: Sizes) -> list[Figure]:
    """Backup, again, restore."""
    archive = place / f"archive-{time.monotonic_ns()}"
    archive.mkdir(parents=True)
    flag = f"--backup-targets={archive.as_uri()}"
    keys = sizes.backup_keys
    try:
        with ring(place, NODES, flag) as made:
            made.fill(keys)
            with Load(made, keys, sizes.rate) as load:
                began = time.monotonic()
                whole = _run(made, "backups", {"id": "one", "archive": archive.as_uri()})
                ended = time.monotonic()
            again = time.monotonic()
            second = {"id": "two", "archive": archive.as_uri(), "base": "one"}
            _run(made, "backups", second)
            again = time.monotonic() - again
            third = time.monotonic()
            rest = {"id": "three", "archive": archive.as_uri(), "base": "two"}
            same = _run(made, "backups", rest)
            third = time.monotonic() - third
        copied = _copied(place, whole["bytes"])
        with ring(place, NODES_AFTER, flag) as other:
            back = time.monotonic()
            body = {"id": "back", "backup": "three", "archive": archive.as_uri()}
            restored = _run(other, "restores", body)
            back = time.monotonic() - back
    finally:
        shutil.rmtree(archive, ignore_errors=True)
    rate = whole["bytes"] / (ended - began) / 1e6
    before = percentile(between(load.rows, began - BEFORE_S, began), 0.99)
    during = percentile(between(load.rows, began, ended), 0.99)
    worst = percentile(between(load.rows, began, ended), 0.999)
    part, times = rate / copied, during / max(before, 0.1)
    mb, packed = whole["bytes"] / 1e6, whole["stored_bytes"] / 1e6
    return [
        Figure("backup", f"{keys:,} keys of {VALUE_BYTES} bytes, {NODES} nodes, N=3",
               f"{ended - began:.1f} s for {mb:,.0f} MB, {packed:,.0f} MB in the archive"),
        Figure("backup", "rate", f"{rate:.0f} MB/s, {part:.0%} of one copy to this disk",
               met(part >= COPY_PART_MIN, f"≥{COPY_PART_MIN:.0%}")),
        Figure("backup", "p99 before and meanwhile", f"{before:.1f} ms, {during:.1f} ms",
               met(times <= P99_TIMES_MAX, f"≤{P99_TIMES_MAX}×")),
        Figure("backup", "p99.9 meanwhile", f"{worst:.1f} ms",
               met(worst <= P999_MS_MAX, f"≤{P999_MS_MAX:.0f} ms")),
        Figure("backup", "again, after the load", f"{again:.1f} s"),
        Figure("backup", "again, nothing changed",
               f"{third:.1f} s, {same['new_bytes'] / 1e6:,.1f} MB new"),
        Figure("backup", f"restore into {NODES_AFTER} empty nodes",
               f"{back:.1f} s, {mb / back:.0f} MB/s, {restored['records']:,} records",
               met(restored["records"] >= keys, "every key")),
    ]  # fmt: skip


def _run(of: Ring, what: str, body: dict[str, Any]) -> dict[str, Any]:
    """Asks the first node and waits for the end."""
    with AdminClient(of.nodes[0].admin, timeout_s=30.0) as admin:
        admin.post(f"/v1/{what}", body)
        until = time.monotonic() + CHANGE_S_MAX
        while (report := admin.document(f"/v1/{what}/{body['id']}"))["state"] == "running":
            if time.monotonic() > until:
                raise RuntimeError(f"{what} {body['id']} is not over")
            time.sleep(LOOK_S)
    if report["state"] != "done":
        raise RuntimeError(f"{what} {body['id']}: {report['reason']}")
    return report


def _copied(place: Path, size: int) -> float:
    """MB/s of one copy of so many bytes, until they are on the disk."""
    source, target = place / "copy-from", place / "copy-to"
    block = os.urandom(1 << 20)
    try:
        with source.open("wb") as out:
            for _ in range(size // len(block) + 1):
                out.write(block)
        began = time.monotonic()
        with source.open("rb") as read, target.open("wb") as out:
            shutil.copyfileobj(read, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        return source.stat().st_size / (time.monotonic() - began) / 1e6
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
