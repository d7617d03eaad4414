"""Errors from a node's answers: by the slug of the problem, else by the status."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from dynamo_client import errors
from dynamo_client.errors import ClientError
from dynamo_client.versions import Acks

# fmt: off
_BY_SLUG: dict[str, type[ClientError]] = {
    "bad-key": errors.BadKey, "bad-context": errors.BadContext,
    "bad-parameter": errors.BadParameter, "value-too-large": errors.ValueTooLarge,
    "request-id-reused": errors.RequestIdReused,
    "too-many-siblings": errors.TooManySiblings, "not-found": errors.NotFound,
    "quorum-not-met": errors.QuorumNotMet, "insufficient-owners": errors.InsufficientOwners,
    "not-a-member": errors.NotAMember, "overloaded": errors.Overloaded,
    "draining": errors.Draining, "unauthorized": errors.Unauthorized,
    "forbidden": errors.Forbidden,
    "not-lost": errors.Conflict, "plan-changed": errors.Conflict, "superseded": errors.Conflict,
    "wrong-cluster": errors.Conflict, "method-not-allowed": errors.BadRequest,
    "unsupported-framing": errors.BadRequest,
}
_BY_STATUS: dict[int, type[ClientError]] = {
    401: errors.Unauthorized, 403: errors.Forbidden, 404: errors.NotFound, 409: errors.Conflict,
    413: errors.ValueTooLarge, 429: errors.Overloaded,
}
# fmt: on


def problem_of(body: bytes) -> dict[str, Any]:
    """The problem document (RFC 9457) in an answer, {} if there is none."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def error_of(
    status: int, problem: Mapping[str, Any], applied: str = "", retry_after: str = ""
) -> ClientError:
    """The error of an answer; `applied` and `retry_after` are its headers, "" if there are none."""
    slug = str(problem.get("type", "")).rpartition("/problems/")[2]
    kind = _BY_SLUG.get(slug) or _BY_STATUS.get(status)
    if kind is None:
        kind = errors.BadRequest if 400 <= status < 500 else errors.BadAnswer
        kind = errors.Unavailable if status >= 500 else kind
    detail = str(problem.get("detail") or f"answered {status}")
    error = kind(detail, status, slug)
    if status >= 500 and applied != "no":
        error.applied = "unknown"
    if isinstance(error, errors.TooManySiblings):
        error.context = problem.get("context")
    if isinstance(error, errors.Conflict):
        error.document = problem
    if isinstance(error, errors.Unavailable):
        with suppress(LookupError, msgspec.ValidationError):
            error.acks = msgspec.convert(problem["acks"], Acks)
        if retry_after.isdigit():
            error.retry_after_s = float(retry_after)
    return error
