"""What pods have from Secrets and ConfigMaps, and which nodes can speak with each other by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from dynamo_operator.authority import data_of, encoded, trust_of
from dynamo_operator.trust import Trust

Object = dict[str, Any]


NOTHING = Trust()


@dataclass(frozen=True)
class Mount:
    """What a pod has from its template and from Secrets."""

    tls: str = "off"
    trust: Trust = NOTHING
    access: bool = False
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def mount_of(pod: Object, objects: Mapping[tuple[str, str, str], Object]) -> Mount | None:
    """What its volumes have; None: a Secret or a ConfigMap is missing."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    node = next(c for c in spec["containers"] if c["name"] == "node")
    told = {line["name"]: line.get("value", "") for line in node["env"]}
    trust, access = Trust(), False
    files: dict[str, bytes] = {}
    for volume in spec["volumes"]:
        if volume["name"] == "tls":
            secret = objects.get(("Secret", namespace, volume["secret"]["secretName"]))
            if secret is None:
                return None
            trust = trust_of(secret, None)
            files |= data_of(secret)
        elif volume["name"] == "access":
            access = True
            rights = objects.get(("ConfigMap", namespace, volume["configMap"]["name"]))
            if rights is None:
                return None
            files |= {name: text.encode() for name, text in rights["data"].items()}
    return Mount(told.get("DYNAMO_PEER_TLS", "off"), trust, access, told, files)


PLAIN = Mount()


def marks_in(believed: str) -> tuple[str, ...]:
    """Of the authorities in a PEM: it is read as a Secret beside some certificate."""
    text = believed.encode()
    made = {"tls.crt": text, "tls.key": b"k", "ca.crt": text}
    meta = {"name": "read", "resourceVersion": "1"}
    return trust_of({"metadata": meta, "data": encoded(made)}, None).marks


def strangers(nodes: Iterable[tuple[str, Mount]]) -> Iterator[str]:
    """Pairs of nodes of one ring that could not speak with each other: theorem 4, and that no node
    shows a certificate that another does not believe."""
    for (one, has), (other, its) in permutations(nodes, 2):
        if one.rpartition("-")[0] != other.rpartition("-")[0]:
            continue
        if (has.tls, its.tls) == ("off", "require"):
            yield f"{one} is plain and {other} takes TLS only"
        elif "off" not in (has.tls, its.tls):
            shown = has.trust.certificate
            if shown is None or shown.signer not in its.trust.marks:
                yield f"{other} does not believe {one}"
