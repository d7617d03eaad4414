"""Objects that the rules of the CRDs accept and refuse; both for the offline check and for the API
server of `make e2e`."""

from __future__ import annotations

from typing import Any, NamedTuple

Object = dict[str, Any]


class Case(NamedTuple):
    """A spec, and the expected message. With `before`: a change of an existing resource."""

    kind: str
    spec: Object
    refused: str | None
    before: Object | None = None
    name: str = "shop"


def _cluster(spec: Object, refused: str | None = None, before: Object | None = None) -> Case:
    return Case("DynamoCluster", spec, refused, before)


def _repair(spec: Object, refused: str | None = None, before: Object | None = None) -> Case:
    return Case("DynamoRepair", {"clusterName": "shop"} | spec, refused, before)


def _backup(spec: Object, refused: str | None = None, before: Object | None = None) -> Case:
    return Case("DynamoBackup", {"clusterName": "shop"} | spec, refused, before)


def _restore(source: Object, refused: str | None = None, before: Object | None = None) -> Case:
    return Case("DynamoRestore", {"clusterName": "shop", "from": source}, refused, before)


def _begun(**source: str) -> Object:
    return {"bootstrap": {"fromBackup": source}}


def _moves(*moves: Object, **ring: Any) -> Object:
    return {"ring": {"moves": list(moves)} | ring}


def _rules(*rules: Object) -> Object:
    allows = {"prefixes": ["cart:"], "verbs": ["get"]}
    return {"access": {"mode": "Required", "rules": [allows | rule for rule in rules]}}


def _claims(**template: Any) -> Object:
    return {"claimTemplate": template}


