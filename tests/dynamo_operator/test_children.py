"""The objects of a ring: golden files, real schemas, pod security, and the node's settings.

`python tests/dynamo_operator/test_children.py` writes the golden files anew.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from dynamo_node.settings import NodeSettings
from dynamo_operator.children import (
    OPERATOR_LABELS,
    companions,
    secret,
    selector_text,
    stateful_set,
)
from dynamo_operator.claims import claim_template
from dynamo_operator.overlay import laid_over
from dynamo_operator.owner import Owner
from dynamo_operator.protection import names_of
from dynamo_operator.spec import cluster_spec
from dynamo_operator.spec_types import NODE_MEMORY, NODE_MEMORY_TLS
from dynamo_operator.trust import PLAIN, Security

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = [f"1.{minor}" for minor in range(29, 38)]
OWNER = Owner("shop", "rings", "0d9c5d5e-31d1-4d5e-9f0b-1f1f4a5a6b7c", "dynamo-system")
EVERYTHING = {
    "size": 5,
    "image": "registry.example/dynamo-ring-node:1.2.3",
    "imagePullSecrets": ["registry"],
    "replication": {"factor": 5, "readQuorum": 2, "writeQuorum": 3},
    "topology": {"spread": "Required", "zoneKey": "example.com/room"},
    "storage": {"size": "20Gi", "className": "fast"},
    "antiEntropy": {"interval": "500ms"},
    "resources": {"requests": {"cpu": 1}, "limits": {"memory": "2Gi"}},
    "podTemplate": {
        "metadata": {"labels": {"team": "carts", "app.kubernetes.io/name": "mine"}},
        "spec": {
            "priorityClassName": "high",
            "containers": [
                {"name": "node", "env": [{"name": "DYNAMO_LOG_LEVEL", "value": "debug"}]},
                {"name": "sidecar", "image": "sidecar:1"},
            ],
            "tolerations": [{"key": "storage", "operator": "Exists"}],
        },
    },
    "service": {"type": "LoadBalancer", "port": 80, "annotations": {"example.com/lb": "internal"}},
    "exposure": {
        "type": "LoadBalancer",
        "hosts": "$(pod).ring.example",
        "advertise": True,
        "annotations": {"external-dns.alpha.kubernetes.io/hostname": "$(pod).ring.example"},
        "loadBalancerClass": "example.com/metal",
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "externalTrafficPolicy": "Local",
    },
    "auth": {"secretName": "mine"},
    "networkPolicy": {
        "clients": [{"namespaceSelector": {"matchLabels": {"team": "carts"}}}],
        "monitoring": [{"namespaceSelector": {"matchLabels": {"team": "watchers"}}}],
        "egress": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "monitoring": {"serviceMonitor": True, "labels": {"release": "prometheus"}},
    "recovery": {"autoReplace": "Never"},
    "update": {"peerProtocolMin": 2},
    "backup": {
        "target": "file:///backups/shop",
        "secretName": "archive",
        "volumeClaim": "backups",
    },
}
SECURE = {
    "tls": {"mode": "Required"},
    "access": {
        "mode": "Required",
        "rules": [
            {"serviceAccount": "shop/checkout", "prefixes": ["cart:"], "verbs": ["get", "put"]}
        ],
        "administrators": ["ops/on-call"],
    },
    "monitoring": {"serviceMonitor": True},
}
SPECS = {"plain": {}, "everything": EVERYTHING, "secure": SECURE}
SECURITY = Security("require", True, 3, "PEM", '{"keys":[]}', "https://kubernetes.default.svc")


def rendered(which: str) -> list[dict[str, Any]]:
    spec = cluster_spec(SPECS[which])
    security = SECURITY if which == "secure" else PLAIN
    first = claim_template(OWNER, cluster_spec({})) if which == "everything" else None
    return [
        *companions(OWNER, spec, security),
        secret(OWNER, spec, "a secret"),
        stateful_set(OWNER, spec, spec.size, first, security),
    ]


def pod_of(which: str) -> dict[str, Any]:
    template: dict[str, Any] = rendered(which)[-1]["spec"]["template"]
    return template


def text_of(which: str) -> str:
    plain = json.loads(json.dumps(rendered(which)))  # without aliases
    return yaml.safe_dump_all(plain, sort_keys=True, width=100)


@pytest.mark.parametrize("which", SPECS)
def test_golden(which: str) -> None:
    assert text_of(which) == (GOLDEN / f"{which}.yaml").read_text()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", SPECS)
def test_the_schemas_of_kubernetes(which: str, version: str) -> None:
    for made in rendered(which):
        if made["apiVersion"] != "monitoring.coreos.com/v1":
            kubernetes_validate.validate(made, version, strict=True)


def test_pod_security_is_restricted() -> None:
    spec = pod_of("plain")["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    kinds = {kind for volume in pod_of("secure")["spec"]["volumes"] for kind in volume}
    assert kinds == {"name", "secret", "emptyDir", "configMap"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


def test_users_and_groups_may_be_left_to_the_platform() -> None:
    """OpenShift's restricted-v2 refuses any that are not of the namespace's range."""
    spec = cluster_spec({"runAs": "Assigned"})
    pod = stateful_set(OWNER, spec, 3)["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "fsGroupChangePolicy": "OnRootMismatch",
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    fixed = pod_of("plain")["spec"]["securityContext"]
    assert fixed == pod["securityContext"] | dict.fromkeys(
        ("fsGroup", "runAsGroup", "runAsUser"), 10001
    )


def test_services_have_both_families_where_that_is_asked_for() -> None:
    services = {
        policy: [
            each["spec"].get("ipFamilyPolicy")
            for each in companions(OWNER, cluster_spec({"service": service}))
            if each["kind"] == "Service"
        ]
        for policy, service in (("unset", {}), ("both", {"ipFamilyPolicy": "PreferDualStack"}))
    }
    assert services == {"unset": [None, None], "both": ["PreferDualStack", "PreferDualStack"]}


@pytest.mark.parametrize("which", SPECS)
def test_a_node_understands_every_variable(which: str) -> None:
    node = next(c for c in pod_of(which)["spec"]["containers"] if c["name"] == "node")
    known = {f"DYNAMO_{field}".upper() for field in NodeSettings.model_fields}
    values = {line["name"]: line.get("value", "x") for line in node["env"]}
    assert values.keys() <= known
    assert values["DYNAMO_ADVERTISE"] == "$(DYNAMO_NAME).shop-nodes.rings.svc:8082"
    fields = {name.removeprefix("DYNAMO_").lower(): value for name, value in values.items()}
    fields |= {"token_issuer": "https://issuer"} if which == "secure" else {}
    fields["advertise"] = fields["advertise"].replace("$(DYNAMO_NAME)", "shop-0")
    NodeSettings(_cli_parse_args=[], **fields)  # type: ignore[call-arg]


def test_a_disk_and_a_name_are_the_same_for_ever() -> None:
    plain, grown = rendered("plain")[-1], rendered("everything")[-1]
    assert grown["spec"]["volumeClaimTemplates"][0]["spec"]["resources"] == {
        "requests": {"storage": "10Gi"}
    }
    for made in (plain, grown):
        assert made["spec"]["persistentVolumeClaimRetentionPolicy"] == {
            "whenDeleted": "Retain",
            "whenScaled": "Retain",
        }
        assert made["spec"]["selector"]["matchLabels"] == OWNER.selector
        assert made["spec"]["template"]["metadata"]["labels"].items() >= OWNER.selector.items()
    assert OWNER.claim(2) == "data-shop-2"
    assert OWNER.host("shop-2") == "shop-2.shop-nodes.rings.svc"


def test_the_budget_keeps_the_larger_quorum() -> None:
    budgets = [
        next(o for o in rendered(which) if o["kind"] == "PodDisruptionBudget") for which in SPECS
    ]
    assert [budget["spec"]["maxUnavailable"] for budget in budgets] == [1, 2, 1]


def test_what_is_switched_off_is_not_made() -> None:
    off = {"podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}}
    made = companions(OWNER, cluster_spec(off))
    assert [(each["kind"], each["metadata"]["name"]) for each in made] == [
        ("Service", "shop-nodes"),
        ("Service", "shop"),
    ]


@pytest.mark.parametrize("given", [[], [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]])
def test_nodes_dial_dns_and_the_ring_and_what_is_named(given: list[dict[str, Any]]) -> None:
    def policy(spec: dict[str, Any]) -> Any:
        made = companions(OWNER, cluster_spec({"networkPolicy": spec}))
        return next(each["spec"] for each in made if each["kind"] == "NetworkPolicy")

    assert policy({})["egress"] == policy({"egress": []})["egress"], "no archive, no traces"
    made = policy({"egress": given})
    assert made["policyTypes"] == ["Ingress", "Egress"]
    dns, peers, *more = made["egress"]
    assert {(each["protocol"], each["port"]) for each in dns["ports"]} == {
        (how, port) for how in ("UDP", "TCP") for port in (53, 5353)
    }
    assert "to" not in dns, "the address of a resolver on the machine is in no pod"
    assert peers["to"] == [{"podSelector": {"matchLabels": OWNER.selector}}]
    assert [each["port"] for each in peers["ports"]] == [8080, 8081, 8082]
    assert more == given
    assert made["ingress"] == policy({})["ingress"]


def test_the_secret_outlives_the_resource() -> None:
    made = next(each for each in rendered("plain") if each["kind"] == "Secret")
    assert "ownerReferences" not in made["metadata"]
    assert all(
        each["metadata"]["ownerReferences"][0]["uid"] == OWNER.uid
        for each in rendered("plain")
        if each["kind"] != "Secret"
    )


def container(spec: dict[str, Any], security: Security) -> dict[str, Any]:
    made = stateful_set(OWNER, cluster_spec(spec), 3, None, security)
    found: dict[str, Any] = made["spec"]["template"]["spec"]["containers"][0]
    return found


def test_a_pod_with_tls_has_the_memory_of_the_formula() -> None:
    limits = [container({}, each)["resources"]["limits"] for each in (PLAIN, SECURITY)]
    assert limits == [{"memory": NODE_MEMORY}, {"memory": NODE_MEMORY_TLS}]
    own = {"resources": {"limits": {"memory": "3Gi"}}}
    assert container(own, SECURITY)["resources"]["limits"] == {"memory": "3Gi"}


def test_probes_and_services_say_how_nodes_speak() -> None:
    schemes = [
        container({}, Security(tls=tls))["readinessProbe"]["httpGet"].get("scheme")
        for tls in ("off", "allow", "require")
    ]
    assert schemes == [None, "HTTPS", "HTTPS"]
    for which, protocol in (("plain", "http"), ("secure", "https")):
        ports = [
            port
            for made in rendered(which)
            if made["kind"] == "Service"
            for port in made["spec"]["ports"]
        ]
        assert {p.get("appProtocol") for p in ports if p["name"] != "peer"} == {protocol}


def test_cert_manager_is_asked_for_the_same_names() -> None:
    spec = cluster_spec({"tls": {"mode": "Required", "issuerRef": {"name": "ours"}}})
    security = Security("require", True, 20)
    made = next(o for o in companions(OWNER, spec, security) if o["kind"] == "Certificate")
    wanted = names_of(OWNER, spec, 20)
    assert set(made["spec"]["dnsNames"] + made["spec"]["ipAddresses"]) == set(wanted)
    assert made["spec"]["ipAddresses"] == ["127.0.0.1", "::1"]
    assert {"shop-0", "shop-31"} <= set(made["spec"]["dnsNames"])
    assert made["spec"]["issuerRef"] == {
        "name": "ours",
        "kind": "Issuer",
        "group": "cert-manager.io",
    }
    template = stateful_set(OWNER, spec, 3, None, security)["spec"]["template"]["spec"]
    assert {"secretName": made["spec"]["secretName"], "defaultMode": 0o440} in [
        volume.get("secret") for volume in template["volumes"]
    ]


def test_the_selector_as_text() -> None:
    assert re.fullmatch(r"(app\.kubernetes\.io/\w+=[\w-]+,?){3}", selector_text(OWNER))
    assert OPERATOR_LABELS.items().isdisjoint(OWNER.selector.items())


def test_laid_over() -> None:
    below = {
        "a": {"b": 1, "c": [1, 2]},
        "l": [{"name": "x", "v": 1}, {"name": "y"}],
        "t": [{"k": 1}],
    }
    above = {"a": {"b": 2, "c": [3]}, "l": [{"name": "z"}, {"name": "x", "w": 2}], "t": [{"k": 2}]}
    assert laid_over(below, above) == {
        "a": {"b": 2, "c": [3]},
        "l": [{"name": "x", "v": 1, "w": 2}, {"name": "y"}, {"name": "z"}],
        "t": [{"k": 1}, {"k": 2}],
    }
    assert laid_over(below, {}) == below


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in SPECS:
        (GOLDEN / f"{each}.yaml").write_text(text_of(each))
