"""The CustomResourceDefinitions, made from the structs of `spec` and `status_fields`.

Types, bounds, defaults and descriptions come from the structs. This module adds what a type cannot
express: CEL rules between fields, printer columns, names. `crds` writes the YAML.

The API server estimates the cost of a rule from maxItems and maxLength, so every list and string in
a rule has a bound. The default of an object with rules is complete, because the API server checks
the default against them.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from dynamo_operator.spec import GROUP, ClusterSpec, RepairSpec
from dynamo_operator.spec_access import AccessRule, TlsSpec
from dynamo_operator.spec_backup import Backups, BackupSource, BackupSpec, RestoreSpec
from dynamo_operator.spec_services import Exposure, ServiceSpec
from dynamo_operator.spec_types import Move, Part, Replication, RingSpec
from dynamo_operator.status_fields import (
    BackupStatus,
    ClusterStatus,
    RepairStatus,
    RestoreStatus,
    Told,
)

Schema = dict[str, Any]


class Rule(msgspec.Struct, frozen=True):
    """A CEL rule on a struct, or on one of its fields (its name in JSON)."""

    part: type[Part]
    field: str
    rule: str
    message: str


FIXED = "self == oldSelf"
NAME = (
    "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"
)
NAME_MESSAGE = (
    "metadata.name must be a DNS label that begins with a letter, of at most 40 characters"
)
# fmt: off
RULES = (
    Rule(ClusterSpec, "", "self.replication.factor <= self.size",
         "spec.size must not be below spec.replication.factor"),
    Rule(ClusterSpec, "", "self.size <= self.ring.partitions",
         "spec.size must not exceed spec.ring.partitions"),
    Rule(ClusterSpec, "", "!has(self.bootstrap) || has(oldSelf.bootstrap)",
         "bootstrap is only for a new ring: make a DynamoRestore"),
    Rule(ClusterSpec, "bootstrap", FIXED, "bootstrap is fixed at creation"),
    Rule(ClusterSpec, "conflicts", FIXED, "conflicts is fixed at creation"),
    Rule(Replication, "", "self.readQuorum <= self.factor", "readQuorum must not exceed factor"),
    Rule(Replication, "", "self.writeQuorum <= self.factor", "writeQuorum must not exceed factor"),
    Rule(Replication, "", "self.durableWrites <= self.writeQuorum",
         "durableWrites must not exceed writeQuorum"),
    Rule(Replication, "factor", FIXED, "factor is fixed at creation"),
    Rule(RingSpec, "", "!has(self.approvedPlan) || self.policy == 'Preview'",
         "approvedPlan is only for policy Preview"),
    Rule(RingSpec, "", "self.moves.all(m, !has(m.partitions)"
         " || m.partitions.all(p, p < self.partitions))",
         "moves may only name partitions of the ring"),
    Rule(RingSpec, "partitions", FIXED, "partitions is fixed at creation"),
    Rule(Move, "", "has(self.partitions) != has(self.tokens)",
         "a move has either partitions or tokens"),
    Rule(Move, "", "!has(self.partitions) || has(self.from)",
         "a move of partitions needs from"),
    Rule(Move, "", "!has(self.zone) || has(self.tokens)", "zone is only for tokens"),
    Rule(Move, "", "!has(self.from) || self.from != self.to", "from and to must differ"),
    *(Rule(part, "", rule, message) for part in (ServiceSpec, Exposure) for rule, message in (
        ("!has(self.loadBalancerClass) || self.type == 'LoadBalancer'",
         "loadBalancerClass is only for type LoadBalancer"),
        ("size(self.loadBalancerSourceRanges) == 0 || self.type == 'LoadBalancer'",
         "loadBalancerSourceRanges is only for type LoadBalancer"),
        ("!has(self.externalTrafficPolicy) || self.type in ['NodePort', 'LoadBalancer']",
         "externalTrafficPolicy is only for types NodePort and LoadBalancer"))),
    Rule(Exposure, "", "!self.advertise || (has(self.hosts) && self.type == 'LoadBalancer')",
         "advertise needs hosts and type LoadBalancer"),
    Rule(TlsSpec, "", "!(has(self.issuerRef) && has(self.secretName))",
         "tls has either issuerRef or secretName"),
    Rule(AccessRule, "", "has(self.serviceAccount)"
         " ? !has(self.certificate) && !has(self.tokenSha256)"
         " : has(self.certificate) != has(self.tokenSha256)",
         "a rule has one of serviceAccount, certificate and tokenSha256"),
    Rule(AccessRule, "", "!has(self.name) || has(self.tokenSha256)",
         "name is only for tokenSha256"),
    Rule(RepairSpec, "", "!(has(self.partitions) && has(self.nodes))",
         "a repair has either partitions or nodes"),
    Rule(RepairSpec, "", FIXED, "a repair cannot be changed: delete it and make another"),
    Rule(Backups, "", "!has(self.schedule) || has(self.target)"
         " || self.method == 'VolumeSnapshot'",
         "backup.schedule needs backup.target"),
    *(Rule(part, "", "!has(self.snapshotClassName) || self.method == 'VolumeSnapshot'",
           "snapshotClassName is only for method VolumeSnapshot")
      for part in (Backups, BackupSpec)),
    Rule(BackupSpec, "", "self.method == 'Records' || (!has(self.target) && !self.whole)",
         "target and whole are only for method Records"),
    Rule(BackupSource, "", "has(self.name) != has(self.target)",
         "a backup is named by either name or target"),
    Rule(BackupSource, "", "!has(self.backupId) || has(self.target)",
         "backupId is only for target"),
    Rule(BackupSpec, "", FIXED, "a backup cannot be changed: delete it and make another"),
    Rule(RestoreSpec, "", FIXED, "a restore cannot be changed: delete it and make another"),
)
# fmt: on


def schema_of(kind: type[Part]) -> Schema:
    """The structural schema of a struct, with its rules."""
    return _object(inspect.type_info(kind))


def _object(info: inspect.Type) -> Schema:
    assert isinstance(info, inspect.StructType)
    fields = {field.encode_name: _field(info.cls, field) for field in info.fields}
    schema: Schema = {"type": "object", "properties": fields}
    required = [field.encode_name for field in info.fields if field.required]
    return schema | ({"required": required} if required else {}) | _rules(info.cls, "")


def _field(part: type, field: inspect.Field) -> Schema:
    schema = _schema(field.type)
    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    if issubclass(part, Told) or default in (msgspec.NODEFAULT, None):
        return schema | _rules(part, field.encode_name)
    value = _known(msgspec.to_builtins(default, builtin_types=()))
    return schema | {"default": value} | _rules(part, field.encode_name)


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _known(inner) for name, inner in value.items() if inner is not None}
    return list(value) if isinstance(value, tuple) else value


def _rules(part: type, field: str) -> Schema:
    found = [
        {"rule": rule.rule, "message": rule.message}
        for rule in RULES
        if rule.part is part and rule.field == field
    ]
    return {"x-kubernetes-validations": found} if found else {}


def _schema(info: inspect.Type) -> Schema:
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            schema = _schema(inner) | (extra or {})
            return {"description": schema.pop("description", "")} | schema
        case inspect.UnionType(types=types):
            return _schema(next(t for t in types if not isinstance(t, inspect.NoneType)))
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType(ge=low, le=high):
            return {"type": "integer"} | _bounds(minimum=low, maximum=high)
        case inspect.StrType(min_length=low, max_length=high, pattern=pattern):
            return {"type": "string"} | _bounds(minLength=low, maxLength=high, pattern=pattern)
        case inspect.LiteralType(values=values):
            kind = "integer" if isinstance(values[0], int) else "string"
            return {"type": kind, "enum": list(values)}
        case inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            return {"type": "array", "items": _schema(item)} | _bounds(minItems=low, maxItems=high)
        case inspect.DictType() | inspect.AnyType():
            return {"type": "object"}
        case inspect.StructType():
            return _object(info)
    raise TypeError(f"no schema for {info}")


def _bounds(**bounds: Any) -> Schema:
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


def _column(name: str, kind: str, path: str, description: str, priority: int = 0) -> Schema:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def cluster_crd() -> Schema:
    """The CustomResourceDefinition of DynamoCluster."""
    columns = [
        _column("Ready", "string", ".status.ready", "Ready pods, of the wanted number."),
        _column("Members", "integer", ".status.members", "Members of the ring."),
        _column("Available", "string", _condition("Available", "status"), "Reads and writes work."),
        _column("Progressing", "string", _condition("Progressing", "reason"), "What is changing."),
        _column("Converged", "string", _condition("Converged", "status"), "Copies are complete."),
        _column("Epoch", "integer", ".status.ring.epoch", "How often the ring has changed."),
        _column("Copies", "integer", ".spec.replication.factor", "Copies of each key.", 1),
        _column("Reads", "integer", ".spec.replication.readQuorum", "Answers a read waits for.", 1),
        _column("Writes", "integer", ".spec.replication.writeQuorum", "Acks a write waits for.", 1),
        _column("Age", "date", ".metadata.creationTimestamp", "Time since its creation."),
    ]
    version = _version(
        "A ring of nodes that keep keys and values: always writeable, without a leader.",
        ClusterSpec,
        ClusterStatus,
        columns,
    )
    version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = [
        {"rule": NAME, "message": NAME_MESSAGE}
    ]
    version["subresources"]["scale"] = {
        "specReplicasPath": ".spec.size",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return _crd("DynamoCluster", "dynamoclusters", ["dring"], version)


def repair_crd() -> Schema:
    """The CustomResourceDefinition of DynamoRepair."""
    columns = [
        _column("Cluster", "string", ".spec.clusterName", "Whose copies."),
        _column("Mode", "string", ".spec.mode", "How nodes compare."),
        _column("Done", "integer", ".status.partitionsDone", "Partitions compared."),
        _column("Total", "integer", ".status.partitionsTotal", "Partitions to compare."),
        _column("Repaired", "integer", ".status.keysRepaired", "Records that a copy lacked."),
        _column("Complete", "string", _condition("Complete", "status"), "Whether it has ended."),
        _column("Age", "date", ".metadata.creationTimestamp", "Time since its creation."),
    ]
    version = _version(
        "One run of anti-entropy over the copies of a DynamoCluster.",
        RepairSpec,
        RepairStatus,
        columns,
    )
    return _crd("DynamoRepair", "dynamorepairs", ["drepair"], version)


def backup_crd() -> Schema:
    """The CustomResourceDefinition of DynamoBackup."""
    columns = [
        _column("Cluster", "string", ".spec.clusterName", "Whose keys."),
        _column("State", "string", ".status.state", "Waiting, Running, Complete or Failed."),
        _column("Done", "integer", ".status.partitionsDone", "Partitions that are saved."),
        _column("Total", "integer", ".status.partitionsTotal", "Partitions of the ring."),
        _column("Records", "integer", ".status.records", "Records that are saved."),
        _column("Bytes", "integer", ".status.bytes", "Bytes of these records."),
        _column("New", "integer", ".status.newBytes", "Bytes that it added to the archive.", 1),
        _column("Damaged", "integer", ".status.damaged", "Keys that were damaged everywhere.", 1),
        _column("Id", "string", ".status.backupId", "Its id in the archive.", 1),
        _column("Target", "string", ".status.target", "URL of the archive.", 1),
        _column("Snapshots", "string", ".status.snapshotsReady", "Snapshots that are ready.", 1),
        _column("Age", "date", ".metadata.creationTimestamp", "Time since its creation."),
    ]
    text = "One backup of a DynamoCluster: every write that was acknowledged before its start."
    version = _version(text, BackupSpec, BackupStatus, columns)
    return _crd("DynamoBackup", "dynamobackups", ["dbackup"], version)


def restore_crd() -> Schema:
    """The CustomResourceDefinition of DynamoRestore."""
    columns = [
        _column("Cluster", "string", ".spec.clusterName", "Into which ring."),
        _column("Mode", "string", ".spec.mode", "What becomes of newer values."),
        _column("Backup", "string", ".status.backupId", "Id of the backup."),
        _column("State", "string", ".status.state", "Waiting, Running, Complete or Failed."),
        _column("Done", "integer", ".status.partsDone", "Parts that are merged."),
        _column("Total", "integer", ".status.partsTotal", "Parts of the backup."),
        _column("Records", "integer", ".status.records", "Records that are merged."),
        _column("Age", "date", ".metadata.creationTimestamp", "Time since its creation."),
    ]
    text = "One restore of a backup into a DynamoCluster; the backup may be of another ring."
    version = _version(text, RestoreSpec, RestoreStatus, columns)
    return _crd("DynamoRestore", "dynamorestores", ["drestore"], version)


def every_crd() -> list[Schema]:
    """All of them."""
    return [cluster_crd(), repair_crd(), backup_crd(), restore_crd()]


def _version(
    description: str, spec: type[Part], status: type[Part], columns: list[Schema]
) -> dict[str, Any]:
    wanted = {"description": "The wanted state."} | schema_of(spec)
    needed = "required" in wanted
    if not needed:
        wanted["default"] = _known(msgspec.to_builtins(spec()))
    return {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": description,
                "properties": {
                    "apiVersion": {"type": "string", "description": "API version of this kind."},
                    "kind": {"type": "string", "description": "Kind of this resource."},
                    "metadata": {"type": "object"},
                    "spec": wanted,
                    "status": {"description": "The state at the last look."} | schema_of(status),
                },
            }
            | ({"required": ["spec"]} if needed else {})
        },
    }


def _crd(kind: str, plural: str, short: list[str], version: Schema) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": short,
                "categories": ["all", "dynamo"],
            },
            "versions": [version],
        },
    }
