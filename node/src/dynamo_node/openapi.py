"""The OpenAPI 3.1 document of both listeners, served by the admin listener at `/openapi.json`.

FastAPI lists the routes of the admin listener. This module adds the client listener, which has no
framework (docs/decisions/0002-protocol-inside-uvicorn.md), the shapes of all answers, their
headers, and what must be shown for each request. Clients in examples/ are generated from it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI

from dynamo_node import answer_shapes as shapes
from dynamo_node import look_shapes as looks
from dynamo_node.admin_document import REF, WITHOUT_TOKEN, bodies, parameters
from dynamo_node.batch import BatchRequest

Document = dict[str, Any]
INFO = {
    "title": "dynamo-ring node",
    "summary": "An always-writeable key-value store after Amazon's Dynamo.",
    "description": "Both listeners of a node. The client listener answers `/v1/kv`, `/v1/batch`"
    " and `GET /v1/ring`; the admin listener answers everything else, and `/v1/kv`.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "contact": {"name": "dynamo-ring", "url": "https://github.com/dynamo-ring/dynamo-ring"},
}
TAGS = [
    {"name": "client listener", "description": "Keys and values, for programs."},
    {"name": "admin listener", "description": "State and changes of the ring, for administrators."},
]
ADMIN_SERVERS = [{"url": "/", "description": "the admin listener that serves this document"}]
CLIENT_SERVERS = [
    {
        "url": "http://{address}",
        "description": "the client listener of any node",
        "variables": {"address": {"default": "127.0.0.1:7101", "description": "host:port"}},
    }
]
# fmt: off
_READ = {"r": "answers wanted: 1 to N, one, quorum, all"}
_WRITE = {"w": "acks wanted: 1 to N, one, quorum, all", "dw": "of these fsynced"}
_BOTH = {
    "timeout_ms": "1 to 30000, default 1000",
    "strict": "true: only complete owners count; false: stand-ins too; default: the ring's setting",
    "explain": "true: the answer is JSON of the shape `Explained`: the nodes that were asked, those"
    " that were not, and what was decided; a put is still done",
}
_HEADERS = {"Dynamo-Context": "what the writer has seen", "Dynamo-Request-Id": "for retries"}
_PUT_HEADERS = _HEADERS | {
    "Dynamo-Expires-In": "seconds until the value expires",
    "Dynamo-Expires-At": "time of expiry, RFC 3339; give one of the two headers",
    "Content-Encoding": "stored with the value; the node does not decode it",
    "Prefer": "`return=representation`: answer as a get does",
}
_CLIENT: list[tuple[str, str, str, str, dict[str, str], dict[str, str], str]] = [
    ("get", "/v1/kv/{key}", "getValue", "Read a key.", _READ | _BOTH, {},
     "200 300 400 404 503"),
    ("head", "/v1/kv/{key}", "headValue", "Read a key, headers only.", _READ | _BOTH, {},
     "200 300 400 404 503"),
    ("put", "/v1/kv/{key}", "putValue", "Write a key; the body is the value.", _WRITE | _BOTH,
     _PUT_HEADERS, "200 204 300 400 409 413 503"),
    ("delete", "/v1/kv/{key}", "deleteValue", "Delete a key.", _WRITE | _BOTH, _HEADERS,
     "204 400 409 503"),
    ("post", "/v1/batch", "batch", "Gets, puts and deletes, each with its own outcome.", {}, {},
     "200 400 413 503"),
]
_ANSWERS: dict[tuple[str, str, str], type] = {
    ("get", "/livez", "200"): shapes.Live, ("get", "/livez", "503"): shapes.Live,
    ("get", "/readyz", "200"): shapes.Ready, ("get", "/readyz", "503"): shapes.Ready,
    ("get", "/v1/status", "200"): shapes.Status,
    ("get", "/v1/ring", "200"): shapes.Ring,
    ("post", "/v1/ring", "200"): shapes.Ring, ("post", "/v1/ring", "201"): shapes.Ring,
    ("post", "/v1/ring/plan", "200"): shapes.Plan,
    ("post", "/v1/ring/apply", "202"): shapes.Accepted,
    ("post", "/v1/ring/cancel", "202"): shapes.Cancelled,
    ("post", "/v1/ring/remove", "200"): shapes.Removal,
    ("post", "/v1/ring/remove", "202"): shapes.Removal,
    ("post", "/v1/ring/replace", "202"): shapes.Approval,
    ("post", "/v1/repairs", "202"): shapes.Started,
    ("get", "/v1/repairs/{repair_id}", "200"): shapes.RepairReport,
    ("post", "/v1/backups", "202"): shapes.Started,
    ("get", "/v1/backups/{run_id}", "200"): shapes.BackupReport,
    ("post", "/v1/restores", "202"): shapes.Started,
    ("get", "/v1/restores/{run_id}", "200"): shapes.RestoreReport,
    ("post", "/v1/deletions", "202"): shapes.DeletionReport,
    ("get", "/v1/keys", "200"): shapes.KeyPage,
    ("get", "/v1/preference-list/{key}", "200"): looks.PreferenceList,
    ("get", "/v1/staleness", "200"): looks.StalenessReport,
    ("get", "/v1/cluster", "200"): looks.ClusterLook,
    ("get", "/v1/records/{key}", "200"): looks.RecordsLook,
    ("get", "/v1/history/{key}", "200"): looks.HistoryLook,
    ("get", "/v1/trees/{partition}", "200"): looks.TreesLook,
    ("get", "/v1/hints", "200"): looks.HintsLook,
    ("post", "/v1/batch", "200"): shapes.BatchAnswer,
}
"""A success that is not here is any JSON object."""
_SAID = {
    "200": "done", "201": "made", "202": "accepted: it goes on after this answer",
    "204": "stored", "300": "the key has siblings",
    "400": "`bad-key`, `bad-parameter`, `bad-context`: the detail names the field",
    "404": "`not-found`",
    "409": "the request does not fit what is there; the slug says which",
    "413": "`value-too-large`",
    "503": "not enough nodes answer, or this one cannot take the request; the slug says which",
}
_REFUSALS = {
    "401": "`unauthorized`: nothing is shown, or it is not known or over",
    "403": "`forbidden`: no right to this, or a page of another site asks",
    "429": "`overloaded`: the client's share is used up, or it has shown too much in vain",
}
# fmt: on
_WRONG_KIND = "the body does not say that it is of a kind that is taken here"
_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A ServiceAccount token of Kubernetes, a token of the file of rights, or"
        " what `dynamoctl token` prints. A node without a secret and without rights asks for none.",
    },
    "certificate": {
        "type": "mutualTLS",
        "description": "A client certificate, where the listener is `mutual`; beside a token it"
        " does not count.",
    },
}
_TEXT = {"type": "string"}
_TEXTS = {
    "/metrics": ("text/plain", "metrics in the text format of Prometheus"),
    "/v1/events": (
        "text/event-stream",
        "Server-Sent Events; each has an id and JSON with at_ms, kind, rule",
    ),
}
"""Answers that are no JSON: type and description."""
_HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "Dynamo-Node": ("the node that coordinated", _TEXT),
    "Dynamo-Context": ("the versions that this answer covers; send it with the next put", _TEXT),
    "Dynamo-Siblings": ("how many values the key has", {"type": "integer"}),
    "Dynamo-Acks": ("total, owners, hinted and durable acks when it was decided", _TEXT),
    "Dynamo-Applied": ("of a write that failed", {"type": "string", "enum": ["no", "unknown"]}),
    "Dynamo-Expires-At": (
        "when the value expires, RFC 3339",
        {"type": "string", "format": "date-time"},
    ),
    "ETag": ("equal for the same versions in the same form", _TEXT),
    "Retry-After": ("seconds", {"type": "integer"}),
    "WWW-Authenticate": ("Bearer", _TEXT),
}
_READ_HEADS = (
    "Dynamo-Node", "Dynamo-Context", "Dynamo-Siblings", "ETag", "Dynamo-Expires-At",
)  # fmt: skip
_BYTES = {"type": "string", "format": "binary"}


def camel(name: str) -> str:
    """An operation's id from the name of its handler: `create_ring` is `createRing`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def fill_document(app: FastAPI) -> Document:
    """The whole document, from FastAPI's document of the admin listener."""
    document = FastAPI.openapi(app)
    document["info"] |= INFO
    document["servers"], document["tags"] = ADMIN_SERVERS, TAGS
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _answers(operation, method, path)
    _add_client_listener(document["paths"])
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method != "servers":
                _secure(path, operation)
    document["components"] = {
        "schemas": _schemas(),
        "headers": {
            name: {"description": text, "schema": schema} for name, (text, schema) in _HEADS.items()
        },
        "securitySchemes": _SCHEMES,
    }
    return document


