"""Audit log: one line for each refusal and each change, and addresses that guess credentials.

The rate of lines is bounded, so that a stranger cannot fill a disk; counters are never bounded.
After ten wrong credentials, the node checks no new credential of that address for some time. A
connection whose credential is known goes on, and so does a credential that was right from this
address before: otherwise one guesser behind a proxy would lock out every client behind it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from math import ceil

import structlog

from dynamo_node.clock import now_s
from dynamo_node.problems import Problem

REFUSALS_MAX = 10
"""Wrong credentials after which an address is slowed down."""
FORGIVEN_S = 6.0
"""Seconds until one refusal is forgiven: then the address may try one more credential."""
ADDRESSES_MAX = 10_000
"""Addresses whose refusals are remembered; the one with the oldest last refusal is forgotten."""
PROVEN_MAX = 10_000
"""Right credentials that are remembered with their address, as hashes; the one that was shown the
longest ago is forgotten."""
LINES_S_MAX = 50.0
"""Lines of refusals in one second; further refusals are only counted. Half of them are never for
requests that show nothing, or whose credential is not looked at: otherwise a stranger who shows
nothing could hide one who guesses."""
log = structlog.get_logger()


class Audit:
    """Lines, counters and guessing addresses of one node. `counters` are those of its core."""

    def __init__(self, counters: Counter[str], clock: Callable[[], float] = now_s) -> None:
        self.counters = counters
        self._clock = clock
        self._guessers: dict[str, tuple[float, float]] = {}
        """By address: refusals that are not forgiven, and the time when that number was right."""
        self._proven: dict[bytes, None] = {}
        self._lines, self._lines_at = LINES_S_MAX, clock()

    def check_pace(self, source: str, shown: bytes) -> None:
        """Raises Problem if this credential of this address is not checked at present."""
        if self._guessers and (owed := self._owed(source)) > REFUSALS_MAX - 1:
            if _mark(source, shown) in self._proven:
                return
            wait_s = ceil((owed - (REFUSALS_MAX - 1)) * FORGIVEN_S)
            detail = f"this address has sent too many wrong credentials; wait {wait_s} s"
            raise Problem(
                429, "overloaded", detail, b"Dynamo-Applied: no\r\n", retry_after_s=wait_s
            )

    def proven(self, source: str, shown: bytes) -> None:
        """Remembers a right credential of this address."""
        mark = _mark(source, shown)
        self._proven.pop(mark, None)
        if len(self._proven) >= PROVEN_MAX:
            del self._proven[next(iter(self._proven))]
        self._proven[mark] = None

    def forget(self) -> None:
        """Forgets the guessers and the right credentials."""
        self._guessers.clear()
        self._proven.clear()

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

    def nothing_shown(self, what: str, source: str) -> None:
        """A request has no credential, and this node asks for one."""
        self.counters["requests_without_credential"] += 1
        self._tell("", what, source, "refused: no credential", LINES_S_MAX / 2)

    def of_another_site(self, what: str, source: str) -> None:
        """A page of another site lets a browser send a request; its credential is not looked at."""
        self.counters["requests_of_other_sites"] += 1
        self._tell("", what, source, "refused: a page of another site", LINES_S_MAX / 2)

    def forbidden(self, who: str, what: str, source: str) -> None:
        """A known name has asked for something to which it has no right."""
        self.counters["requests_forbidden"] += 1
        self._tell(who, what, source, "refused: no right")

    def items_forbidden(self, who: str, count: int, of: int, source: str) -> None:
        """A known name has sent a batch with items to which it has no right."""
        self.counters["batch_items_forbidden"] += count
        outcome = f"refused: no right to {count} of {of} items"
        self._tell(who, "POST /v1/batch", source, outcome)

    def changed(self, who: str, what: str, source: str, status: int) -> None:
        """An administrator has asked for a change. These lines are always written."""
        self.counters["admin_changes"] += 1
        outcome = "done" if status < 400 else "refused"
        log.info("audit", who=who, what=what, source=source, outcome=f"{outcome}: {status}")

    def _owed(self, source: str) -> float:
        refusals, at = self._guessers.get(source, (0.0, 0.0))
        return max(0.0, refusals - (self._clock() - at) / FORGIVEN_S) if refusals else 0.0

    def _tell(self, who: str, what: str, source: str, outcome: str, kept: float = 0.0) -> None:
        now = self._clock()
        self._lines = min(LINES_S_MAX, self._lines + (now - self._lines_at) * LINES_S_MAX)
        self._lines_at = now
        if self._lines < kept + 1:
            self.counters["audit_lines_left_out"] += 1
            return
        self._lines -= 1
        log.warning("audit", who=who, what=what, source=source, outcome=outcome)


def _mark(source: str, shown: bytes) -> bytes:
    return sha256(source.encode() + b"\0" + shown).digest()
