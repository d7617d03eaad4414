"""The operator's two ports: the API server and the nodes' admin listeners.

`kube` and `node_admin` are the real ones; the tests' simulated API server and ring implement the
same ports. Each failure is one of these:

    Failed                 with `status`: that of the answer, 0 without an answer
    ├── Gone               404, and 410
    ├── Conflict           409: it exists, or it has changed since the look
    ├── Busy               429: the disruption budget is used up, or the server is busy
    └── Refused            400, 403, 422: the same request would be refused again
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

Json = dict[str, Any]
"""An object of Kubernetes, or the answer of a node, as it came."""
FIELD_MANAGER = "dynamo-operator"
"""The name under which the operator applies objects."""


class Failed(Exception):
    """A request that failed."""

    def __init__(self, message: str, status: int = 0, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Gone(Failed):
    """The object does not exist."""


class Conflict(Failed):
    """Another client has changed it; look again."""


class Busy(Failed):
    """Not now."""


class Refused(Failed):
    """The server refuses the request as it is."""


def failure(status: int, message: str, body: Any = None) -> Failed:
    """The error for an answer's status."""
    kinds: dict[int, type[Failed]] = {
        **dict.fromkeys((404, 410), Gone),
        **dict.fromkeys((400, 403, 422), Refused),
        409: Conflict,
        429: Busy,
    }
    return kinds.get(status, Failed)(message, status, body)


class Way(Struct, frozen=True):
    """How a node is asked. `address`: the IP of its pod; `tokens`: what it is shown, each after it
    has refused the one before; `believed`: PEM of the authorities that its certificate has to
    be of, "" for a plain connection; `name`: what that certificate has to name."""

    address: str
    tokens: tuple[str, ...] = ()
    believed: str = ""
    name: str = ""


class KubeApi(Protocol):
    """The operator's requests to an API server. Every method raises Failed."""

    async def get(self, kind: str, namespace: str, name: str) -> Json | None:
        """The object, None if there is none."""

    async def find(self, kind: str, namespace: str, selector: str = "") -> list[Json]:
        """Objects by label; an empty namespace means all watched ones."""

    async def read(self, path: str) -> Json:
        """A document of the API server itself, that is no object."""

    async def create(self, body: Mapping[str, Any]) -> Json:
        """Raises Conflict if the name is taken."""

    async def apply(self, body: Mapping[str, Any]) -> Json:
        """Server-side apply, forced; a resourceVersion in it is a precondition."""

    async def patch(
        self, kind: str, namespace: str, name: str, body: Mapping[str, Any], sub: str = ""
    ) -> Json:
        """Merge patch, of a subresource if given; uid and resourceVersion are preconditions."""

    async def delete(
        self, kind: str, namespace: str, name: str, preconditions: Mapping[str, str]
    ) -> None:
        """Deletes exactly this object, by uid and resourceVersion."""

    async def evict(self, namespace: str, name: str, preconditions: Mapping[str, str]) -> None:
        """Raises Busy if the disruption budget is used up."""


class NodeApi(Protocol):
    """The operator's requests to a node's admin listener (docs/http-api.md). `secret` is the text
    of the cluster's Secret, from which tokens are made; "" if there is none. Raises Failed."""

    async def get(self, way: Way, path: str) -> Json:
        """A document of the node."""

    async def post(self, way: Way, path: str, body: Mapping[str, Any]) -> Json:
        """The node's answer to a request that may change something."""
