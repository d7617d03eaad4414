"""What users install: install.yaml, RBAC, samples, values, alerts and dashboard, no cluster.

`make e2e` renders the chart with helm and compares; here a digest shows that it was rendered.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from dynamo_operator.children import OPERATOR_LABELS
from dynamo_operator.definition import cluster_crd, every_crd
from dynamo_operator.handlers import PARTS
from tests.dynamo_operator.crd_check import refusals

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/dynamo-ring"
INSTALL = (ROOT / "manifests/install.yaml").read_text()
OBJECTS = [each for each in yaml.safe_load_all(INSTALL) if each]
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in every_crd()}
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
YAML_FILES = sorted(
    path
    for folder in ("charts", "manifests")
    for path in (ROOT / folder).rglob("*.yaml")
    if "templates" not in path.parts
)


def the(kind: str, name: str = "dynamo-ring") -> dict[str, Any]:
    found = [o for o in OBJECTS if o["kind"] == kind and o["metadata"]["name"] == name]
    assert len(found) == 1
    return dict(found[0])


def test_install_yaml_was_rendered_from_this_chart() -> None:
    files = sorted((str(path.relative_to(ROOT)), path) for path in CHART.rglob("*"))
    parts = [path.read_bytes() for _, path in files if path.is_file()]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    assert INSTALL.splitlines()[0].endswith(f"sha256 {digest}"), "run manifests/render"


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_object(version: str) -> None:
    for made in OBJECTS:
        kubernetes_validate.validate(made, version, strict=True)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_kubectl_reads_no_word_as_a_boolean(path: Path) -> None:
    for token in yaml.scan(path.read_text()):
        if isinstance(token, yaml.ScalarToken) and token.plain:
            assert token.value.lower() not in {"y", "n", "yes", "no", "on", "off"}


def test_rights_are_few_named_and_in_order() -> None:
    rules = the("ClusterRole")["rules"] + the("ClusterRole", "dynamo-ring-zones")["rules"]
    assert rules == yaml.safe_load((Path(__file__).parent / "rights.yaml").read_text())
    assert len(rules) <= 12
    assert "*" not in json.dumps(rules)
    for rule in rules:
        for words in rule.values():
            assert words == sorted(words)
    main = [(rule["apiGroups"], rule["resources"]) for rule in the("ClusterRole")["rules"]]
    assert main == sorted(main)


def test_what_is_watched_may_be_listed_and_watched() -> None:
    rules = the("ClusterRole")["rules"]
    for *group, _, plural in PARTS:
        (rule,) = (rule for rule in rules if plural in rule["resources"])
        assert (group or [""])[0] in rule["apiGroups"]
        assert {"list", "watch"} <= set(rule["verbs"])


def test_nobody_may_read_all_secrets() -> None:
    for role in (each for each in OBJECTS if each["kind"] == "ClusterRole"):
        for rule in role["rules"]:
            assert "secrets" not in rule["resources"] or "list" not in rule["verbs"]


def test_the_operator_is_one_restricted_pod_that_rings_let_in() -> None:
    spec = the("Deployment")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert spec["template"]["metadata"]["labels"].items() >= OPERATOR_LABELS.items()
    pod = spec["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_its_variables_are_those_that_it_reads() -> None:
    container = the("Deployment")["spec"]["template"]["spec"]["containers"][0]
    given = {line["name"] for line in container["env"]}
    page = (ROOT / "operator/src/dynamo_operator/app.py").read_text()
    assert given == set(re.findall(r"^    (DYNAMO_OPERATOR_\w+)  ", page, re.M))


@pytest.mark.parametrize("path", sorted((ROOT / "manifests/samples").glob("*.yaml")), ids=str)
def test_samples_are_accepted(path: Path) -> None:
    documents = yaml.safe_load_all(path.read_text())
    ours = [each for each in documents if each["kind"] in CRDS]
    assert ours
    for each in ours:
        assert refusals(CRDS[each["kind"]], each) == []


def test_examples_in_the_documentation_are_accepted() -> None:
    shown = 0
    for page in (ROOT / "docs/kubernetes").glob("*.md"):
        for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S):
            example = yaml.safe_load(text)
            whole = {"kind": "DynamoCluster", "metadata": {"name": "shop"}} | example
            whole = {"apiVersion": "dynamo-ring.dev/v1alpha1"} | whole
            if whole["kind"] not in CRDS:  # an autoscaler, of Kubernetes itself
                kubernetes_validate.validate(whole, VERSIONS[0], strict=True)
                continue
            assert refusals(CRDS[whole["kind"]], whole) == [], (page.name, text)
            shown += 1
    assert shown > 5


def test_values_keep_their_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(values)
    assert set(schema["properties"]) - {"global"} == set(values)
    for name, value in values.items():
        known = schema["properties"][name].get("properties")
        assert known is None or set(known) == set(value), name
    with pytest.raises(jsonschema.ValidationError, match="'replicas' was unexpected"):
        jsonschema.Draft7Validator(schema).validate(values | {"replicas": 3})


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    page = (ROOT / "docs/operations.md").read_text().split("<!-- table: metrics -->")[1]
    metrics = set(re.findall(r"^\| `(dynamo_\w+)`", page, re.M))
    table = (ROOT / "docs/operations.md").read_text().split("<!-- table: events -->")[1]
    events = set(re.findall(r"^\| `(\w+)`", table, re.M))
    gauges = (ROOT / "operator/src/dynamo_operator/metrics.py").read_text()
    metrics |= set(re.findall(r'"(dynamo_operator_\w+)"', gauges))
    metrics |= {f"dynamo_cluster_{name}" for name in re.findall(r'\("(\w+)", "', gauges)}
    for file in ("alerts.yaml", "dashboard.json"):
        asked = set(re.findall(r"\bdynamo_\w+", (CHART / "files" / file).read_text()))
        assert {re.sub("_bucket$", "", name) for name in asked} <= metrics
        text = (CHART / "files" / file).read_text()
        named = re.findall(r'\bevent=~?\\*"([\w|]+)', text)
        assert named and {one for each in named for one in each.split("|")} <= events, file
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    assert all(panel["description"] for panel in dashboard["panels"])
    alerts = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"][0]["rules"]
    assert all({"summary", "description"} <= set(each["annotations"]) for each in alerts)


def test_each_alert_leads_to_its_part_of_a_page() -> None:
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
    page = "docs/alerts.md"
    parts = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.M)
    alerts = yaml.safe_load((CHART / "files/alerts.yaml").read_text())["groups"][0]["rules"]
    for each in alerts:
        address = f"{source}/blob/main/{page}#{each['alert'].lower()}"
        assert each["annotations"].get("runbook_url") == address, each["alert"]
    assert parts == [each["alert"] for each in alerts], "a part for each alert, in its order"


def test_the_dashboard_works_outside_kubernetes() -> None:
    """There series have no namespace and no service: each variable may be All, which matches a
    label that is not there."""
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    chosen = {each["name"]: each for each in dashboard["templating"]["list"]}
    del chosen["datasource"]
    assert chosen.keys() == {"namespace", "service", "job"}
    assert {each["allValue"] for each in chosen.values()} == {".*"}
    marks = [each["expr"] for each in dashboard["annotations"]["list"]]
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]
    for expression in marks + asked:
        for metric, selector in re.findall(r"(dynamo_\w+)(\{[^}]*\})?", expression):
            of_operator = metric.startswith("dynamo_cluster_")  # it has no label of the nodes
            for name in ["namespace"] if of_operator else chosen:
                assert f'{name}=~"${name}"' in selector, expression
    assert any("dynamo_ring_epoch" in expression for expression in marks)
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows[:3] == ["Health", "Requests", "Transfers and the ring"]
    places = [tuple(panel["gridPos"][side] for side in "xy") for panel in dashboard["panels"]]
    assert len(set(places)) == len(places), "two panels in one place"
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_a_hub_can_show_where_the_chart_comes_from() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["home"], chart["sources"]) == (urls["Homepage"], [urls["Source"]])
    assert all(each["name"] and each["url"] for each in chart["maintainers"])
    assert chart["keywords"] and chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"
    raw, owner, project, branch, *picture = chart["icon"].removeprefix("https://").split("/")
    assert (raw, branch) == ("raw.githubusercontent.com", "main")
    assert urls["Source"] == f"https://github.com/{owner}/{project}"
    assert ROOT.joinpath(*picture).is_file()
    notes = {name.removeprefix("artifacthub.io/"): v for name, v in chart["annotations"].items()}
    for link in yaml.safe_load(notes["links"]):
        place = link["url"].removeprefix(f"{urls['Source']}/")
        assert place == "issues" or (ROOT / place.removeprefix("tree/main/")).is_dir()


def test_a_hub_shows_the_resources_that_are_installed() -> None:
    notes = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    shown = [
        (each["kind"], each["name"], each["version"])
        for each in yaml.safe_load(notes["artifacthub.io/crds"])
    ]
    assert shown == [
        (kind, crd["metadata"]["name"], crd["spec"]["versions"][0]["name"])
        for kind, crd in CRDS.items()
    ]
    for example in yaml.safe_load(notes["artifacthub.io/crdsExamples"]):
        assert refusals(CRDS[example["kind"]], example) == []


def test_the_package_the_chart_and_the_images_have_one_version() -> None:
    version = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[0]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
    spec = cluster_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["image"]["default"] == f"dynamo-ring-node:{version}"
    for dockerfile in ("node/Dockerfile", "operator/Dockerfile"):
        assert f'version="{version}"' in (ROOT / dockerfile).read_text()
    assert f"TAG ?= {version}" in (ROOT / "Makefile").read_text()
