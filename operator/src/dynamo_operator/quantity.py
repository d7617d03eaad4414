"""Amounts and times in the notation of Kubernetes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

_SUFFIXES = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)([numkMGTPE]i?)?")


def amount(text: str) -> Decimal | None:
    """The number of a quantity (`1Gi`, `250m`, `0.5`); None if the text is not a quantity."""
    match = _QUANTITY.fullmatch(text)
    if match is None or (match[2] or "") not in _SUFFIXES:
        return None
    return Decimal(match[1]) * _SUFFIXES[match[2] or ""]


def instant(text: str | None) -> float | None:
    """Seconds since 1970 of an RFC 3339 time."""
    return datetime.fromisoformat(text).timestamp() if text else None


def stamp(instant_s: float) -> str:
    """RFC 3339 in whole seconds, as in conditions."""
    return datetime.fromtimestamp(int(instant_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def precise(instant_s: float) -> str:
    """RFC 3339 with microseconds, as in Events."""
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
