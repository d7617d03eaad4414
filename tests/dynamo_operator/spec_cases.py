"""Objects that the rules of the CRDs accept and refuse; the same for the offline check and for the
API server of `make e2e`."""

from __future__ import annotations

from typing import Any, NamedTuple

Object = dict[str, Any]


class Case(NamedTuple):
    """A spec, and what is said to it. With `before`: a change of a resource that is there."""

    kind: str
    spec: Object
    refused: str | None
    before: Object | None = None
    name: str = "shop"


def _cluster(spec: Object, refused: str | None = None, before: Object | None = None) -> Case:
    return Case("DynamoCluster", spec, refused, before)


def _repair(spec: Object, refused: str | None = None, before: Object | None = None) -> Case:
    return Case("DynamoRepair", {"clusterName": "shop"} | spec, refused, before)


def _moves(*moves: Object, **ring: Any) -> Object:
    return {"ring": {"moves": list(moves)} | ring}


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
             "a move of partitions says from which node"),
    _cluster(_moves(A_MOVE | {"zone": "zone-a"}), "zone is only for tokens"),
    _cluster(_moves(A_MOVE | {"to": "shop-0"}), "from and to must differ"),
    _cluster({"storage": {"className": "fast"}}),
    _cluster({"storage": {"className": "fast"}}, None, {"storage": {"className": "fast"}}),
    _cluster({"storage": {"className": "fast"}}, None, {}),
    _cluster({"storage": {"className": "slow"}}, None, {"storage": {"className": "fast"}}),
    _cluster({"storage": {"size": "1025Mi"}}, None, {"storage": {"size": "1Gi"}}),
    _cluster({"storage": {"size": "1023Mi"}}, None, {"storage": {"size": "1Gi"}}),
    _cluster({"storage": {"size": "ten"}}, "'ten' does not match"),
    _cluster({"antiEntropy": {"interval": "500ms"}, "update": {"canary": 0}, "stopped": True}),
    _cluster({"antiEntropy": {"interval": "0s"}}, "'0s' does not match"),
    _cluster({"resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}),
    _cluster({"podTemplate": {"spec": {"priorityClassName": "high"}}}),
    _repair({}),
    _repair({"partitions": [1, 2]}),
    _repair({"partitions": [1], "nodes": ["shop-0"]}, "a repair has either partitions or nodes"),
    _repair({"mode": "Full"}, "a repair is not changed: delete it and make another", {}),
    Case("DynamoCluster", {}, "metadata.name must be a DNS label", name="a.b"),
    Case("DynamoCluster", {}, "metadata.name must be a DNS label", name="1ring"),
    Case("DynamoCluster", {}, "metadata.name must be a DNS label", name="a" * 41),
    Case("DynamoCluster", {}, None, name="a" * 40),
)  # fmt: skip
