"""Authentication and authorization of requests, for both listeners.

A credential is a bearer token (the node knows only its SHA-256), a ServiceAccount token of
Kubernetes, or the client certificate of the connection. If a request has a token, only the token
counts: a wrong token is refused even if the certificate is good. The node looks a name up in the
current rights. When their file changes, all rights are replaced at once.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from math import inf
from typing import Any, NamedTuple

from dynamo_node.audit import Audit
from dynamo_node.clock import now_s
from dynamo_node.http_codec import key_of, wants_values
from dynamo_node.problems import Problem
from dynamo_node.rights import Rights, Who
from dynamo_node.service_accounts import ServiceAccounts
from dynamo_node.tls import names_of

BEARER = b"bearer "
KV, BATCH = b"/v1/kv/", b"/v1/batch"
VERBS = {"GET": "get", "HEAD": "get", "PUT": "put", "DELETE": "delete"}
"""What a request does with its key."""
Head = tuple[str, bytes, list[tuple[bytes, bytes]]]
"""Method, path with query, and fields of a request; field names in lower case. A plain tuple is
cheap."""
Names = Callable[[], tuple[str, ...]]
"""Returns the names in the certificate of the connection."""


class Known(NamedTuple):
    """The name of a credential, its rights, and the time until which it is valid, in seconds."""

    who: Who
    rights: Rights
    until: float
    shown: bytes
    """The Authorization header; the next request with the same header needs no new check."""

    def holds(self, rights: Rights, shown: bytes) -> bool:
        """Whether the next request of the connection needs no new check."""
        return self.rights is rights and self.shown == shown and now_s() < self.until


class Asker(NamedTuple):
    """Who sends a request: the address, the name whose share an operation takes (T-5), and the
    credential if the listener asks for one and knows it."""

    address: str
    share: str
    known: Known | None = None


UNNAMED = Asker("", "")


def shown_in(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The `Authorization` of a request, b"" for none. Names are lower case. Raises Problem."""
    found = b""
    for name, value in headers:
        if name == b"authorization":
            if found:
                raise Problem(400, "bad-parameter", "authorization: given twice")
            found = value
    return found


def unauthorized(detail: str = "") -> Problem:
    """401: this node does not know the credential of the request."""
    wants = "wants Authorization: Bearer and a token, or a client certificate"
    head = b"WWW-Authenticate: Bearer\r\nDynamo-Applied: no\r\n"
    return Problem(401, "unauthorized", detail or wants, head)


def forbidden(detail: str) -> Problem:
    """403: the name is known and has no right to this. The answer does not tell what exists."""
    return Problem(403, "forbidden", detail, b"Dynamo-Applied: no\r\n")


class Access:
    """The rights of a node, its ServiceAccounts, and its log of refusals."""

    def __init__(self, rights: Rights, accounts: ServiceAccounts | None, audit: Audit) -> None:
        self.rights = rights
        self.accounts = accounts
        self.audit = audit

    def take(self, rights: Rights) -> None:
        """Use these rights from now on, on open connections too."""
        self.rights = rights

    def take_keys(self) -> None:
        """Read the keys of ServiceAccounts again; tokens on open connections are verified again,
        too. Raises BadRights and then changes nothing."""
        if self.accounts is not None:
            self.accounts.take()
            self.rights = copy(self.rights)  # another object: no connection has been checked by it

    def ask(self, last: Asker, transport: Any, head: Head, has_body: bool) -> Asker:
        """Find out who sends a request, from its head; `last` sent the request before on this
        connection. Raises Problem if the credential is not valid, or if a request with a body has
        no right to it: then its body is not read. All other rights are checked where the work is
        done."""
        method, url, headers = head
        known, shown = last.known, shown_in(headers)
        if known is None or not known.holds(self.rights, shown):
            what = f"{method} {endpoint_of(url)}"
            known = self.known(shown, partial(names_of, transport), what, last)
            share = last.address if known is None else known.who.name
            last = Asker(last.address, share, known)
        if has_body:
            self.allow(last, head)
        return last

    def known(self, shown: bytes, names: Names, what: str, last: Asker) -> Known | None:
        """The owner of the credential, or None if the request has none. Raises Problem: 401 if the
        credential is not valid, 429 if this address has shown too many wrong ones."""
        if not shown:
            own = names()
            return Known(self.rights.of_certificate(own), self.rights, inf, shown) if own else None
        fresh = last.known is None or last.known.shown != shown
        if fresh:
            self.audit.check_pace(last.address, shown)
        found = self._of_token(shown)
        if found is None:
            self.audit.credential_refused(what, last.address, "unknown or expired")
            raise unauthorized("the credential in Authorization is unknown or expired")
        if fresh:
            self.audit.proven(last.address, shown)
        return found

    def _of_token(self, shown: bytes) -> Known | None:
        if shown[: len(BEARER)].lower() != BEARER:
            return None
        token, rights = shown[len(BEARER) :].strip(), self.rights
        if (who := rights.of_token(token)) is not None:
            return Known(who, rights, inf, shown)
        if self.accounts is not None and token.count(b".") == 2:
            account = self.accounts.account_of(token)
            if account is not None:
                return Known(rights.of_account(account.name), rights, account.until, shown)
        return None

    def allow(self, asker: Asker, head: Head) -> None:
        """Check the rights of a request on the client listener before its body is read. For a
        batch: the name has a right to some key; `may` checks each item. Raises Problem."""
        method, url, headers = head
        if asker.known is None:
            self.audit.nothing_shown(f"{method} {endpoint_of(url)}", asker.address)
            raise unauthorized()
        who = asker.known.who
        if url.startswith(KV):
            verb = VERBS.get(method)
            if verb is None:
                return  # the answer will be 405
            path = url[len(KV) :]
            if b"?" in path:
                path = path.partition(b"?")[0]
            key = key_of(path) if b"%" in path else path
            allowed = key.startswith(getattr(who, verb))
            if allowed and verb == "put" and _shows_values(headers):
                allowed = key.startswith(who.get)
        elif url.partition(b"?")[0] == BATCH:
            allowed = who.data
        else:
            allowed = who.anything
        if not allowed:
            self.audit.forbidden(who.name, f"{method} {endpoint_of(url)}", asker.address)
            raise forbidden(f"{who.name} has no right to this")


def may(who: Who, verb: str, key: bytes) -> bool:
    """Whether a name has the right to this verb on this key."""
    prefixes: tuple[bytes, ...] = getattr(who, verb)
    return key.startswith(prefixes)


def _shows_values(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a put asks for all values in its answer, as a get does. A loop, because a generator
    would cost as much as the rest of the check."""
    found = False
    for name, value in headers:
        if name == b"prefer":
            found = found or wants_values(value)
    return found


def endpoint_of(url: bytes) -> str:
    """The path for an audit line: without a key, and without text that a stranger chose."""
    if url.startswith(KV):
        return "/v1/kv"
    path = url.partition(b"?")[0]
    return path.decode() if path in (BATCH, b"/v1/ring") else "another path"


def unasked(secret: bool, access: Access | None) -> list[str]:
    """Lines for the log at the start: which clients are not asked who they are."""
    told = []
    if not secret:
        told.append("no cluster secret: peers and administrators are not asked who they are")
    if access is None:
        told.append("no access_file: clients are not asked who they are")
    return told
