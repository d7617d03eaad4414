"""What the variables of a node say about the places that it connects to.

Of a value only host and port of its URL are kept: URLs of proxies may have a password, and the
Secret of backups has credentials. The operator cannot read everything: variables may come from
other Secrets, and another container of the pod may connect to anywhere. `unread` names these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from dynamo_operator.pod import CONTAINER

OTEL = "DYNAMO_OTEL_ENDPOINT"
STORE_OF = {"AWS_": "s3", "GOOGLE_": "gs", "AZURE_": "az"}
"""The object store that a variable is about, by the beginning of its name."""
DEFAULT_PORT = {"http": 80, "https": 443}
OWN = {"fieldRef", "resourceFieldRef"}
"""Sources of variables that are the pod's own facts."""
_PLACE = re.compile("ENDPOINT|UR[IL]|PROXY|HOST")
"""Variables of these names may name a place."""


class Place(Struct, frozen=True, order=True):
    """A host, by name or address, and its TCP port."""

    host: str
    port: int


class Variables(Struct, frozen=True):
    """`names`: of variables about object stores; `places`: by name of the variable; `unread`: what
    may name further places, but cannot be read."""

    names: frozenset[str] = frozenset()
    places: frozenset[tuple[str, Place]] = frozenset()
    unread: frozenset[str] = frozenset()

    def __or__(self, other: Variables) -> Variables:
        return Variables(
            self.names | other.names, self.places | other.places, self.unread | other.unread
        )


def of_values(values: Iterable[tuple[str, str]]) -> Variables:
    """The variables in a mapping of names to values."""
    names, places, unread = set(), set(), set()
    for name, value in values:
        bare = name.upper()
        if store_of(bare):
            names.add(bare)
        if not (store_of(bare) or bare == OTEL or bare.endswith("_PROXY")):
            continue
        place = place_of(value, bare.endswith("_PROXY"))
        if place is not None:
            places.add((bare, place))
        elif _PLACE.search(bare) and ("$(" in value or "://" in value):
            unread.add(name)
    return Variables(frozenset(names), frozenset(places), frozenset(unread))


def of_pod(spec: Mapping[str, Any], secret: str | None) -> Variables:
    """Of a pod, or of a part of a pod's template. `secret`: whose keys are read elsewhere."""
    unread: set[str] = set()
    known = Variables()
    for each in (*_maps(spec.get("containers")), *_maps(spec.get("initContainers"))):
        if each.get("name") != CONTAINER:
            unread.add(f"container {each.get('name')}")
            continue
        unread |= {field for field in ("args", "command") if each.get(field)}
        unread |= set(_sources(each, secret))
        lines = _maps(each.get("env"))
        known |= of_values((str(line.get("name")), str(line.get("value", ""))) for line in lines)
    return known | Variables(unread=frozenset(unread))


def _sources(container: Mapping[str, Any], secret: str | None) -> Iterator[str]:
    """What a container has from Secrets and ConfigMaps and may be the name of a place."""
    for line in _maps(container.get("env")):
        name, source = str(line.get("name")), line.get("valueFrom") or {}
        if _PLACE.search(name.upper()) and not OWN.issuperset(source):
            yield name
    for source in _maps(container.get("envFrom")):
        named = (source.get("secretRef") or {}).get("name")
        if secret is None or named != secret or source.get("prefix"):
            yield "envFrom"


def _maps(value: Any) -> list[dict[str, Any]]:
    """The API server has not checked `spec.podTemplate`."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def store_of(name: str) -> str:
    """The object store that a variable is about, "" for others."""
    return next((store for begin, store in STORE_OF.items() if name.startswith(begin)), "")


def place_of(value: str, proxy: bool = False) -> Place | None:
    """The place that a URL names; a proxy needs no scheme. None: it names none that is known."""
    text = f"http://{value}" if proxy and "://" not in value else value
    try:
        parts = urlsplit(text)
        port = parts.port or DEFAULT_PORT.get(parts.scheme)
    except ValueError:
        return None
    return Place(parts.hostname, port) if parts.hostname and port else None
