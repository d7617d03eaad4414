"""What the admin listener answers: documents, and errors as problems (RFC 9457)."""

from __future__ import annotations

from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from dynamo_core.node import Node
from dynamo_node.link_ends import LinkEnds
from dynamo_node.problems import Problem

T = TypeVar("T")


def problem(status: int, slug: str, detail: str, **members: Any) -> Response:
    """An error of the admin listener, as RFC 9457 has it."""
    return refusal(Problem(status, slug, detail, **members))


def refusal(refused: Problem) -> Response:
    """A refusal, with the fields that it has on the client listener too."""
    headers = {"Retry-After": str(refused.retry_after_s)} if refused.waits else {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = msgspec.json.encode(refused.document())
    made = Response(body, refused.status, headers, "application/problem+json")
    for line in refused.head.decode("latin-1").split("\r\n")[:-1]:
        name, _, value = line.partition(": ")
        made.headers[name] = value
    return made


def answer(status: int, body: MutableMapping[str, Any]) -> Response:
    """What the core answered: a document, or an error in its own words."""
    if "problem" in body:
        return problem(status, body.pop("problem"), body.pop("detail"), **body)
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def query_of(request: Request, kind: type[T]) -> T:
    """The query: only known parameters, each given once. Raises Problem."""
    pairs = request.query_params.multi_items()
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Problem(400, "bad-parameter", "query: a parameter is given twice")
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, "bad-parameter", f"query: {error}") from None


def durability(node: Node) -> str:
    """ "ok"; "memory" if a restart loses everything (S-RW-3); or the time since which fsyncs stall
    (S-RW-8)."""
    if node.settings.volatile:
        return "memory"
    if not node.stalled:
        return "ok"
    since = datetime.fromtimestamp(node.durability.since_ms / 1000, UTC)
    return "fsyncs stall since " + since.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def tls_word(ends: LinkEnds) -> dict[str, Any]:
    """How links are made and taken, and which certificate and authorities the node has now."""
    known = ends.certificates
    return {
        "peers": ends.tls,
        "certificate": known.mark if known else "",
        "not_after": known.not_after if known else "",
        "authorities": list(known.authorities) if known else [],
    }
