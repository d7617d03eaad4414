"""Answers of the client listener before they become HTTP, and the errors among them (RFC 9457)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

PROBLEMS = "https://dynamo-ring.dev/problems/"
FIXED_HEAD = b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
"""Lines of every answer."""
RETRY_AFTER_S = 1
"""What 429 and 503 say where the node cannot know when it will have room."""
_DETAILS = {
    "not-a-member": "this node is in no ring",
    "draining": "this node is stopping; ask another one",
    "overloaded": "this node has too many operations under way; nothing was done",
    "not-found": "the key has no value",
}


class Answer(NamedTuple):
    """`head` is complete lines, each with CRLF, without Content-Length and Connection."""

    status: int
    head: bytes
    body: bytes = b""


class Problem(Exception):
    """A refused request; `head` and `members` go into the answer. `retry_after_s` is for 429 and
    503."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        head: bytes = b"",
        *,
        retry_after_s: int = RETRY_AFTER_S,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail = status, slug, detail
        self.head, self.members = head, members
        self.retry_after_s = retry_after_s

    @property
    def waits(self) -> bool:
        """Whether the answer says when to ask again."""
        return self.status in (429, 503)

    def document(self) -> dict[str, Any]:
        """The problem as data; `slug` is from docs/http-api.md, "" if the status says enough."""
        return {
            "type": PROBLEMS + self.slug if self.slug else "about:blank",
            "title": self.slug.replace("-", " ") or "error",
            "status": self.status,
            "detail": self.detail or _DETAILS.get(self.slug, self.slug.replace("-", " ")),
            **self.members,
        }

    def answer(self) -> Answer:
        """The problem as an answer."""
        retry = b"Retry-After: %d\r\n" % self.retry_after_s if self.waits else b""
        head = b"Content-Type: application/problem+json\r\n" + FIXED_HEAD + retry + self.head
        return Answer(self.status, head, msgspec.json.encode(self.document()))


def bad_parameter(field: str, detail: str) -> Problem:
    """400 that names the wrong part of the request."""
    return Problem(400, "bad-parameter", f"{field}: {detail}")


def not_allowed(*methods: str) -> Problem:
    """405 with the methods that are allowed."""
    allow = ", ".join(methods)
    return Problem(
        405, "method-not-allowed", f"only {allow}", f"Allow: {allow}\r\n".encode(), allow=methods
    )