QUORUMS = {"factor": 3, "readQuorum": 3, "writeQuorum": 3, "durableWrites": 3}
A_MOVE = {"partitions": [3], "from": "shop-0", "to": "shop-4"}
CASES = (
    _cluster({}),
    _cluster({"size": 3, "replication": QUORUMS}),
    _cluster({"size": 2}, "spec.size must not be below spec.replication.factor"),
    _cluster({"size": 17, "ring": {"partitions": 16}},
             "spec.size must not exceed spec.ring.partitions"),
    _cluster({"size": 16, "ring": {"partitions": 16}}),
    _cluster({"ring": {"partitions": 100}}, "100 is not one of"),
    _cluster({"size": 0}, "0 is less than the minimum of 1"),
    _cluster({"replication": {"readQuorum": 4}}, "readQuorum must not exceed factor"),
    _cluster({"replication": {"writeQuorum": 4}}, "writeQuorum must not exceed factor"),
    _cluster({"replication": {"durableWrites": 3}}, "durableWrites must not exceed writeQuorum"),
    _cluster({"replication": {"factor": 2}}, "factor is fixed at creation", {}),
    _cluster({"replication": {"readQuorum": 1}}, None, {}),
    _cluster({"replication": {"durableWrites": 0}}, "0 is less than the minimum of 1"),
    _cluster({"replication": {"sloppyQuorum": False}}, None, {}),
    _cluster({"replication": {"sloppyQuorum": "no"}}, "'no' is not of type 'boolean'"),
    _cluster({"conflicts": "LastWriteWins"}, "conflicts is fixed at creation", {}),
    _cluster({"conflicts": "LastWriteWins"}),
    _cluster({"ring": {"partitions": 512}}, "partitions is fixed at creation", {}),
    _cluster({"ring": {"partitions": 512}}),
    _cluster({"ring": {"approvedPlan": "ab"}}, "approvedPlan is only for policy Preview"),
    _cluster({"ring": {"approvedPlan": "ab", "policy": "Preview"}}),
    _cluster(_moves(A_MOVE, {"tokens": 10, "zone": "zone-a", "to": "shop-4"})),
    _cluster(_moves(A_MOVE | {"partitions": [16]}, partitions=16),
             "moves may only name partitions of the ring"),
    _cluster(_moves(A_MOVE | {"tokens": 1}), "a move has either partitions or tokens"),
    _cluster(_moves({"from": "shop-0", "to": "shop-1"}), "a move has either partitions or tokens"),
    _cluster(_moves({"partitions": [1], "to": "shop-1"}),
             "a move of partitions needs from"),
    _cluster(_moves(A_MOVE | {"zone": "zone-a"}), "zone is only for tokens"),
    _cluster(_moves(A_MOVE | {"to": "shop-0"}), "from and to must differ"),
    _cluster({"storage": {"className": "fast"}}),
    _cluster({"storage": {"className": "fast"}}, None, {"storage": {"className": "fast"}}),
    _cluster({"storage": {"className": "fast"}}, None, {}),
    _cluster({"storage": {"className": "slow"}}, None, {"storage": {"className": "fast"}}),
    _cluster({"storage": {"size": "1025Mi"}}, None, {"storage": {"size": "1Gi"}}),
    _cluster({"storage": {"size": "1023Mi"}}, None, {"storage": {"size": "1Gi"}}),
    _cluster({"storage": {"size": "ten"}}, "'ten' does not match"),
    _cluster({"storage": _claims(labels={"team": "carts"}, annotations={"backup/when": "daily"},
                                 accessMode="ReadWriteOncePod",
                                 volumeAttributesClassName="gold")}),
    _cluster({"storage": _claims(labels={"team": "the carts"})}, "'the carts' does not match"),
    _cluster({"storage": _claims(accessMode="ReadWriteMany")}, "'ReadWriteMany' is not one of"),
    _cluster({"storage": _claims(dataSource={"name": "monday-$(ordinal)", "count": 3})}),
    _cluster({"storage": _claims(dataSource={"name": "monday", "count": 3})},
             "'monday' does not match"),
    _cluster({"storage": _claims(dataSource={"name": "monday-$(ordinal)"})},
             "'count' is a required property"),
    _cluster({"antiEntropy": {"interval": "500ms"}, "update": {"canary": 0}, "stopped": True}),
    _cluster({"antiEntropy": {"interval": "0s"}}, "'0s' does not match"),
    _cluster({"resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}),
    *(case for part in ("service", "exposure") for case in (
        _cluster({part: {"type": "LoadBalancer", "loadBalancerClass": "metal",
                         "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32"],
                         "externalTrafficPolicy": "Local"}}),
        _cluster({part: {"type": "NodePort", "externalTrafficPolicy": "Local"}}),
        _cluster({part: {"externalTrafficPolicy": "Local"}},
                 "externalTrafficPolicy is only for types NodePort and LoadBalancer"),
        _cluster({part: {"type": "NodePort", "loadBalancerClass": "metal"}},
                 "loadBalancerClass is only for type LoadBalancer"),
        _cluster({part: {"loadBalancerSourceRanges": ["192.0.2.0/24"]}},
                 "loadBalancerSourceRanges is only for type LoadBalancer"),
        _cluster({part: {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.1"]}},
                 "'192.0.2.1' does not match"))),
    _cluster({"exposure": {"type": "LoadBalancer", "advertise": True, "hosts": "$(pod).example"}}),
    _cluster({"exposure": {"type": "LoadBalancer", "advertise": True}},
             "advertise needs hosts and type LoadBalancer"),
    _cluster({"exposure": {"type": "NodePort", "advertise": True, "hosts": "$(pod).example"}},
             "advertise needs hosts and type LoadBalancer"),
    _cluster({"exposure": {"hosts": "ring.example"}}, "'ring.example' does not match"),
    _cluster({"recovery": {"autoReplace": "NodeGone", "nodeGoneAfter": "30m"}}),
    _cluster({"recovery": {"autoReplace": "NotReady"}}, "'NotReady' is not one of"),
    _cluster({"recovery": {"nodeGoneAfter": "0s"}}, "'0s' does not match"),
    _cluster({"podTemplate": {"spec": {"priorityClassName": "high"}}}),
    _cluster({"tls": {"mode": "Required"}}),
    _cluster({"tls": {"mode": "on"}}, "'on' is not one of"),
    _cluster({"tls": {"issuerRef": {"name": "ours"}, "names": ["shop.example"]}}),
    _cluster({"tls": {"names": ["no name"]}}, "'no name' does not match"),
    _cluster({"tls": {"issuerRef": {"name": "ours"}, "secretName": "mine"}},
             "tls has either issuerRef or secretName"),
    _cluster(_rules({"serviceAccount": "shop/checkout"}, {"certificate": "anna"},
                    {"tokenSha256": "a" * 64, "name": "reports"})),
    _cluster(_rules({}), "a rule has one of serviceAccount, certificate and tokenSha256"),
    _cluster(_rules({"serviceAccount": "a/b", "certificate": "anna"}),
             "a rule has one of serviceAccount, certificate and tokenSha256"),
    _cluster(_rules({"certificate": "anna", "name": "x"}), "name is only for tokenSha256"),
    _cluster(_rules({"serviceAccount": "checkout"}), "'checkout' does not match"),
    _cluster(_rules({"serviceAccount": "a/b", "verbs": ["write"]}), "'write' is not one of"),
    _cluster({"access": {"administrators": ["ops/on-call"]}}),
    _cluster({"backup": {"target": "s3://shop/carts", "schedule": "0 3 * * *"}}),
    _cluster({"backup": {"schedule": "0 3 * * *"}}, "backup.schedule needs backup.target"),
    _cluster({"backup": {"target": "s3://key:word@shop/carts"}}, "does not match"),
    _cluster({"backup": {"target": "file:///backups/shop", "volumeClaim": "backups"}}),
    _cluster({"backup": {"target": "file://backups/shop"}}, "does not match"),
    _cluster({"backup": {"retention": {"count": 0}}}, "0 is less than the minimum of 1"),
    _cluster(_begun(target="s3://shop/carts")),
    _cluster(_begun(target="s3://shop/carts"), None, _begun(target="s3://shop/carts")),
    _cluster({}, None, _begun(target="s3://shop/carts")),
    _cluster(_begun(target="s3://shop/carts"),
             "bootstrap is only for a new ring: make a DynamoRestore", {}),
    _cluster(_begun(target="s3://shop/carts"), "bootstrap is fixed at creation",
             _begun(target="s3://shop/other")),
    _backup({}),
    _backup({"target": "az://shop/carts", "whole": True, "retries": 0}),
    _backup({"target": "http://shop"}, "does not match"),
    _backup({"method": "VolumeSnapshot", "snapshotClassName": "fast", "deletionPolicy": "Retain"}),
    _backup({"snapshotClassName": "fast"}, "snapshotClassName is only for method VolumeSnapshot"),
    _backup({"method": "VolumeSnapshot", "whole": True},
            "target and whole are only for method Records"),
    _backup({"method": "VolumeSnapshot", "target": "s3://shop"},
            "target and whole are only for method Records"),
    _cluster({"backup": {"method": "VolumeSnapshot", "schedule": "0 3 * * *"}}),
    _backup({"whole": True}, "a backup cannot be changed: delete it and make another", {}),
    _restore({"name": "before"}),
    _restore({"target": "gs://shop/carts"}),
    _restore({"target": "gs://shop/carts", "backupId": "shop-1-2f"}),
    _restore({}, "a backup is named by either name or target"),
    _restore({"name": "before", "backupId": "x"}, "backupId is only for target"),
    _restore({"name": "a"}, "a restore cannot be changed: delete it and make another",
             {"from": {"name": "b"}}),
    _repair({}),
    _repair({"partitions": [1, 2]}),
    _repair({"partitions": [1], "nodes": ["shop-0"]}, "a repair has either partitions or nodes"),
    _repair({"mode": "Full"}, "a repair cannot be changed: delete it and make another", {}),
    Case("DynamoCluster", {}, "metadata.name must be a DNS label", name="a.b"),
    Case("DynamoCluster", {}, "metadata.name must be a DNS label", name="1ring"),
    Case("DynamoCluster", {}, "metadata.name must be a DNS label", name="a" * 41),
    Case("DynamoCluster", {}, None, name="a" * 40),
)  # fmt: skip
