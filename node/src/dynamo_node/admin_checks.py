"""Checks in front of the admin listener's routes: who may ask, and keys as raw bytes.

Probes, metrics and the files of the console and of `/docs` need no token. All other requests need a
token that is derived from the cluster secret (`dynamo_core.secret_keys`), or a name with the right
`admin`. A name with the right `list` may list the keys that begin with its prefixes. Values are
shown to a name that may get the key (`dynamo_get`: its prefixes), and to everyone where clients
need no name. A key in a path is taken from the raw bytes of the request (S-KEY-1).

`/v1/kv` is here for the console, because a browser lets its pages ask no other listener: a node
with rights checks them as its client listener does, a node without rights asks for the token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from hmac import compare_digest
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynamo_core.keys import KEY_BYTES_MAX
from dynamo_node.access import BEARER, KV, Access, Asker, forbidden, shown_in
from dynamo_node.admin_answers import refusal
from dynamo_node.admin_document import WITHOUT_TOKEN
from dynamo_node.audit import Audit
from dynamo_node.budget import holder
from dynamo_node.console_files import ConsoleFiles
from dynamo_node.keyring import Keyring
from dynamo_node.problems import Problem
from dynamo_node.tls import names_of
from dynamo_node.viewer_files import viewer_file

CHANGES_NOTHING = frozenset(("/v1/ring/plan",))
"""Paths of POST requests that change nothing."""
KEYED = ("/v1/preference-list/", "/v1/records/", "/v1/history/")
"""Paths that end with a key."""
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class AdminChecks:
    """Lets a request in by its token or by its name's right; logs changes and refusals."""

    def __init__(
        self, app: ASGIApp, kv: ASGIApp, keyring: Keyring, access: Access | None, audit: Audit,
        *, paths: Iterable[str],
    ) -> None:  # fmt: skip
        """`paths`: of the routes, as audit lines name them."""
        self._app = app
        named = [path.partition("{")[0] for path in paths]
        self._whole = {path for path in named if not path.endswith("/")}
        self._begun = [path for path in named if path.endswith("/")]
        self._kv = kv
        self._files = ConsoleFiles()
        self._keyring = keyring
        self._access = access
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        accepts = dict(scope["headers"]).get(b"accept-encoding", b"")
        path, method = scope["path"], scope["method"]
        file = self._files.answer(path, method, accepts) or viewer_file(method, path, accepts)
        if file is not None:
            await file(scope, receive, send)
            return
        of_kv = scope["raw_path"].startswith(KV)
        try:
            who = self._let_in_to_keys(scope) if of_kv else self._let_in(scope)
            _take_key(scope)
        except Problem as refused:
            await refusal(refused)(scope, receive, send)
            return
        if of_kv:
            await self._kv(scope, receive, send)
            return
        if scope["method"] == "POST" and scope["path"] not in CHANGES_NOTHING:
            send = self._telling(who, scope, send)
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope) -> str:
        """The name of the sender. Raises Problem."""
        if scope["path"] in WITHOUT_TOKEN:
            return ""
        keys, access = self._keyring.now, self._access
        if not keys.tokens and access is None:
            return "anybody"
        shown = shown_in(scope["headers"])
        source, what = _source(scope), self._what(scope)
        if shown:
            self._audit.check_pace(source, shown)
        derived = _shows(shown, keys.tokens)
        if derived or _shows(shown, keys.former_tokens):
            self._audit.counters["admins_with_raw_secret"] += not derived
            self._audit.proven(source, shown)
            if access is not None:
                scope["dynamo_get"] = ()
            return "administrator"
        known = None
        if access is not None:
            names = partial(names_of, scope.get("dynamo_transport"))
            known = access.known(shown, names, what, Asker(source, source))
        elif shown:
            self._audit.credential_refused(what, source, "not a token of an administrator")
        if known is None:
            if not shown:
                self._audit.nothing_shown(what, source)
            detail = "needs Authorization: Bearer <output of `dynamoctl token`>"
            raise Problem(401, "unauthorized", detail)
        who = known.who
        scope["dynamo_get"] = who.get
        if who.admin:
            return who.name
        if who.list and (scope["method"], scope["path"]) == ("GET", "/v1/keys"):
            scope["dynamo_list"] = who.list
        else:
            self._audit.forbidden(who.name, what, source)
            raise forbidden(f"{who.name} is no administrator")
        return who.name

    def _let_in_to_keys(self, scope: Scope) -> str:
        """For `/v1/kv`: as on the client listener if the node has rights, else as for any other
        path. Puts the asker into the scope. Raises Problem."""
        source = _source(scope)
        asker = Asker(source, source)
        access = self._access
        if access is None:
            self._let_in(scope)
        else:
            shown = shown_in(scope["headers"])
            if shown:
                self._audit.check_pace(source, shown)
            keys = self._keyring.now
            if _shows(shown, keys.tokens) or _shows(shown, keys.former_tokens):
                self._audit.forbidden("administrator", self._what(scope), source)
                detail = "the administrators' token has no right to keys; show one that has"
                raise forbidden(detail)
            url = scope["raw_path"]
            head = (scope["method"], url, scope["headers"])
            # With a body announced or not, the right is checked before the body is read.
            asker = access.ask(asker, scope.get("dynamo_transport"), head, True)
        scope["dynamo_asker"] = asker
        return asker.share

    def _what(self, scope: Scope) -> str:
        """The request for an audit line, without text that a stranger chose: no key, no path that
        is of no route."""
        return f"{scope['method']} {self._named(scope['path'])}"

    def endpoint_of(self, url: bytes) -> str:
        """The same of a target, without the method."""
        return self._named(unquote_to_bytes(url.partition(b"?")[0]).decode("latin-1"))

    def _named(self, path: str) -> str:
        if path.startswith(KV.decode()):
            return KV.decode().rstrip("/")
        if path in self._whole:
            return path
        found = (begun for begun in self._begun if path.startswith(begun))
        return next(found, "another path")

    def _telling(self, who: str, scope: Scope, send: Send) -> Send:
        """A `send` that logs the change when its answer begins."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._audit.changed(who, self._what(scope), _source(scope), message["status"])
            await send(message)

        return told


def _source(scope: Scope) -> str:
    return holder(scope["client"][0]) if scope.get("client") else ""


def _take_key(scope: Scope) -> None:
    """The key of a path, from its raw bytes. Raises Problem."""
    raw = scope["raw_path"].partition(b"?")[0]
    before = keyed_by(raw.decode("latin-1"))
    if before:
        quoted = raw[len(before) :]
        key = unquote_to_bytes(quoted)
        if _BAD_ESCAPE.search(quoted) or not 1 <= len(key) <= KEY_BYTES_MAX:
            raise Problem(400, "bad-key", f"key: 1 to {KEY_BYTES_MAX} bytes, percent-encoded")
        scope["dynamo_key"] = key
        scope["path"] = before + "key"
    elif before := keyed_by(scope["path"]):
        raise Problem(404, "not-found", f"a path of a key begins with {before}, as it is sent")


def keyed_by(path: str) -> str:
    """The beginning of a path that ends with a key, "" for other paths."""
    return next((before for before in KEYED if path.startswith(before)), "")


def _shows(given: bytes, tokens: tuple[str, ...]) -> bool:
    """Whether the header has one of the tokens. Takes the same time for every wrong token."""
    found, shown = False, given[len(BEARER) :]
    for token in tokens:
        found |= compare_digest(shown, token.encode())
    return found and given[: len(BEARER)].lower() == BEARER
