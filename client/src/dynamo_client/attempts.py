"""One request with its attempts: back-off, and what is known when no attempt succeeds.

A request is sent again, with the same id, after a lost connection, a 429 or a 5xx; to another node
if there is one. Of 4xx only a 429 is repeated. A failed operation is `unknown` if any of its
attempts may have stored something, also if later attempts fail (docs/rules.md). All attempts and
the pauses between them end within the deadline of the operation. Of several errors, the most
informative one is raised: a node's answer about its quorum says more than a later address without
an answer.
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
"""The client does not wait for a longer pause: the caller gets `retry_after_s`."""
NODE_TIMEOUT_MS_MAX = 30_000
NODE_SHARE = 0.9
"""The node is told this part of an attempt's time, so that its answer arrives before the client
stops waiting."""


class Request(NamedTuple):
    """A request to any node; `writes` is false only if it can have no effect. If the path has a
    query of ours (`timed`), each attempt adds the time that the node has."""

    key: bytes | None
    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes = b""
    writes: bool = False
    timed: bool = False


@dataclass(frozen=True)
class Attempts:
    """How the requests of one operation are repeated. `draw` gives numbers in [0, 1); `timeout_s`
    is the maximum time of one attempt, `ends_at` the end of the operation, by the clock of
    `routes`; `traceparent` goes with each request, "" means none."""

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
        """The same, but it ends after `seconds`, or earlier if its own end is earlier."""
        return replace(self, ends_at=min(self.ends_at, self.routes.now() + seconds))

    def few(self, attempts_max: int) -> Attempts:
        """The same with at most `attempts_max` attempts."""
        return replace(self, attempts_max=min(attempts_max, self.attempts_max))

    def refresh(self) -> Steps[None]:
        """Fetches the ring if it is due."""
        if self.routes.refresh_due():
            known = {"If-None-Match": self.routes.etag} if self.routes.etag else {}
            url = self.routes.choose(None)
            timeout_s = min(self.timeout_s, self.left_s / 2)
            heard = yield Ask("GET", url + "/v1/ring", known, timeout_s=timeout_s)
            if isinstance(heard, Failure) and heard.asked:
                self.routes.failed(url)
            self.routes.learn(heard)

    def back_off(self, attempt: int) -> Pause:
        """The pause before attempt 1, 2, ...: full jitter, so that clients return one by one."""
        return Pause(self.draw() * min(BACK_OFF_S_MAX, BACK_OFF_S * 2 ** min(attempt, 16)))

    def attempt_s(self, attempt: int) -> float:
        """Maximum time of this attempt: half of the remaining time if others may follow."""
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
                if heard.asked:
                    routes.failed(url)
                story.tell(url, _no_answer(url, heard))
        raise story.end(request.writes)

    def _ask_of(self, url: str, request: Request, attempt: int) -> Ask:
        timeout_s = self.attempt_s(attempt)
        path = url + request.path
        if request.timed:
            path += f"timeout_ms={node_ms(timeout_s)}"
        headers = request.headers
        if self.traceparent:
            headers = {**headers, "traceparent": self.traceparent}
        return Ask(request.method, path, headers, request.content, timeout_s, self.left_s)


class _Story:
    """The results of the attempts until now."""

    def __init__(self) -> None:
        self.error: ClientError | None = None
        self.last: ClientError | None = None
        self.doubt = False
        self._attempts: list[str] = []

    def tell(self, url: str, error: ClientError) -> None:
        """Adds a failed attempt."""
        self.last = error
        self.doubt |= error.applied == "unknown"
        self._attempts.append(f"{url}: {error.detail.removeprefix(url + ': ')}")
        if self.error is None or _telling(error) >= _telling(self.error):
            self.error = error

    def end(self, writes: bool) -> ClientError:
        """The most informative error, the last one of several, with all attempts in it."""
        error = self.error or ConnectionFailed("deadline_s: too short for an attempt")
        error.applied = "unknown" if self.doubt and writes else "no"
        error.attempts = tuple(self._attempts)
        return error


def _telling(error: ClientError) -> int:
    """How informative an error is: address, node, quorum, the request itself."""
    if isinstance(error, QuorumNotMet | InsufficientOwners):
        return 2
    if isinstance(error, Unavailable):
        return 1
    return 0 if isinstance(error, ConnectionFailed) else 3


def _held(url: str, pause_s: float) -> ClientError:
    error = Overloaded(f"{url} asked for a pause of {pause_s:.0f} s")
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
    """The coordinator that an answer names, "" if it names none."""
    return unquote(reply.headers.get("dynamo-node", ""))


def error_of_reply(reply: Reply) -> ClientError:
    """The error of an answer with a status from 400."""
    headers = reply.headers
    applied, retry_after = headers.get("dynamo-applied", ""), headers.get("retry-after", "")
    return error_of(reply.status, problem_of(reply.body), applied, retry_after)
