"""One request until it is answered for good: attempts, back-off, and what is known if none is.

A request is sent again, the same id on it, after a lost connection, a 429 or a 5xx; to another node
if there is one. Of 4xx only a 429 is tried again. An operation that fails is `unknown` if any of
its attempts may have stored something, whatever later ones say (semantics.md §1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from dynamo_client.errors import (
    ClientError,
    ConnectionFailed,
    Draining,
    NotAMember,
    Overloaded,
    Unavailable,
)
from dynamo_client.problems import error_of, problem_of
from dynamo_client.routing import Routes
from dynamo_client.steps import Ask, Failure, Pause, Reply, Steps

BACK_OFF_S, BACK_OFF_S_MAX = 0.05, 2.0
RETRY_AFTER_S_MAX = 10.0
"""Who asks for a longer pause is not waited for: the caller hears `retry_after_s`."""


class Request(NamedTuple):
    """What is asked, of whomever; `writes` unless it can have no effect."""

    key: bytes | None
    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes = b""
    writes: bool = False


@dataclass
class Attempts:
    """How all operations of a client are tried. `draw` gives numbers in [0, 1)."""

    routes: Routes
    attempts_max: int
    draw: Callable[[], float]

    def refresh(self) -> Steps[None]:
        """The ring, when it is due."""
        if self.routes.refresh_due():
            known = {"If-None-Match": self.routes.etag} if self.routes.etag else {}
            url = self.routes.choose(None)
            heard = yield Ask("GET", url + "/v1/ring", known)
            if isinstance(heard, Failure):
                self.routes.failed(url)
            self.routes.learn(heard)

    def back_off(self, attempt: int) -> Pause:
        """Before attempt 1, 2, ...: full jitter, so that clients do not come back as one."""
        return Pause(self.draw() * min(BACK_OFF_S_MAX, BACK_OFF_S * 2 ** min(attempt, 16)))

    def ask(self, request: Request) -> Steps[Reply]:
        """An answer below 400, or a 404. Raises ClientError."""
        routes = self.routes
        tried: list[str] = []
        held_until: dict[str, float] = {}
        error: ClientError = ConnectionFailed("no attempt was made")
        doubt = False
        for attempt in range(self.attempts_max):
            if request.key is not None:
                yield from self.refresh()
            url = routes.choose(request.key, tried)
            pause_s = max(routes.held_s(url), held_until.get(url, 0.0) - routes.now())
            if pause_s > RETRY_AFTER_S_MAX:
                if not attempt:
                    error = Overloaded(f"{url} wants no request for {pause_s:.0f} s")
                    error.retry_after_s = pause_s
                break
            if attempt and (url in tried or not isinstance(error, ConnectionFailed)):
                pause_s = max(pause_s, self.back_off(attempt).seconds)
            if pause_s > 0:
                yield Pause(pause_s)
            tried.append(url)
            target = url + request.target
            heard = yield Ask(request.method, target, request.headers, request.content)
            if isinstance(heard, Reply):
                routes.answered(url, request.key, node_of(heard))
                if heard.status < 400 or heard.status == 404:
                    return heard._replace(doubt=doubt)
                error = error_of_reply(heard)
                if not isinstance(error, Unavailable):
                    break
                if isinstance(error, Overloaded | Draining | NotAMember):
                    routes.hold(url, error.retry_after_s or 0.0)
                else:
                    routes.doubt(url)
                    held_until[url] = routes.now() + (error.retry_after_s or 0.0)
            else:
                assert isinstance(heard, Failure)
                routes.failed(url)
                error = ConnectionFailed(f"{url}: {heard.reason}")
                error.applied = "unknown" if heard.sent else "no"
            doubt |= error.applied == "unknown"
        error.applied = "unknown" if doubt and request.writes else "no"
        raise error


def node_of(reply: Reply) -> str:
    """The coordinator that an answer names, "" for none."""
    return unquote(reply.headers.get("dynamo-node", ""))


def error_of_reply(reply: Reply) -> ClientError:
    """The error that an answer of 400 and more is."""
    headers = reply.headers
    applied, retry_after = headers.get("dynamo-applied", ""), headers.get("retry-after", "")
    return error_of(reply.status, problem_of(reply.body), applied, retry_after)
