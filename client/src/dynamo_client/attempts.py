"""One request until it is answered for good: attempts, back-off, and what is known if none is.

A request is sent again, the same id on it, after a lost connection, a 429 or a 5xx; to another node
if there is one. Of 4xx only a 429 is tried again. An operation that fails is `unknown` if any of
its attempts may have stored something, whatever later ones say (docs/rules.md). All attempts and
the pauses between end within the deadline of the operation. Of several errors the most telling one
is raised: what a node said of its quorum says more than the address that did not answer after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple
from urllib.parse import unquote

from dynamo_client.errors import (
    ClientError,
    ConnectionFailed,
    Draining,
    InsufficientOwners,
    NotAMember,
    Overloaded,
    QuorumNotMet,
    Unavailable,
)
from dynamo_client.problems import error_of, problem_of
from dynamo_client.routing import Routes
from dynamo_client.steps import Ask, Failure, Pause, Reply, Steps

BACK_OFF_S, BACK_OFF_S_MAX = 0.05, 2.0
RETRY_AFTER_S_MAX = 10.0
"""A node that asks for a longer pause is not waited for: the caller gets `retry_after_s`."""
NODE_TIMEOUT_MS_MAX = 30_000
NODE_SHARE = 0.9
"""Of the time of an attempt the node hears of less, so that its own honest answer is here before
the client stops listening."""


class Request(NamedTuple):
    """What is asked, of any node; `writes` unless it can have no effect. Where the target has a
    query of ours (`timed`), each attempt tells the node how long it has."""

    key: bytes | None
    method: str
    target: str
    headers: Mapping[str, str]
    content: bytes = b""
    writes: bool = False
    timed: bool = False


@dataclass(frozen=True)
class Attempts:
    """How the requests of one operation are tried. `draw` gives numbers in [0, 1); `timeout_s` is
    how long one attempt may take, `ends_at` when all is over, by the clock of `routes`;
    `traceparent` goes with each request, "" for none."""

    routes: Routes
    attempts_max: int
    draw: Callable[[], float]
    timeout_s: float = 2.0
    ends_at: float = inf
    traceparent: str = ""

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.ends_at - self.routes.now()

    def within(self, seconds: float) -> Attempts:
        """The same, with an end after `seconds`, or earlier if its end is earlier."""
        return replace(self, ends_at=min(self.ends_at, self.routes.now() + seconds))

    def few(self, attempts_max: int) -> Attempts:
        """The same with at most `attempts_max` attempts."""
        return replace(self, attempts_max=min(attempts_max, self.attempts_max))

    def refresh(self) -> Steps[None]:
        """The ring, when it is due."""
        if self.routes.refresh_due():
            known = {"If-None-Match": self.routes.etag} if self.routes.etag else {}
            url = self.routes.choose(None)
            timeout_s = min(self.timeout_s, self.left_s / 2)
            heard = yield Ask("GET", url + "/v1/ring", known, timeout_s=timeout_s)
            if isinstance(heard, Failure):
                self.routes.failed(url)
            self.routes.learn(heard)

    def back_off(self, attempt: int) -> Pause:
        """Before attempt 1, 2, ...: full jitter, so that clients do not come back as one."""
        return Pause(self.draw() * min(BACK_OFF_S_MAX, BACK_OFF_S * 2 ** min(attempt, 16)))

    def attempt_s(self, attempt: int) -> float:
        """How long this attempt may take: one that others may follow leaves them half of what is
        left until the deadline."""
        last = attempt == self.attempts_max - 1
        return min(self.timeout_s, self.left_s if last else self.left_s / 2)

    def ask(self, request: Request) -> Steps[Reply]:
        """An answer below 400, or a 404. Raises ClientError."""
        routes = self.routes
        tried: list[str] = []
        held_until: dict[str, float] = {}
        story = _Story()
        for attempt in range(self.attempts_max):
            if request.key is not None and self.left_s > 0:
                yield from self.refresh()
            url = routes.choose(request.key, tried)
            pause_s = max(routes.held_s(url), held_until.get(url, 0.0) - routes.now())
            if pause_s > RETRY_AFTER_S_MAX or pause_s >= self.left_s:
                if not attempt and pause_s > 0:
                    story.tell(url, _held(url, pause_s))
                break
            if attempt and (url in tried or not isinstance(story.last, ConnectionFailed)):
                pause_s = max(pause_s, self.back_off(attempt).seconds)
            if pause_s >= self.left_s:
                break
            if pause_s > 0:
                yield Pause(pause_s)
            tried.append(url)
            heard = yield self._ask_of(url, request, attempt)
            if isinstance(heard, Reply):
                routes.answered(url, request.key, node_of(heard))
                if heard.status < 400 or heard.status == 404:
                    return heard._replace(doubt=story.doubt)
                error = error_of_reply(heard)
                story.tell(url, error)
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
                story.tell(url, _no_answer(url, heard))
        raise story.end(request.writes)

    def _ask_of(self, url: str, request: Request, attempt: int) -> Ask:
        timeout_s = self.attempt_s(attempt)
        target = url + request.target
        if request.timed:
            target += f"timeout_ms={node_ms(timeout_s)}"
        headers = request.headers
        if self.traceparent:
            headers = {**headers, "traceparent": self.traceparent}
        return Ask(request.method, target, headers, request.content, timeout_s)


class _Story:
    """What came of the attempts so far."""

    def __init__(self) -> None:
        self.error: ClientError | None = None
        self.last: ClientError | None = None
        self.doubt = False
        self._attempts: list[str] = []

    def tell(self, url: str, error: ClientError) -> None:
        """One more attempt has failed."""
        self.last = error
        self.doubt |= error.applied == "unknown"
        self._attempts.append(f"{url}: {error.detail.removeprefix(url + ': ')}")
        if self.error is None or _telling(error) >= _telling(self.error):
            self.error = error

    def end(self, writes: bool) -> ClientError:
        """The most telling error, the last one of these, with all attempts in it."""
        error = self.error or ConnectionFailed("deadline_s: too short for an attempt")
        error.applied = "unknown" if self.doubt and writes else "no"
        error.attempts = tuple(self._attempts)
        return error


def _telling(error: ClientError) -> int:
    """How much an error says: of the request itself, of the quorum, of a node, of an address."""
    if isinstance(error, QuorumNotMet | InsufficientOwners):
        return 2
    if isinstance(error, Unavailable):
        return 1
    return 0 if isinstance(error, ConnectionFailed) else 3


def _held(url: str, pause_s: float) -> ClientError:
    error = Overloaded(f"{url} wants no request for {pause_s:.0f} s")
    error.retry_after_s = pause_s
    return error


def _no_answer(url: str, heard: Failure) -> ClientError:
    error = ConnectionFailed(f"{url}: {heard.reason}")
    error.applied = "unknown" if heard.sent else "no"
    return error


def node_ms(timeout_s: float) -> int:
    """The timeout that a node gets for an attempt of `timeout_s` seconds, in milliseconds."""
    return max(1, min(int(timeout_s * 1000 * NODE_SHARE), NODE_TIMEOUT_MS_MAX))


def node_of(reply: Reply) -> str:
    """The coordinator that an answer names, "" for none."""
    return unquote(reply.headers.get("dynamo-node", ""))


def error_of_reply(reply: Reply) -> ClientError:
    """The error that an answer of 400 and more is."""
    headers = reply.headers
    applied, retry_after = headers.get("dynamo-applied", ""), headers.get("retry-after", "")
    return error_of(reply.status, problem_of(reply.body), applied, retry_after)
