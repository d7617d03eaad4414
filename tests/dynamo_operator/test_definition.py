"""The CRDs: the same as the structs, taught on every field, each rule tried both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from crd_check import defaulted, refusals, schema_of
from spec_cases import CASES, Case

from dynamo_operator import crds
from dynamo_operator.definition import NAME_MESSAGE, RULES, cluster_crd, repair_crd
from dynamo_operator.spec import API_VERSION, BadSpec, cluster_spec, repair_spec, seconds

ROOT = Path(__file__).parents[2]
CRDS = {"DynamoCluster": cluster_crd(), "DynamoRepair": repair_crd()}


def resource(case: Case, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": case.name}
    return {"apiVersion": API_VERSION, "kind": case.kind, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_object_is_accepted_or_refused(case: Case) -> None:
    old = None if case.before is None else resource(case, case.before)
    if old is not None and case.kind == "DynamoRepair":
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
    repair = defaulted(schema_of(CRDS["DynamoRepair"]), {"spec": {"clusterName": "shop"}})["spec"]
    assert repair_spec(repair) == repair_spec({"clusterName": "shop"})
    assert msgspec.to_builtins(cluster_spec({}))["replication"]["writeQuorum"] == 2


def test_a_spec_that_the_schema_would_refuse_names_its_field() -> None:
    with pytest.raises(BadSpec, match=r"spec: Expected `int` >= 1 - at `\$.replication.factor`"):
        cluster_spec({"replication": {"factor": 0}})


def test_seconds_of_a_duration() -> None:
    assert [seconds(text) for text in ("250ms", "2s", "10m", "1h")] == [0.25, 2, 600, 3600]
    with pytest.raises(ValueError, match="wants a number"):
        seconds("1d")
