"""One thing that goes wrong in a history, as plans have it; `faults` carries it out."""

from __future__ import annotations

import msgspec


class Fault(msgspec.Struct, omit_defaults=True):
    """One thing that goes wrong at `node` (for links: towards `peer`) for `lasts` seconds;
    `amount` in 0..1; each kind gives it a meaning."""

    at: float
    kind: str
    node: int
    peer: int = 0
    lasts: float = 1.0
    amount: float = 0.0
