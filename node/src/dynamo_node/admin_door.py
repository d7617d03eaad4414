"""In front of the admin listener's routes: who may ask, and keys in raw bytes.

Probes and metrics need no token. All else wants a token that is derived from the cluster secret
(`dynamo_core.secret_keys`), or a name that the rights call an administrator; who may list keys may
list those that begin with its prefixes. A key in a path is taken from the raw bytes of the request
(S-KEY-1).
"""

from __future__ import annotations

import re
from functools import partial
from hmac import compare_digest
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynamo_core.keys import KEY_BYTES_MAX
from dynamo_node.access import Access, Asker, forbidden
from dynamo_node.audit import Audit
from dynamo_node.budget import holder
from dynamo_node.keyring import Keyring
from dynamo_node.problems import RETRY_AFTER_S, Problem
from dynamo_node.tls import names_of

WITHOUT_TOKEN = frozenset(("/livez", "/readyz", "/metrics"))
CHANGES_NOTHING = frozenset(("/v1/ring/plan",))
"""Of what is sent by POST."""
PREFERENCE = "/v1/preference-list/"
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def problem(status: int, slug: str, detail: str, **members: Any) -> Response:
    """An error of the admin listener, as RFC 9457 has it."""
    body = Problem(status, slug, detail, **members).document()
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


class Door:
    """Lets in who shows a token, or has the right by its name; tells of changes and refusals."""

    def __init__(
        self, app: ASGIApp, keyring: Keyring, access: Access | None, audit: Audit
    ) -> None:  # fmt: skip
        self._app = app
        self._keyring = keyring
        self._access = access
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            who = self._let_in(scope)
            _take_key(scope)
        except Problem as refused:
            answer = problem(refused.status, refused.slug, refused.detail)
            await answer(scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"] not in CHANGES_NOTHING:
            send = self._telling(who, scope, send)
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope) -> str:
        """The name of who asks. Raises Problem."""
        if scope["path"] in WITHOUT_TOKEN:
            return ""
        keys, access = self._keyring.now, self._access
        if not keys.tokens and access is None:
            return "anybody"
        shown = dict(scope["headers"]).get(b"authorization", b"")
        source, what = _source(scope), _what(scope)
        if shown:
            self._audit.check_pace(source)
        if _shows(shown, keys.tokens):
            return "administrator"
        if _shows(shown, keys.former_tokens):
            self._audit.counters["admins_with_raw_secret"] += 1
            return "administrator"
        known = None
        if access is not None:
            names = partial(names_of, scope.get("dynamo_transport"))
            known = access.known(shown, names, what, Asker(source, source))
        elif shown:
            self._audit.credential_refused(what, source, "no administrator's token")
        if known is None:
            detail = "wants Authorization: Bearer <what `dynamoctl token` prints>"
            raise Problem(401, "unauthorized", detail)
        who = known.who
        if who.admin:
            return who.name
        if who.list and (scope["method"], scope["path"]) == ("GET", "/v1/keys"):
            scope["dynamo_list"] = who.list
        else:
            self._audit.forbidden(who.name, what, source)
            raise forbidden(f"{who.name} is no administrator")
        return who.name

    def _telling(self, who: str, scope: Scope, send: Send) -> Send:
        """Sends, and tells of the change once its answer begins."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._audit.changed(who, _what(scope), _source(scope), message["status"])
            await send(message)

        return told


def _source(scope: Scope) -> str:
    return holder(scope["client"][0]) if scope.get("client") else ""


def _what(scope: Scope) -> str:
    """For an audit line, which has no key of a listing and no end of what a stranger made up."""
    path = scope["path"]
    return f"{scope['method']} {PREFERENCE if path.startswith(PREFERENCE) else path[:64]}"


def _take_key(scope: Scope) -> None:
    """The key of a path, from its raw bytes. Raises Problem."""
    raw = scope["raw_path"].partition(b"?")[0]
    if raw.startswith(PREFERENCE.encode()):
        quoted = raw[len(PREFERENCE) :]
        key = unquote_to_bytes(quoted)
        if _BAD_ESCAPE.search(quoted) or not 1 <= len(key) <= KEY_BYTES_MAX:
            raise Problem(400, "bad-key", f"key: 1 to {KEY_BYTES_MAX} bytes, percent-encoded")
        scope["dynamo_key"] = key
        scope["path"] = PREFERENCE + "key"


def _shows(given: bytes, tokens: tuple[str, ...]) -> bool:
    """Whether the header has one of them. How long it takes tells nothing of a token."""
    found = False
    for token in tokens:
        found |= compare_digest(given, b"Bearer " + token.encode())
    return found
