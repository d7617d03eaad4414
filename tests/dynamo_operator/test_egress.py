"""Where nodes may connect to: a table of what is named, and of what is reached then."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from msgspec import structs

from dynamo_operator import children
from dynamo_operator.egress import Outward
from dynamo_operator.owner import Owner
from dynamo_operator.plan import backups, objects, table
from dynamo_operator.plan.objects import belongings
from dynamo_operator.plan.outward import outward
from dynamo_operator.pod import PORTS
from dynamo_operator.snapshot import Snapshot
from dynamo_operator.spec import cluster_spec
from dynamo_operator.variables import Place, Variables, of_pod, of_values, place_of
from tests.dynamo_operator.looks import asked, settled
from tests.dynamo_operator.policies import End, allowed
from tests.dynamo_operator.stories import STORIES, make
from tests.dynamo_operator.test_backups import run
from tests.dynamo_operator.world import NAMESPACE, Scene, World

OWNER = Owner("shop", "rings", "uid", "dynamo-system")
NODE = End("10.0.0.1", "rings", OWNER.selector, ports=PORTS)
PEER = End("10.0.0.2", "rings", OWNER.selector, ports=PORTS)
OTHER_RING = End("10.0.0.3", "rings", OWNER.selector | {"app.kubernetes.io/instance": "other"})
DNS = End("10.0.0.53", "kube-system", {"k8s-app": "kube-dns"})
API_SERVER, WORLD = End("172.16.0.1"), End("198.51.100.7")
MINIO, NEAR = End("10.0.0.9", "storage"), End("10.0.0.8", "rings", {"app": "minio"})
LITERAL, METADATA = End("192.0.2.10"), End("169.254.169.254")
KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}


def told(**values: str) -> Variables:
    return of_values(values.items())


def reached(outward: Outward, given: Any = None) -> set[str]:
    """The names of ends and ports that a node reaches, of some that clouds and clusters have."""
    spec = cluster_spec({"networkPolicy": {} if given is None else {"egress": given}})
    policy = children.network_policy(OWNER, spec, outward)
    tried = {
        "dns": (DNS, 53), "peer": (PEER, 8082), "peer's admin": (PEER, 8081),
        "peer's ssh": (PEER, 22), "other ring": (OTHER_RING, 8082), "https": (WORLD, 443),
        "http": (WORLD, 80), "9000": (WORLD, 9000), "4318": (WORLD, 4318), "3128": (WORLD, 3128),
        "ssh": (WORLD, 22), "api server": (API_SERVER, 6443), "minio": (MINIO, 9000),
        "minio's target port": (MINIO, 19000), "near": (NEAR, 19000), "literal": (LITERAL, 9000),
        "literal https": (LITERAL, 443), "metadata": (METADATA, 80), "gke": (METADATA, 988),
    }  # fmt: skip
    return {name for name, (end, port) in tried.items() if allowed([policy], NODE, end, port)}


ALWAYS = {"dns", "peer", "peer's admin"}
CLOUD = {"metadata", "gke"}
WEB = {"https", "literal https"}
S3 = frozenset({"s3"})


@pytest.mark.parametrize(
    ("outward", "further"),
    [
        (Outward(), set()),
        (Outward(S3), WEB | CLOUD),
        (Outward(S3, told(**KEYS)), WEB),
        (Outward(variables=told(**KEYS)), WEB),
        (Outward(frozenset({"gs"}), told(GOOGLE_SERVICE_ACCOUNT="/etc/key.json")), WEB),
        (Outward(frozenset({"az"}), told(AZURE_STORAGE_ACCOUNT_KEY="k")), WEB),
        (Outward(S3, told(**KEYS, AWS_ENDPOINT_URL="https://s3.example.com")), WEB),
        (Outward(S3, told(**KEYS, AWS_ENDPOINT_URL="http://s3.example.com")),
         {"http", "metadata"}),
        (Outward(S3, told(AWS_ENDPOINT_URL="https://s3.example.com:9000")),
         WEB | CLOUD | {"9000", "minio", "literal"}),
        (Outward(S3, told(**KEYS, AWS_ENDPOINT_URL="http://minio.storage.svc:9000")),
         {"9000", "minio", "minio's target port", "literal"}),
        (Outward(S3, told(**KEYS, AWS_ENDPOINT_URL="http://minio.storage:9000")),
         {"9000", "minio", "minio's target port", "literal"}),
        (Outward(S3, told(**KEYS, AWS_ENDPOINT_URL="http://minio:9000")),
         {"9000", "minio", "literal", "near", "other ring"}),
        (Outward(S3, told(**KEYS, AWS_ENDPOINT_URL="http://192.0.2.10:9000")), {"literal"}),
        (Outward(S3, told(**KEYS, https_proxy="proxy.corp:3128")), WEB | {"3128"}),
        (Outward(variables=told(HTTPS_PROXY="http://user:word@proxy.corp:3128")), set()),
        (Outward(variables=told(DYNAMO_OTEL_ENDPOINT="http://otel.example.com:4318")), {"4318"}),
        (Outward(variables=told(DYNAMO_OTEL_ENDPOINT="http://$(HOST_IP):4318")), {"4318"}),
        (Outward(variables=told(DYNAMO_OTEL_ENDPOINT="http://localhost:4318")), set()),
    ],
)  # fmt: skip
def test_nodes_reach_what_is_named_and_nothing_else(outward: Outward, further: set[str]) -> None:
    assert reached(outward) == ALWAYS | further


def test_rules_of_the_spec_replace_those_of_the_operator() -> None:
    needs = Outward(S3, told(**KEYS) | Variables(unread=frozenset({"envFrom"})))
    assert reached(needs, []) == ALWAYS
    assert reached(needs, [{"ports": [{"port": 9000}]}]) == ALWAYS | {"9000", "literal", "minio"}
    assert reached(Outward(), [{}]) >= ALWAYS | {"ssh", "api server", "metadata"}


@pytest.mark.parametrize(
    ("spec", "unread"),
    [
        ({}, set()),
        ({"containers": [{"name": "node", "image": "x"}]}, set()),
        ({"containers": [{"name": "node"}, {"name": "mesh"}]}, {"container mesh"}),
        ({"initContainers": [{"name": "first"}]}, {"container first"}),
        ({"containers": [{"name": "node", "args": ["--otel-endpoint=x"]}]}, {"args"}),
        ({"containers": [{"name": "node", "envFrom": [{"secretRef": {"name": "mine"}}]}]}, set()),
        (
            {"containers": [{"name": "node", "envFrom": [{"secretRef": {"name": "x"}}]}]},
            {"envFrom"},
        ),
        ({"containers": "senseless"}, set()),
        ({"containers": [None, {"name": "node", "env": [None, {}]}]}, set()),
    ],
)
def test_what_cannot_be_read_of_a_pod(spec: dict[str, Any], unread: set[str]) -> None:
    assert of_pod(spec, "mine").unread == unread


@pytest.mark.parametrize(
    ("line", "unread"),
    [
        ({"name": "AWS_ENDPOINT_URL", "valueFrom": {"secretKeyRef": {"name": "x"}}}, True),
        ({"name": "HTTPS_PROXY", "valueFrom": {"configMapKeyRef": {"name": "x"}}}, True),
        ({"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "x"}}}, False),
        ({"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}, False),
        ({"name": "DYNAMO_OTEL_ENDPOINT", "value": "$(ELSEWHERE)"}, True),
        ({"name": "DYNAMO_OTEL_ENDPOINT", "value": "http://x:$(PORT)"}, True),
        ({"name": "DYNAMO_LOG_LEVEL", "value": "debug"}, False),
    ],
)
def test_what_cannot_be_read_of_a_variable(line: dict[str, Any], unread: bool) -> None:
    found = of_pod({"containers": [{"name": "node", "env": [line]}]}, None)
    assert found.unread == ({line["name"]} if unread else set())


def test_where_nothing_can_be_known_nodes_may_connect_to_anywhere() -> None:
    needs = Outward(variables=Variables(unread=frozenset({"container mesh"})))
    policy = children.network_policy(OWNER, cluster_spec({}), needs)
    assert policy["spec"]["policyTypes"] == ["Ingress"] and "egress" not in policy["spec"]


def test_no_password_of_a_url_is_kept() -> None:
    found = told(HTTPS_PROXY="http://user:word@proxy.corp:3128", **KEYS)
    assert found.places == {("HTTPS_PROXY", Place("proxy.corp", 3128))}
    assert "word" not in repr(found) and "user" not in repr(found)
    assert [place_of(text) for text in ("", "minio:9000", "https://", "http://x:y")] == [None] * 4


ENV = [{"name": "DYNAMO_OTEL_ENDPOINT", "value": "http://otel.watch.svc:4318"}]


@pytest.mark.parametrize(
    ("o", "stores"),
    [
        (settled(), set()),
        (asked(settled(), backup={"target": "s3://a/b"}), {"s3"}),
        (asked(settled(), backup={"target": "file:///backups/a"}), set()),
        (asked(settled(), bootstrap={"fromBackup": {"target": "gs://a/b"}}), {"gs"}),
        (structs.replace(settled(), runs=(run("a", 0.0, "", archive="az://x"),)), {"az"}),
        (structs.replace(settled(), runs=(run("a", 0.0, archive="az://x"),)), {"az"}),
    ],
)
def test_every_archive_that_is_named_counts(o: Snapshot, stores: set[str]) -> None:
    assert outward(o) == Outward(frozenset(stores))


def test_pods_that_run_count_beside_those_that_will() -> None:
    o = settled()
    traced = asked(o, podTemplate={"spec": {"containers": [{"name": "node", "env": ENV}]}})
    place = ("DYNAMO_OTEL_ENDPOINT", Place("otel.watch.svc", 4318))
    assert outward(traced).variables.places == {place}
    injected = structs.replace(o.pods[1], variables=Variables(unread=frozenset({"container m"})))
    assert outward(structs.replace(o, pods=o.pods | {1: injected})).variables.unread
    assert not outward(o).variables.unread


def policy_of(world: World) -> dict[str, Any]:
    found = world.object("NetworkPolicy", "cart")
    assert found is not None
    return found


def play(*scenes: Scene) -> World:
    world = World()
    asyncio.run(world.play(list(scenes)))
    return world


def test_a_ring_of_a_version_without_these_rules_gets_them() -> None:
    def as_before(w: World) -> None:
        spec = policy_of(w)["spec"]
        w.kube.change("NetworkPolicy", NAMESPACE, "cart", metadata={"annotations": None})
        kept = {"policyTypes": ["Ingress"], "egress": None}
        w.kube.change("NetworkPolicy", NAMESPACE, "cart", spec=spec | kept)

    world = play(make(), Scene(as_before))
    assert policy_of(world)["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_a_rule_that_somebody_narrows_is_put_back() -> None:
    def narrow(w: World) -> None:
        spec = policy_of(w)["spec"]
        less = [{**rule, "to": [{"podSelector": {}}]} for rule in spec["egress"]]
        w.kube.change("NetworkPolicy", NAMESPACE, "cart", spec=spec | {"egress": less})

    world = play(make())
    before = policy_of(world)["spec"]
    assert policy_of(play(make(), Scene(narrow)))["spec"] == before


def test_rules_without_a_protocol_are_no_edit() -> None:
    """The API server fills it in."""
    given = {"egress": [{"ports": [{"port": 443}]}]}
    world = play(make(networkPolicy=given))
    assert policy_of(world)["spec"]["egress"][-1] == {"ports": [{"port": 443, "protocol": "TCP"}]}
    o = asyncio.run(world.operators[0].observer.look(NAMESPACE, "cart", world.kube.now))
    assert o is not None and belongings(o) is None


def test_the_rule_is_there_before_a_node_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator refuses an archive that the policy does not let a node reach."""
    story = STORIES["backup while it grows"]
    assert not play(*story).ring.wrong
    late = [row for row in table.TABLE if row[1] is not belongings]
    late.insert(1 + [row for _, row in late].index(backups.begin), ("late", belongings))
    with monkeypatch.context() as patched:
        patched.setattr(table, "TABLE", tuple(late))
        assert any("cannot reach" in wrong for wrong in play(*story).ring.wrong)
    monkeypatch.setattr(objects, "outward", lambda o: Outward())
    assert any("cannot reach" in wrong for wrong in play(*story).ring.wrong)


def test_the_secret_of_backups_is_read_for_its_places_only() -> None:
    data = KEYS | {"AWS_ENDPOINT_URL": "http://192.0.2.10:9000"}
    secret = {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}

    def mount(w: World) -> None:
        meta = {"name": "archive", "namespace": NAMESPACE}
        w.kube.put({"kind": "Secret", "metadata": meta, "data": secret})

    backup = {"target": "s3://a/b", "secretName": "archive"}
    world = play(Scene(mount), make(0, backup=backup))
    block = {"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}]}
    ports = {"ports": [{"port": 9000, "protocol": "TCP"}]}
    assert policy_of(world)["spec"]["egress"][2:] == [block | ports]
    look = world.operators[0].observer.look
    o = asyncio.run(look(NAMESPACE, "cart", world.kube.now))
    assert o is not None and o.archive_variables.names == {"AWS_ACCESS_KEY_ID", *data}
    assert "x" not in {place.host for _, place in o.archive_variables.places}
    world.edit(networkPolicy={"egress": []})
    o = asyncio.run(look(NAMESPACE, "cart", world.kube.now))
    assert o is not None and o.archive_variables == Variables(), "it was not read"
