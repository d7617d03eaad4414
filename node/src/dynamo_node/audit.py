"""What is told of those who ask: one line for each refusal and each change, and who guesses.

Lines are bounded, as a stranger must not fill a disk with them; counters go on. An address that has
shown ten credentials in vain is not looked at for a while: a connection that is known goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import structlog

from dynamo_node.clock import now_s
from dynamo_node.problems import Problem

REFUSALS_MAX = 10
"""Credentials of one address that are refused before it is slowed down."""
FORGIVEN_S = 6.0
"""Seconds until one refusal is forgiven: an address that goes on may try once in this time."""
ADDRESSES_MAX = 10_000
"""Of which refusals are remembered; the one whose last refusal is oldest makes room."""
LINES_S_MAX = 50.0
"""Lines of refusals in a second; more are counted and not written."""
log = structlog.get_logger()


class Audit:
    """Lines, counters and guessers of one node. `counters` are those of its core."""

    def __init__(self, counters: Counter[str], clock: Callable[[], float] = now_s) -> None:
        self.counters = counters
        self._clock = clock
        self._guessers: dict[str, tuple[float, float]] = {}
        """By address: refusals that are not forgiven, and when that was so."""
        self._lines, self._lines_at = LINES_S_MAX, clock()

    def check_pace(self, source: str) -> None:
        """Raises Problem where credentials of this address are not looked at for now."""
        if self._guessers and self._owed(source) > REFUSALS_MAX - 1:
            detail = "too many credentials of this address were refused; wait"
            raise Problem(429, "overloaded", detail, b"Dynamo-Applied: no\r\n")

    def credential_refused(self, what: str, source: str, why: str) -> None:
        """A client has shown a credential that this node does not know."""
        self.counters["credentials_refused"] += 1
        owed = self._owed(source) + 1
        self._guessers.pop(source, None)
        if len(self._guessers) >= ADDRESSES_MAX:
            del self._guessers[next(iter(self._guessers))]
        self._guessers[source] = (owed, self._clock())
        if owed > REFUSALS_MAX - 1 >= owed - 1:
            self.counters["guessers_slowed"] += 1
        self._tell("", what, source, f"refused: {why}")

    def forbidden(self, who: str, what: str, source: str) -> None:
        """A known name has asked for something that it has no right to."""
        self.counters["requests_forbidden"] += 1
        self._tell(who, what, source, "refused: no right")

    def changed(self, who: str, what: str, source: str, status: int) -> None:
        """An administrator has asked for a change. These lines are never left out."""
        self.counters["admin_changes"] += 1
        outcome = "done" if status < 400 else "refused"
        log.info("audit", who=who, what=what, source=source, outcome=f"{outcome}: {status}")

    def _owed(self, source: str) -> float:
        refusals, at = self._guessers.get(source, (0.0, 0.0))
        return max(0.0, refusals - (self._clock() - at) / FORGIVEN_S) if refusals else 0.0

    def _tell(self, who: str, what: str, source: str, outcome: str) -> None:
        now = self._clock()
        self._lines = min(LINES_S_MAX, self._lines + (now - self._lines_at) * LINES_S_MAX)
        self._lines_at = now
        if self._lines < 1:
            self.counters["audit_lines_left_out"] += 1
            return
        self._lines -= 1
        log.warning("audit", who=who, what=what, source=source, outcome=outcome)
