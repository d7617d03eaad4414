"""One fault in a history, as plans have it; `faults` carries it out."""

from __future__ import annotations

import msgspec


class Fault(msgspec.Struct, omit_defaults=True):
    """One fault at `node` (for links: towards `peer`) for `lasts` seconds; `amount` is between 0
    and 1, and each kind gives it a meaning."""

    at: float
    kind: str
    node: int
    peer: int = 0
    lasts: float = 1.0
    amount: float = 0.0