def _schemas() -> Document:
    """Every body and answer by its name."""
    kinds = [
        *bodies(),
        BatchRequest,
        shapes.Problem,
        shapes.Sibling,
        shapes.Values,
        looks.Explained,
    ]
    _, parts = msgspec.json.schema_components([*kinds, *_ANSWERS.values()], ref_template=REF)
    for part in parts.values():
        for field in part.get("properties", {}).values():
            if "anyOf" in field:  # generators would give the number 0 to a value of either type
                field.pop("default", None)
    return parts


def _ref(kind: type) -> Document:
    return {"$ref": REF.format(name=kind.__name__)}


def _heads(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _json(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}


def _problem(said: str, *heads: str) -> Document:
    content = {"application/problem+json": {"schema": _ref(shapes.Problem)}}
    return {"description": said, "content": content, "headers": _heads(*heads)}


def _answers(operation: Document, method: str, path: str) -> None:
    """What an operation of the admin listener answers."""
    said = operation["responses"]
    said.pop("422", None)  # FastAPI's own; here such a request is 400
    for way, place, status in _ANSWERS:
        if (way, place) == (method, path):
            said.setdefault(status, {})
    for status, answer in said.items():
        answer["description"] = _SAID.get(status, "done")
        if path in _TEXTS and status == "200":
            media, answer["description"] = _TEXTS[path]
            answer["content"] = {media: {"schema": _TEXT}}
        elif status < "400" or (method, path, status) in _ANSWERS:
            kind = _ANSWERS.get((method, path, status))
            schema = {"type": "object"} if kind is None else _ref(kind)
            answer.setdefault("content", _json(schema))
    refused = ["400", "409", "413", "503"] if method == "post" else ["400", "503"]
    for status in [*refused, *["404"] * ("{" in path)]:
        said.setdefault(status, _problem(_SAID[status]))
    said["default"] = _problem("any other error, RFC 9457")


def _add_client_listener(paths: Document) -> None:
    """`/v1/kv`, `/v1/batch`, and that `/v1/ring` is on both."""
    for method, path, name, summary, query, headers, statuses in _CLIENT:
        of_keys = path.startswith("/v1/kv")
        servers = CLIENT_SERVERS + ADMIN_SERVERS if of_keys else CLIENT_SERVERS
        place = paths.setdefault(path, {"servers": servers})
        place[method] = {
            "tags": ["client listener", *["admin listener"] * of_keys],
            "operationId": name,
            "summary": summary,
            "parameters": parameters(path, query, headers),
            "responses": {s: _client_answer(method, path, s) for s in statuses.split()}
            | {"default": _problem("any other error, RFC 9457")},
        }
    ring = paths["/v1/ring"]["get"]
    ring["tags"] = ["client listener", "admin listener"]
    ring["responses"]["200"]["headers"] = _heads("ETag")
    paths["/v1/kv/{key}"]["put"]["requestBody"] = {
        "description": "the value, of any Content-Type, 0 bytes to 1 MiB",
        "required": True,
        # Text is first, because generated clients use the first: strings are easier than files.
        "content": {
            "text/plain": {"schema": _TEXT},
            "application/octet-stream": {"schema": _BYTES},
        },
    }
    asked = {f"application/{form}": {"schema": _ref(BatchRequest)} for form in ("json", "msgpack")}
    paths["/v1/batch"]["post"]["requestBody"] = {"required": True, "content": asked}


def _client_answer(method: str, path: str, status: str) -> Document:
    """One answer of the client listener."""
    said = _SAID[status]
    if status >= "400":
        more = {"404": ["Dynamo-Context"], "503": ["Retry-After", "Dynamo-Applied"]}
        if path == "/v1/batch":
            more = {"503": ["Retry-After"]}
        answer = _problem(said, *more.get(status, []))
        if method == "head":
            del answer["content"]
        return answer
    if path == "/v1/batch":
        return {"description": said, "content": _json(_ref(shapes.BatchAnswer))}
    if status == "204":
        heads = _heads("Dynamo-Node", "Dynamo-Context", "Dynamo-Acks")
        return {"description": said, "headers": heads}
    answer = {"description": said, "headers": _heads(*_READ_HEADS)}
    if method == "head":
        return answer
    parts = {"multipart/mixed": {"schema": {"type": "string"}}}
    if status == "300":
        siblings = {"type": "array", "items": _ref(shapes.Sibling)}
        return answer | {"content": _json(siblings) | parts}
    answer["description"] = (
        "with `Accept: application/json` all values and their context; else the one value as it"
        " was put, with its Content-Type"
    )
    return answer | {"content": _json(_ref(shapes.Values)) | {"*/*": {"schema": _BYTES}} | parts}


def _secure(path: str, operation: Document) -> None:
    """What must be shown for it, and how it is refused."""
    open_to_all = path in WITHOUT_TOKEN
    operation["security"] = [] if open_to_all else [{name: []} for name in _SCHEMES]
    found = {status: said for status, said in _REFUSALS.items() if not open_to_all}
    if "requestBody" in operation and "{key}" not in path:
        found["415"] = _WRONG_KIND
    heads = {"401": ["WWW-Authenticate"], "429": ["Retry-After"]}
    for status, said in found.items():
        operation["responses"][status] = _problem(said, *heads.get(status, []))
    operation["responses"] = dict(sorted(operation["responses"].items()))
