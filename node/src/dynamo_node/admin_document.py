"""What the admin listener takes and how it describes itself: bodies, OpenAPI, the docs page.

The OpenAPI document covers both listeners, as the client listener answers keys and nothing else.
"""

from __future__ import annotations

from html import escape
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dynamo_node.batch import BatchRequest

MEMBERS_MAX = 1024
Word = Annotated[str, Meta(min_length=1, max_length=253)]
OperationId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
Count = Annotated[int, Meta(ge=1, le=1024)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Every changing request may name the cluster that it is for (S-RING-5)."""

    cluster_id: Annotated[str, Meta(max_length=253)] | UnsetType = UNSET


class Founder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A member of a ring to be."""

    name: Word
    address: Annotated[str, Meta(pattern=r"^[^\s@]+:\d{1,5}$", max_length=300)]
    zone: Annotated[str, Meta(max_length=253)] = ""
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1


class CreateRing(Body):
    """POST /v1/ring."""

    members: Annotated[list[Founder], Meta(min_length=1, max_length=MEMBERS_MAX)]
    partitions: Annotated[int, Meta(ge=16, le=4096)] | UnsetType = UNSET
    n: Count | UnsetType = UNSET
    r: Count | UnsetType = UNSET
    w: Count | UnsetType = UNSET
    dw: Count | UnsetType = UNSET
    sloppy: bool | UnsetType = UNSET
    conflicts: Literal["Siblings", "LastWriteWins"] | UnsetType = UNSET


class HandMove(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One wish by hand: `partition` from one node to another, or `tokens` to one, from a node, from
    nodes of a zone, or from whoever is fullest."""

    to: Word
    source: Word | UnsetType = msgspec.field(name="from", default=UNSET)
    partition: Annotated[int, Meta(ge=0, lt=4096)] | UnsetType = UNSET
    tokens: Annotated[int, Meta(ge=1, le=4096)] | UnsetType = UNSET
    zone: Annotated[str, Meta(max_length=253)] | UnsetType = UNSET


class Defaults(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Those of the ring's defaults that are to be others (S-RING-3)."""

    r: Count | UnsetType = UNSET
    w: Count | UnsetType = UNSET
    dw: Count | UnsetType = UNSET
    sloppy: bool | UnsetType = UNSET


class PlanChange(Body):
    """POST /v1/ring/plan; an empty one balances what is there."""

    join: Annotated[list[Founder], Meta(max_length=MEMBERS_MAX)] = []
    leave: Annotated[list[Word], Meta(max_length=MEMBERS_MAX)] = []
    weights: Annotated[
        dict[Word, Annotated[int, Meta(ge=1, le=1000)]], Meta(max_length=MEMBERS_MAX)
    ] = {}
    moves: Annotated[list[HandMove], Meta(max_length=4096)] = []
    defaults: Defaults | UnsetType = UNSET


class ApplyChange(PlanChange, kw_only=True):
    """POST /v1/ring/apply: the plan's request, its hash, and an id that makes it one operation."""

    hash: Annotated[str, Meta(max_length=64)]
    operation_id: OperationId | UnsetType = UNSET


class CancelChange(Body):
    """POST /v1/ring/cancel."""


class RemoveNode(Body):
    """POST /v1/ring/remove; without `force` it only tells what that would mean."""

    name: Word
    force: bool = False
    accept_loss: bool = False
    operation_id: OperationId | UnsetType = UNSET


class StartRepair(Body):
    """POST /v1/repairs; in full the records are held against their tree first. The same id again
    is the same repair."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")] | UnsetType = UNSET
    partitions: Annotated[list[Annotated[int, Meta(ge=0, lt=4096)]], Meta(max_length=4096)] = []
    nodes: Annotated[list[Word], Meta(max_length=MEMBERS_MAX)] = []
    mode: Literal["tree", "full"] = "tree"


class ReplaceNode(Body):
    """POST /v1/ring/replace."""

    name: Word


class Level(msgspec.Struct, forbid_unknown_fields=True):
    """Query of GET /readyz."""

    level: Literal["", "synced"] = ""


class Page(msgspec.Struct, forbid_unknown_fields=True):
    """Query of GET /v1/keys; `after` is `next` of the page before."""

    partition: Annotated[int, Meta(ge=0, lt=4096)] | None = None
    after: Annotated[str, Meta(max_length=4096)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Cluster(msgspec.Struct, forbid_unknown_fields=True):
    """Query of every changing request."""

    cluster_id: Annotated[str, Meta(max_length=253)] | UnsetType = UNSET


# fmt: off
_READ = {"r": "answers wanted: 1 to N, one, quorum, all"}
_WRITE = {"w": "acks wanted: 1 to N, one, quorum, all", "dw": "of these fsynced"}
_BOTH = {
    "timeout_ms": "1 to 30000, default 1000",
    "strict": "true: only complete owners count; false: stand-ins too; else as the ring has it",
    "explain": "true: who was asked, who was skipped, what was decided",
}
_HEADERS = {"Dynamo-Context": "what the writer has seen", "Dynamo-Request-Id": "for retries"}
_EXPIRY = {
    "Dynamo-Expires-In": "seconds until the value reads as deleted",
    "Dynamo-Expires-At": "the time of that, RFC 3339; one of both headers",
}
_SAID = {"Content-Encoding": "kept with the value, which is stored as it is sent"}
_CLIENT: list[tuple[str, str, str, dict[str, str], dict[str, str], str]] = [
    ("get", "/v1/kv/{key}", "Read a key.", _READ | _BOTH, {}, "200 300 404 503"),
    ("head", "/v1/kv/{key}", "Read a key, headers only.", _READ | _BOTH, {}, "200 300 404 503"),
    ("put", "/v1/kv/{key}", "Write a key; the body is the value.", _WRITE | _BOTH,
     _HEADERS | _EXPIRY | _SAID, "200 204 300 400 409 413 503"),
    ("delete", "/v1/kv/{key}", "Delete a key.", _WRITE | _BOTH, _HEADERS, "204 400 503"),
    ("post", "/v1/batch", "Gets, puts and deletes, each with its own outcome.", {}, {}, "200 400"),
]
_OCTETS = {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}
_QUERIES = {
    ("GET", "/readyz"): {"level": "`synced`: ask for completeness too"},
    ("GET", "/v1/keys"): {
        "partition": "only this one", "after": "`next` of the page before", "limit": "1 to 1000",
    },
    ("GET", "/v1/hints"): {"target": "the node whose keys are wanted", "limit": "0 to 100 keys"},
    ("GET", "/v1/events"): {"after": "only lines with a higher number"},
}
_BODIES: dict[tuple[str, str], type] = {
    ("POST", "/v1/ring"): CreateRing,
    ("POST", "/v1/ring/plan"): PlanChange,
    ("POST", "/v1/ring/apply"): ApplyChange,
    ("POST", "/v1/ring/cancel"): CancelChange,
    ("POST", "/v1/ring/remove"): RemoveNode,
    ("POST", "/v1/ring/replace"): ReplaceNode,
    ("POST", "/v1/repairs"): StartRepair,
}
# fmt: on
_PROBLEM = {
    "description": "RFC 9457: type, title, status, detail",
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}


def with_client_listener(document: dict[str, Any]) -> dict[str, Any]:
    """The admin listener's OpenAPI document, with the client listener's paths."""
    for method, path, summary, query, headers, statuses in _CLIENT:
        document["paths"].setdefault(path, {})[method] = {
            "tags": ["client listener"],
            "summary": summary,
            "parameters": _parameters(path, query, headers),
            "responses": {status: {"description": ""} for status in statuses.split()}
            | {"default": _PROBLEM},
        }
    document["paths"]["/v1/kv/{key}"]["put"]["requestBody"] = _OCTETS
    document["paths"]["/v1/batch"]["post"]["requestBody"] = {
        "content": {
            f"application/{form}": {"schema": _schema(BatchRequest)} for form in ("json", "msgpack")
        }
    }
    return document


def extra(path: str, method: str) -> dict[str, Any]:
    """Parameters and body that the handlers read themselves."""
    by_itself = "repair_id" in path or "{partition}" in path
    parameters = [] if by_itself else _parameters(path, _QUERIES.get((method, path), {}))
    found: dict[str, Any] = {"responses": {"default": _PROBLEM}, "parameters": parameters}
    if (method, path) in _BODIES:
        whole = _schema(_BODIES[method, path])
        found["requestBody"] = {"content": {"application/json": {"schema": whole}}}
    return found


def _schema(kind: type) -> dict[str, Any]:
    """The JSON schema of a body, in one piece."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/{name}")
    whole: dict[str, Any] = parts[schema["$ref"].removeprefix("#/")]
    for field in whole["properties"].values():
        if "$ref" in field.get("items", {}):
            field["items"] = parts[field["items"]["$ref"].removeprefix("#/")]
    return whole


def _parameters(
    path: str, query: dict[str, str], headers: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    key = {"key": "raw path bytes, percent-decoded, 1..1024 of them"} if "{key}" in path else {}
    return [
        {"in": place, "name": name, "description": text, "required": place == "path",
         "schema": {"type": "string"}}
        for place, named in (("path", key), ("query", query), ("header", headers or {}))
        for name, text in named.items()
    ]  # fmt: skip


def docs_page(document: dict[str, Any]) -> str:
    """One page made here, with nothing to load from elsewhere."""
    rows = []
    for path, methods in document["paths"].items():
        for method, what in methods.items():
            where = ", ".join(what.get("tags", ()))
            text = " ".join((what.get("summary", ""), what.get("description", "")))
            cells = (f"<code>{method.upper()} {escape(path)}</code>", escape(where), escape(text))
            rows.append("<tr><td>" + "<td>".join(cells))
    style = "body{font:16px sans-serif;margin:2em}td{padding:.4em 1em;vertical-align:top}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>dynamo-ring</title>"
        f"<style>{style}</style><h1>{escape(document['info']['title'])}"
        f" {escape(document['info']['version'])}</h1>"
        f"<p>{escape(document['info']['description'])} Machines read"
        f' <a href="openapi.json">openapi.json</a>.<table>{"".join(rows)}</table></html>'
    )
