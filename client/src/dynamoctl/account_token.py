"""The token of a ServiceAccount for one command, renewed while the command runs.

The API server gives a token for an hour. An export, a watched backup or an open console may take
longer, so the next request after two thirds of its life asks for another one first.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from time import monotonic

from dynamo_client.token_file import TokenFile
from dynamoctl.session import Failed

LIFE_S = 3600.0
"""Of a token that does not say how long it is valid."""
RENEWED_AT = 2 / 3
AGAIN_S = 60.0
"""Seconds until the next try if no token is given; meanwhile the last one is sent."""


class AccountToken(TokenFile):
    """`Authorization` from a file that this command writes. Times are of this machine's own count,
    so a wrong clock does not matter."""

    def __init__(
        self, file: Path, ask: Callable[[], str | None], clock: Callable[[], float] = monotonic
    ) -> None:
        """The file has the first token; `ask` returns another one, or None, or raises Failed."""
        super().__init__(file)
        self._place, self._ask, self._clock = file, ask, clock
        self._asking = Lock()
        self._renew_at = clock() + RENEWED_AT * life_of(file.read_text())

    def headers(self) -> dict[str, str]:
        """For the next request; of several threads one asks, and the others send the last one."""
        if self._clock() >= self._renew_at and self._asking.acquire(blocking=False):
            try:
                self._renew()
            finally:
                self._asking.release()
        return super().headers()

    def _renew(self) -> None:
        try:
            token = self._ask()
        except Failed as failed:
            print(f"no new token of the ServiceAccount: {failed}", file=sys.stderr)
            token = None
        if not token:
            self._renew_at = self._clock() + AGAIN_S
            return
        new = self._place.with_suffix(".new")
        new.write_text(token)
        new.rename(self._place)
        self._renew_at = self._clock() + RENEWED_AT * life_of(token)


def life_of(token: str) -> float:
    """Seconds for which a token is valid, as its claims say."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        life = float(claims["exp"] - claims["iat"])
    except (IndexError, KeyError, TypeError, ValueError):
        return LIFE_S
    return life if life > 0 else LIFE_S
