"""In front of the admin listener's routes: who may ask, and keys in raw bytes.

Probes and metrics are for everybody. All else wants a token that is derived from the cluster secret
(`dynamo_core.secret_keys`). A key in a path is taken from the raw bytes of the request (S-KEY-1).
"""

from __future__ import annotations

import re
from collections import Counter
from hmac import compare_digest
from urllib.parse import unquote_to_bytes

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dynamo_core.keys import KEY_BYTES_MAX
from dynamo_node.admin_answers import problem
from dynamo_node.keyring import Keyring

WITHOUT_TOKEN = frozenset(("/livez", "/readyz", "/metrics"))
_PREFERENCE = b"/v1/preference-list/"
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Door:
    """Lets in who shows a token, and counts who shows the secret itself."""

    def __init__(self, app: ASGIApp, keyring: Keyring, counters: Counter[str]) -> None:
        self._app = app
        self._keyring = keyring
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refused = self._refusal(scope)
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        keys = self._keyring.now
        if not keys.tokens:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        if _shows(given, keys.tokens):
            return True
        if _shows(given, keys.former_tokens):
            self._counters["admins_with_raw_secret"] += 1
            return True
        return False

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["path"] not in WITHOUT_TOKEN and not self._known(scope):
            detail = "wants Authorization: Bearer <what `dynamoctl token` prints>"
            return problem(401, "unauthorized", detail)
        raw = scope["raw_path"].partition(b"?")[0]
        if raw.startswith(_PREFERENCE):
            quoted = raw[len(_PREFERENCE) :]
            key = unquote_to_bytes(quoted)
            if _BAD_ESCAPE.search(quoted) or not 1 <= len(key) <= KEY_BYTES_MAX:
                detail = f"key: 1 to {KEY_BYTES_MAX} bytes, percent-encoded"
                return problem(400, "bad-key", detail)
            scope["dynamo_key"] = key
            scope["path"] = _PREFERENCE.decode() + "key"
        return None


def _shows(given: bytes, tokens: tuple[str, ...]) -> bool:
    """Whether the header has one of them. How long it takes tells nothing of a token."""
    found = False
    for token in tokens:
        found |= compare_digest(given, b"Bearer " + token.encode())
    return found
