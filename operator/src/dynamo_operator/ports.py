"""The two ports to the world, as the loop sees them: the API server and the nodes' admin listeners.

`kube` and `node_admin` are the real ones; the tests' simulated API server and ring stand behind the
same ports. Each failure is one of these:

    Failed                 with `status`: what the other side answered, 0 when it did not
    ├── Gone               404, and 410
    ├── Conflict           409: it exists, or it is not what it was when it was looked at
    ├── Busy               429: the disruption budget, or a server that has enough to do
    └── Refused            400, 403, 422: asking again changes nothing
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Found = dict[str, Any]
FIELD_MANAGER = "dynamo-operator"
"""As whom the operator applies."""


class Failed(Exception):
    """A request that did not do what it was for."""

    def __init__(self, message: str, status: int = 0, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Gone(Failed):
    """There is no such object."""


class Conflict(Failed):
    """Somebody was there before; look again."""


class Busy(Failed):
    """Not now."""


class Refused(Failed):
    """Not like this."""


def failure(status: int, message: str, body: Any = None) -> Failed:
    """The error of an answer's status."""
    kinds: dict[int, type[Failed]] = {
        **dict.fromkeys((404, 410), Gone),
        **dict.fromkeys((400, 403, 422), Refused),
        409: Conflict,
        429: Busy,
    }
    return kinds.get(status, Failed)(message, status, body)


class KubeApi(Protocol):
    """What the operator asks of an API server. Every method raises Failed."""

    async def get(self, kind: str, namespace: str, name: str) -> Found | None:
        """The object, None when there is none."""

    async def find(self, kind: str, namespace: str, selector: str = "") -> list[Found]:
        """Objects by label; an empty namespace means all that are watched."""

    async def create(self, body: Mapping[str, Any]) -> Found:
        """Raises Conflict when the name is taken."""

    async def apply(self, body: Mapping[str, Any]) -> Found:
        """Server-side apply, forced; a resourceVersion in it is a precondition."""

    async def patch(
        self, kind: str, namespace: str, name: str, body: Mapping[str, Any], sub: str = ""
    ) -> Found:
        """Merge patch, of a subresource when named; uid and resourceVersion are preconditions."""

    async def delete(
        self, kind: str, namespace: str, name: str, preconditions: Mapping[str, str]
    ) -> None:
        """Deletes one very object: uid and resourceVersion."""

    async def evict(self, namespace: str, name: str, preconditions: Mapping[str, str]) -> None:
        """Raises Busy when the disruption budget is used up."""


class NodeApi(Protocol):
    """What the operator asks of a node's admin listener (docs/http-api.md). Raises Failed."""

    async def get(self, address: str, path: str, token: str) -> Found:
        """A document of the node at `address`, its IP."""

    async def post(self, address: str, path: str, token: str, body: Mapping[str, Any]) -> Found:
        """Its answer to a request that may change something."""
