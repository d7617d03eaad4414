"""The CRDs: equal to the structs, tested for every field, with both results of each rule."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml

from dynamo_operator import crds
from dynamo_operator.definition import NAME_MESSAGE, RULES, every_crd
from dynamo_operator.spec import (
    API_VERSION,
    BadSpec,
    backup_spec,
    cluster_spec,
    repair_spec,
    restore_spec,
    seconds,
)
from tests.dynamo_operator.crd_check import defaulted, refusals, schema_of
from tests.dynamo_operator.spec_cases import CASES, Case
from tests.dynamo_operator.stories import make
from tests.dynamo_operator.world import World

ROOT = Path(__file__).parents[2]
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in every_crd()}


def resource(case: Case, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": case.name}
    return {"apiVersion": API_VERSION, "kind": case.kind, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_object_is_accepted_or_refused(case: Case) -> None:
    old = None if case.before is None else resource(case, case.before)
    if old is not None and case.kind != "DynamoCluster":
        old["spec"] |= {"clusterName": "shop"}
    said = refusals(CRDS[case.kind], resource(case, case.spec), old)
    if case.refused is None:
        assert said == []
    else:
        assert any(case.refused in message for message in said), said


def test_every_rule_has_an_object_that_it_refuses() -> None:
    refused = {case.refused for case in CASES}
    assert {rule.message for rule in RULES} <= refused
    assert any(message and message in NAME_MESSAGE for message in refused)


@pytest.mark.parametrize("name", crds.files())
def test_the_files_are_what_the_structs_say(name: str) -> None:
    assert (ROOT / name).read_text() == crds.files()[name], "python -m dynamo_operator.crds"


def fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from fields(inner, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")


@pytest.mark.parametrize("kind", CRDS)
def test_every_field_is_described(kind: str) -> None:
    for path, schema in fields(schema_of(CRDS[kind])):
        assert path == ".metadata" or schema.get("description", "").endswith("."), path


@pytest.mark.parametrize("kind", CRDS)
def test_no_name_or_word_is_a_boolean_for_kubectl(kind: str) -> None:
    tokens = yaml.scan(yaml.safe_dump(CRDS[kind]))
    for token in tokens:
        if isinstance(token, yaml.ScalarToken) and token.plain:
            assert token.value.lower() not in {"y", "n", "yes", "no", "on", "off"}


def test_defaults_are_those_of_the_structs() -> None:
    schema = schema_of(CRDS["DynamoCluster"])
    spec = defaulted(schema, {"spec": {}})["spec"]
    assert cluster_spec(spec) == cluster_spec({})
    assert defaulted(schema, {})["spec"] == spec
    given = {"clusterName": "shop", "from": {"name": "before"}}
    for kind, decode in (
        ("DynamoRepair", repair_spec),
        ("DynamoBackup", backup_spec),
        ("DynamoRestore", restore_spec),
    ):
        filled = defaulted(schema_of(CRDS[kind]), {"spec": given})["spec"]
        assert decode(filled) == decode(given)  # type: ignore[operator]
    assert msgspec.to_builtins(cluster_spec({}))["replication"]["writeQuorum"] == 2


def test_a_spec_that_the_schema_would_refuse_names_its_field() -> None:
    with pytest.raises(BadSpec, match=r"spec: Expected `int` >= 1 - at `\$.replication.factor`"):
        cluster_spec({"replication": {"factor": 0}})


def at(schema: dict[str, Any], path: str) -> dict[str, Any]:
    """The schema of a field that a path of a subresource names."""
    for name in path.strip(".").split("."):
        schema = schema["properties"][name]
    return schema


def test_an_autoscaler_finds_its_size_and_its_pods() -> None:
    (version,) = CRDS["DynamoCluster"]["spec"]["versions"]
    scale, schema = version["subresources"]["scale"], schema_of(CRDS["DynamoCluster"])
    assert scale["specReplicasPath"] == ".spec.size"
    assert at(schema, scale["specReplicasPath"])["type"] == "integer"
    assert at(schema, scale["statusReplicasPath"])["type"] == "integer"
    assert at(schema, scale["labelSelectorPath"])["type"] == "string"
    world = World()
    asyncio.run(world.play([make(size=4)]))
    (resource,) = world.found("DynamoCluster").values()
    assert at_value(resource, scale["statusReplicasPath"]) == 4
    selector = dict(
        pair.split("=") for pair in at_value(resource, scale["labelSelectorPath"]).split(",")
    )
    pods = [item["metadata"]["labels"] for item in world.found("Pod").values()]
    assert len(pods) == 4 and all(selector.items() <= labels.items() for labels in pods)


def at_value(item: dict[str, Any], path: str) -> Any:
    for name in path.strip(".").split("."):
        item = item[name]
    return item


def test_the_autoscaler_of_the_page_is_one() -> None:
    page = (ROOT / "docs/kubernetes/tasks.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```yaml\n")[1:]]
    (made,) = [yaml.safe_load(text) for text in blocks if "HorizontalPodAutoscaler" in text]
    kubernetes_validate.validate(made, "1.29", strict=True)
    crd, target = CRDS["DynamoCluster"]["spec"], made["spec"]["scaleTargetRef"]
    assert target["apiVersion"] == f"{crd['group']}/{crd['versions'][0]['name']}"
    assert target["kind"] == crd["names"]["kind"]
    spec = cluster_spec({})
    assert spec.replication.factor <= made["spec"]["minReplicas"]
    assert made["spec"]["maxReplicas"] <= spec.ring.partitions
    for metric in made["spec"]["metrics"]:  # a share of what pods request
        assert metric["resource"]["name"] in spec.resources.requests


def test_seconds_of_a_duration() -> None:
    assert [seconds(text) for text in ("250ms", "2s", "10m", "1h")] == [0.25, 2, 600, 3600]
    with pytest.raises(ValueError, match="needs a number"):
        seconds("1d")
