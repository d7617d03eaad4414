"""What administrators are told of staleness: the body of GET /v1/staleness (docs/http-api.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf
from typing import Any

from dynamo_core.staleness.prediction import Curve, Way, missed, quantile

T_MS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""The times after the acknowledgement for which the document tells the share of fresh reads."""
LATEST_MS = 20_000
"""No canary is read later than this after its write."""
SHARE = 0.999
ENOUGH = 0.9995
"""This share of fresh reads counts as all of them."""


def ms(us: float) -> float | None:
    """µs as ms; None for a time without an end."""
    return round(us / 1000, 3) if us < inf else None


def p50_p99(us: Iterable[float]) -> dict[str, float | None] | None:
    """The median and the 99th percentile in ms; None without numbers."""
    line = sorted(us)
    if not line:
        return None
    return {"p50": ms(quantile(line, 0.5)), "p99": ms(quantile(line, 0.99))}


def setting_line(curve: Curve, n: int, present: bool) -> dict[str, Any]:
    """One R and W. A curve without trials is of nodes that are down."""
    r, w = curve.r, curve.w
    line: dict[str, Any] = {
        "r": r, "w": w, "present": present, "possible": bool(curve.fresh_us), "overlap": r + w > n,
        "missed": round(missed(n, r, w), 4), "fresh_at_once": None, "fresh_999_ms": None,
        "fresh": None, "read_ms": None, "write_ms": None,
    }  # fmt: skip
    if curve.fresh_us:
        line["fresh"] = [round(curve.fresh(t * 1000), 4) for t in T_MS]
        line["fresh_at_once"] = line["fresh"][0]
        line["fresh_999_ms"] = ms(curve.after_us(SHARE))
        line["read_ms"], line["write_ms"] = p50_p99(curve.read_us), p50_p99(curve.write_us)
    return line


def delay_line(
    pair: tuple[str, str], writes: Sequence[Way], reads: Sequence[Way], lost: int
) -> Any:
    """The samples of one pair of nodes."""
    return {
        "from": pair[0], "to": pair[1], "writes": len(writes), "reads": len(reads), "lost": lost,
        "w_ms": p50_p99(there for there, _ in writes), "a_ms": p50_p99(back for _, back in writes),
        "r_ms": p50_p99(there for there, _ in reads), "s_ms": p50_p99(back for _, back in reads),
    }  # fmt: skip


def canary_part(
    results: Sequence[tuple[int, bool]], present: Curve | None, per_minute: int
) -> dict[str, Any]:
    """Measured beside predicted, for the times at which the canaries were read."""
    points = []
    for low, high in pairwise((*T_MS, LATEST_MS)):
        inside = [(t, fresh) for t, fresh in results if low * 1000 <= t < high * 1000]
        if inside:
            points.append({"from_ms": low, "to_ms": high, **_compared(inside, present)})
    return {"per_minute": per_minute, **_compared(results, present), "points": points}


def _compared(results: Sequence[tuple[int, bool]], present: Curve | None) -> dict[str, Any]:
    count, fresh = len(results), sum(fresh for _, fresh in results)
    known = count and present is not None and present.fresh_us
    expected = sum(present.fresh(t) for t, _ in results) if known and present else 0.0
    return {
        "reads": count,
        "fresh": fresh,
        "measured": round(fresh / count, 4) if count else None,
        "predicted": round(expected / count, 4) if known else None,
    }


def advice(lines: Sequence[dict[str, Any]], down: Sequence[str]) -> list[str]:
    """Sentences about the present setting and about the ones worth a thought."""
    possible = [line for line in lines if line["possible"]]
    now = next((line for line in possible if line["present"]), None)
    if now is None:
        return []
    said = [_present(now)]
    if down and now["overlap"]:
        said.append(
            f"Down: {', '.join(down)}. Stand-ins take their part, so R + W > N promises"
            " less than usual."
        )
    fresh = [line for line in possible if line["fresh_at_once"] >= ENOUGH]
    if now["fresh_at_once"] < ENOUGH and fresh:
        best = min(fresh, key=_cost)
        said.append(f"{_named(best)} shows every write at once and {_price(best, now)}.")
    quicker = [
        line
        for line in possible
        if line["fresh_at_once"] >= now["fresh_at_once"] - 0.0005 and _cost(line) < _cost(now) * 0.9
    ]
    if quicker:
        best = min(quicker, key=_cost)
        said.append(f"{_named(best)} is as fresh as now and {_price(best, now)}.")
    return said


def advice_for(
    n: int, own: int, lines: Sequence[dict[str, Any]], now: dict[str, Any] | None
) -> list[str]:
    """Sentences about a ring with `n` copies of each key instead of `own`, beside the present
    setting if it is known."""
    copies = "1 copy" if n == 1 else f"{n} copies"
    said = [
        f"{copies} of each key instead of {own}: N is fixed when a ring is made, so this needs"
        " a new ring."
    ]
    fresh = [line for line in lines if line["possible"] and line["fresh_at_once"] >= ENOUGH]
    if fresh:
        best = min(fresh, key=_cost)
        beside = f" and {_price(best, now)}" if now is not None else ""
        said.append(f"With it {_named(best)} shows every write at once{beside}.")
    return said


def _present(now: dict[str, Any]) -> str:
    if now["overlap"]:
        return f"{_named(now)}, as now, overlap: a read sees every acknowledged write."
    after = now["fresh_999_ms"]
    when = f"after {after:g} ms" if after is not None else "later than the samples tell"
    share = f"{now['fresh_at_once']:.1%}"
    return (
        f"{_named(now)}, as now: {share} of the reads through another node see a write at"
        f" once, 99.9% {when}."
    )


def _named(line: dict[str, Any]) -> str:
    return f"R={line['r']}, W={line['w']}"


def _cost(line: dict[str, Any]) -> float:
    return (line["read_ms"]["p99"] or inf) + (line["write_ms"]["p99"] or 0.0)


def _price(line: dict[str, Any], now: dict[str, Any]) -> str:
    def change(of: str) -> str:
        more = (line[of]["p99"] or 0.0) - (now[of]["p99"] or 0.0)
        return f"{more:+.1f} ms"

    return f"changes the p99 of reads by {change('read_ms')} and of writes by {change('write_ms')}"
