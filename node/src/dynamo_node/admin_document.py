"""Bodies and parameters that the admin listener takes, as types and as OpenAPI shows them.

`openapi` makes the whole document of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from dynamo_core.protocol.look_messages import KEYS_SHOWN_MAX
from dynamo_core.staleness.staleness import YOUNG_S

MEMBERS_MAX = 1024
Word = Annotated[str, Meta(min_length=1, max_length=253)]
OperationId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
Count = Annotated[int, Meta(ge=1, le=1024)]


class Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Every change may name the cluster that it is for (S-RING-5)."""

    cluster_id: Annotated[str, Meta(max_length=253)] | UnsetType = UNSET


class Founder(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A member of a ring that is to be created."""

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


class ManualMove(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One manual move: `partition` from one node to another, or `tokens` to one node, from a node,
    from the nodes of a zone, or from the node with the most."""

    to: Word
    source: Word | UnsetType = msgspec.field(name="from", default=UNSET)
    partition: Annotated[int, Meta(ge=0, lt=4096)] | UnsetType = UNSET
    tokens: Annotated[int, Meta(ge=1, le=4096)] | UnsetType = UNSET
    zone: Annotated[str, Meta(max_length=253)] | UnsetType = UNSET


class Defaults(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """The defaults of the ring that change (S-RING-3)."""

    r: Count | UnsetType = UNSET
    w: Count | UnsetType = UNSET
    dw: Count | UnsetType = UNSET
    sloppy: bool | UnsetType = UNSET


class PlanChange(Body):
    """POST /v1/ring/plan; an empty request balances the present ring."""

    join: Annotated[list[Founder], Meta(max_length=MEMBERS_MAX)] = []
    leave: Annotated[list[Word], Meta(max_length=MEMBERS_MAX)] = []
    weights: Annotated[
        dict[Word, Annotated[int, Meta(ge=1, le=1000)]], Meta(max_length=MEMBERS_MAX)
    ] = {}
    moves: Annotated[list[ManualMove], Meta(max_length=4096)] = []
    defaults: Defaults | UnsetType = UNSET


class ApplyChange(PlanChange, kw_only=True):
    """POST /v1/ring/apply: the request of the plan, its hash, and the id of the operation."""

    hash: Annotated[str, Meta(max_length=64)]
    operation_id: OperationId | UnsetType = UNSET


class CancelChange(Body):
    """POST /v1/ring/cancel."""


class RemoveNode(Body):
    """POST /v1/ring/remove; without `force` it only shows what the removal would do."""

    name: Word
    force: bool = False
    accept_loss: bool = False
    operation_id: OperationId | UnsetType = UNSET


class StartRepair(Body):
    """POST /v1/repairs; mode `full` also compares the records with their hash tree. A request with
    the same id is the same repair."""

    id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")] | UnsetType = UNSET
    partitions: Annotated[list[Annotated[int, Meta(ge=0, lt=4096)]], Meta(max_length=4096)] = []
    nodes: Annotated[list[Word], Meta(max_length=MEMBERS_MAX)] = []
    mode: Literal["tree", "full"] = "tree"


BackupId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
ArchiveUrl = Annotated[str, Meta(max_length=1000)]
"""Held against the setting `backup_targets`."""


class StartBackup(Body):
    """POST /v1/backups; the same id again goes on with the same backup. `base`: an earlier backup
    there, whose parts are referred to where nothing changed."""

    id: BackupId
    archive: ArchiveUrl
    base: BackupId | UnsetType = UNSET


class StartRestore(Body):
    """POST /v1/restores; the same id again is the same restore. `backup`: unset, the newest whole
    one. `prefix`: base64 of what the keys begin with. `into_past`: the values of the backup become
    the newest."""

    id: BackupId
    archive: ArchiveUrl
    backup: BackupId | UnsetType = UNSET
    prefix: Annotated[bytes, Meta(max_length=1024)] = b""
    into_past: bool = False


class StartDeletion(Body):
    """POST /v1/deletions; the same id again is the same deletion."""

    id: BackupId
    archive: ArchiveUrl
    backups: Annotated[list[BackupId], Meta(min_length=1, max_length=4096)]


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


class WantedReport(msgspec.Struct, forbid_unknown_fields=True):
    """Query of GET /v1/staleness: a report that is younger, in seconds, is given again. `n`: as if
    each key had so many copies; 0: as many as the ring keeps."""

    max_age_s: Annotated[float, Meta(ge=0, le=3600)] = YOUNG_S
    n: Annotated[int, Meta(ge=0, le=MEMBERS_MAX)] = 0


class Cluster(msgspec.Struct, forbid_unknown_fields=True):
    """Query of every changing request."""

    cluster_id: Annotated[str, Meta(max_length=253)] | UnsetType = UNSET


# fmt: off
_QUERIES = {
    ("GET", "/readyz"): {"level": "`synced`: ask for completeness too"},
    ("GET", "/v1/staleness"): {
        "max_age_s": "a younger report is given again; default 15",
        "n": "as if each key had so many copies; default: as many as the ring keeps",
    },
    ("GET", "/v1/keys"): {
        "partition": "only this one", "after": "`next` of the page before", "limit": "1 to 1000",
    },
    ("GET", "/v1/hints"): {"target": "the node whose keys are wanted", "limit": "0 to 100 keys"},
    ("GET", "/v1/events"): {"after": "only events with a higher number"},
}
_BODIES: dict[tuple[str, str], type] = {
    ("POST", "/v1/ring"): CreateRing,
    ("POST", "/v1/ring/plan"): PlanChange,
    ("POST", "/v1/ring/apply"): ApplyChange,
    ("POST", "/v1/ring/cancel"): CancelChange,
    ("POST", "/v1/ring/remove"): RemoveNode,
    ("POST", "/v1/ring/replace"): ReplaceNode,
    ("POST", "/v1/repairs"): StartRepair,
    ("POST", "/v1/backups"): StartBackup,
    ("POST", "/v1/restores"): StartRestore,
    ("POST", "/v1/deletions"): StartDeletion,
}
# fmt: on
EVENTS = "/v1/events"
WITHOUT_TOKEN = frozenset(("/livez", "/readyz", "/metrics"))
"""What probes and Prometheus ask for."""
LEVEL = {"type": "string", "pattern": "^([1-9][0-9]*|one|quorum|all)$"}
_KINDS: dict[str, dict[str, Any]] = {
    "r": LEVEL,
    "w": LEVEL,
    "dw": LEVEL,
    "strict": {"type": "boolean"},
    "explain": {"type": "boolean"},
    "timeout_ms": {"type": "integer", "minimum": 1, "maximum": 30_000, "default": 1000},
    "level": {"type": "string", "enum": ["synced"]},
    "partition": {"type": "integer", "minimum": 0, "maximum": 4095},
    "limit": {"type": "integer", "minimum": 1, "maximum": 1000},
    "max_age_s": {"type": "number", "minimum": 0, "maximum": 3600},
    "Dynamo-Request-Id": {"type": "string", "maxLength": 64},
    "Dynamo-Expires-In": {"type": "integer", "minimum": 1, "maximum": 315_360_000},
    "Dynamo-Expires-At": {"type": "string", "format": "date-time"},
}
"""Schemas of parameters by name; all others are text."""
_NUMBER = {"type": "integer", "minimum": 0}
_KINDS_OF: dict[tuple[str, str], dict[str, Any]] = {
    ("/v1/staleness", "n"): _NUMBER | {"maximum": MEMBERS_MAX},
    ("/v1/hints", "limit"): _NUMBER | {"maximum": KEYS_SHOWN_MAX},
    ("/v1/events", "after"): _NUMBER,
    ("/v1/events", "Last-Event-ID"): _NUMBER,
}
"""The same where a path has another one."""
_CLUSTER_ID = {"cluster_id": "the ring that the request is for; another one answers 409"}
_STREAM = {
    "description": "Server-Sent Events; each has an id and JSON with at_ms, kind, rule",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
REF = "#/components/schemas/{name}"


def extra(path: str, method: str) -> dict[str, Any]:
    """Parameters and body that the handlers read themselves."""
    query = _QUERIES.get((method, path), _CLUSTER_ID if method == "POST" else {})
    headers = {"Last-Event-ID": "the same; it comes before `after`"} if path == EVENTS else {}
    found: dict[str, Any] = {"parameters": parameters(path, query, headers)}
    if path == EVENTS:
        found["responses"] = {"200": _STREAM}
    if (method, path) in _BODIES:
        whole = {"$ref": REF.format(name=_BODIES[method, path].__name__)}
        found["requestBody"] = {"content": {"application/json": {"schema": whole}}}
    return found


def bodies() -> list[type]:
    """Every body of the admin listener."""
    return list(_BODIES.values())


def parameters(
    path: str, query: dict[str, str], headers: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """The key of a path, and these parameters of query and head: names with descriptions."""
    key = {"key": "raw path bytes, percent-decoded, 1..1024 of them"} if "{key}" in path else {}
    return [
        {
            "in": place,
            "name": name,
            "description": text,
            "required": place == "path",
            "schema": _KINDS_OF.get((path, name)) or _KINDS.get(name, {"type": "string"}),
        }
        for place, named in (("path", key), ("query", query), ("header", headers or {}))
        for name, text in named.items()
    ]
