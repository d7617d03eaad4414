"""Who asks, and whether they may: what both listeners ask of the credentials of a request.

A credential is a bearer token, of which only the SHA-256 is known here, a ServiceAccount token of
Kubernetes, or the client certificate of the connection. A token that is shown counts alone: one
that does not hold is refused, also beside a good certificate. What a name may do is looked up in
the rights of this moment, which are replaced as a whole when their file changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, NamedTuple

from dynamo_node.audit import Audit
from dynamo_node.clock import now_s
from dynamo_node.http_codec import key_of
from dynamo_node.problems import Problem
from dynamo_node.rights import Rights, Who
from dynamo_node.service_accounts import ServiceAccounts
from dynamo_node.tls import names_of

BEARER = b"bearer "
KV, BATCH = b"/v1/kv/", b"/v1/batch"
VERBS = {"GET": "get", "HEAD": "get", "PUT": "put", "DELETE": "delete"}
"""What a request does with its key."""
Head = tuple[str, bytes, list[tuple[bytes, bytes]]]
"""Of a request: method, target, fields by lower case names. No named tuple: it is made for each."""
Names = Callable[[], tuple[str, ...]]
"""Those of the certificate that the connection has shown."""


class Known(NamedTuple):
    """The name behind a credential, its rights, and until when they hold, in seconds."""

    who: Who
    rights: Rights
    until: float
    shown: bytes
    """The header, which a further request of the connection is compared with."""

    def holds(self, rights: Rights, shown: bytes) -> bool:
        """Whether a further request of the connection need not be looked at anew."""
        return self.rights is rights and self.shown == shown and now_s() < self.until


class Asker(NamedTuple):
    """Who asks: from where, whose share an operation takes (T-5), and who that is, where it is
    asked and known."""

    address: str
    share: str
    known: Known | None = None


NOBODY = Asker("", "")


def shown_in(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The `Authorization` of a request, b"" for none. Raises Problem. Names are lower case."""
    found = b""
    for name, value in headers:
        if name == b"authorization":
            if found:
                raise Problem(400, "bad-parameter", "authorization: given twice")
            found = value
    return found


def unauthorized(detail: str = "") -> Problem:
    """401: what the client has shown names no one that this node knows."""
    wants = "wants Authorization: Bearer and a token, or a client certificate"
    head = b"WWW-Authenticate: Bearer\r\nDynamo-Applied: no\r\n"
    return Problem(401, "unauthorized", detail or wants, head)


def forbidden(detail: str) -> Problem:
    """403: the name is known and has no right to this. The answer does not tell what is there."""
    return Problem(403, "forbidden", detail, b"Dynamo-Applied: no\r\n")


class Access:
    """The rights of a node, its ServiceAccounts, and what is told of refusals."""

    def __init__(self, rights: Rights, accounts: ServiceAccounts | None, audit: Audit) -> None:
        self.rights = rights
        self.accounts = accounts
        self.audit = audit

    def take(self, rights: Rights) -> None:
        """From now on these, on connections that are open too."""
        self.rights = rights

    def ask(self, last: Asker, transport: Any, head: Head, has_body: bool) -> Asker:
        """Who asks, by what the head of a request shows; `last` asked before on this connection.
        Raises Problem: what is shown does not hold, or a body is announced that would not be taken,
        which is not read then. What else may not be is refused where it would be done."""
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
        """Who shows that; None where nothing is shown. Raises Problem: what is shown does not hold
        (401), or is not looked at for now (429)."""
        if not shown:
            own = names()
            return Known(self.rights.of_certificate(own), self.rights, inf, shown) if own else None
        if last.known is None or last.known.shown != shown:
            self.audit.check_pace(last.address)
        found = self._of_token(shown)
        if found is None:
            self.audit.credential_refused(what, last.address, "not known, or not valid any more")
            raise unauthorized("what Authorization has is not known, or not valid any more")
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
        """Whether a request of the client listener may be done, its body unread. Of a batch: that
        there is any key for it; `may` is asked for each item. Raises Problem."""
        if asker.known is None:
            self.audit.counters["requests_without_credential"] += 1
            raise unauthorized()
        method, url, headers = head
        who = asker.known.who
        if url.startswith(KV):
            verb = VERBS.get(method)
            if verb is None:
                return  # 405 follows
            target = url[len(KV) :].partition(b"?")[0]
            key = key_of(target) if b"%" in target else target
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
    """Whether a name may do that with a key."""
    prefixes: tuple[bytes, ...] = getattr(who, verb)
    return key.startswith(prefixes)


def _shows_values(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a put asks to be answered as a get is, with all values that are there."""
    found = False
    for name, value in headers:
        if name == b"prefer":
            found = found or b"representation" in value.lower()
    return found


def endpoint_of(url: bytes) -> str:
    """What an audit line may say of a target: no key, and nothing that a stranger made up."""
    if url.startswith(KV):
        return "/v1/kv"
    path = url.partition(b"?")[0]
    return path.decode() if path in (BATCH, b"/v1/ring") else "another path"


def unasked(secret: bool, access: Access | None) -> list[str]:
    """Who may do all without being asked who they are, as the log of a start tells it."""
    told = []
    if not secret:
        told.append("no cluster secret: peers and administrators are not asked who they are")
    if access is None:
        told.append("no access_file: clients are not asked who they are")
    return told
