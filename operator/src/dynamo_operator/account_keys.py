"""The public keys of ServiceAccount tokens, as the API server publishes them.

Every cluster lets its ServiceAccounts read them (role `system:service-account-issuer-discovery`).
They change seldom: when the keys of the API server are rotated, the old ones stay there as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from time import monotonic

from dynamo_operator.ports import Failed, KubeApi

KEYS, ISSUER = "/openid/v1/jwks", "/.well-known/openid-configuration"
FRESH_S = 240.0
"""Seconds between two reads: less than the time of a resync, so each resync reads them again."""
PAUSE_S = 20.0
"""Seconds until the next read after one that failed."""


class AccountKeys:
    """What was read last, and when to read again."""

    def __init__(self, kube: KubeApi, clock: Callable[[], float] = monotonic) -> None:
        self._kube = kube
        self._clock = clock
        self._known = "", ""
        self._due = float("-inf")

    async def read(self) -> tuple[str, str]:
        """The keys as JWKS, and the issuer; "" for what the API server does not say."""
        if self._clock() < self._due:
            return self._known
        try:
            keys = await self._kube.read(KEYS)
            issuer = await self._kube.read(ISSUER)
        except Failed:
            self._due = self._clock() + PAUSE_S
            return self._known
        if keys.get("keys") and issuer.get("issuer"):
            text = json.dumps(keys, sort_keys=True, separators=(",", ":"))
            self._known = text, str(issuer["issuer"])
        self._due = self._clock() + FRESH_S
        return self._known
