"""What the admin listener answers: documents, and errors as problems (RFC 9457)."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import msgspec
from fastapi import Response

from dynamo_node.problems import PROBLEMS


class Problem(Exception):
    """An error on its way to the client."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.slug, self.detail = status, slug, detail


def problem(status: int, slug: str, detail: str, **members: Any) -> Response:
    """RFC 9457; `slug` is one of docs/http-api.md, or "" where the status says all."""
    body = {
        "type": PROBLEMS + slug if slug else "about:blank",
        "title": slug.replace("-", " ") or "error",
        "status": status,
        "detail": detail,
        **members,
    }
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), status, headers, "application/problem+json")


def answer(status: int, body: MutableMapping[str, Any]) -> Response:
    """What the core answered: a document, or an error in its own words."""
    if "problem" in body:
        return problem(status, body.pop("problem"), body.pop("detail"), **body)
    return Response(msgspec.json.encode(body), status, media_type="application/json")
