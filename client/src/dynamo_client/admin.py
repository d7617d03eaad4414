"""The admin listener of one node, for programs: status, rings, repairs, keys (docs/http-api.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlencode

import msgspec

from dynamo_client.attempts import error_of_reply
from dynamo_client.errors import BadAnswer, BadParameter, ConnectionFailed
from dynamo_client.operations import Key, key_bytes, quoted
from dynamo_client.pool import BlockingPool
from dynamo_client.routing import checked_url
from dynamo_client.steps import Ask, Failure, Reply, T

TIMEOUT_S = 35.0
"""A node takes 30 s at most for what it asks of others."""
KEYS_PAGE = 1000


class _Page(msgspec.Struct):
    keys: list[bytes]
    next: str | None


class AdminClient:
    """One node's admin listener at `url`; `token` is the cluster's secret where one is set.

    Nothing is tried twice: what changes a ring is for whoever asked to repeat. Every method raises
    ClientError, and so does a token that is not printable ASCII; `timeout_s` is how long a request
    may take. Threads may share it.
    """

    def __init__(self, url: str, token: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = checked_url(url, "url")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise BadParameter("token: one line of printable ASCII")
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        self._timeout_s = timeout_s
        self._pool = BlockingPool([self.url], headers)

    def status(self) -> dict[str, Any]:
        """This node, as docs/http-api.md has it."""
        return self._document("GET", "/v1/status")

    def ring(self) -> dict[str, Any]:
        """The ring document; NotAMember when the node is in none."""
        return self._document("GET", "/v1/ring")

    def create_ring(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Founds a ring and returns it, or the one that is there under the same cluster id.
        Raises Conflict when the node is in another one (S-RING-5)."""
        return self._document("POST", "/v1/ring", body)

    def plan(self, wishes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What `join`, `leave`, `weights`, `moves` and `defaults` would mean; with none of
        them, how the ring would be balanced (docs/http-api.md). Changes nothing."""
        return self._document("POST", "/v1/ring/plan", wishes or {})

    def apply(
        self, wishes: Mapping[str, Any], plan_hash: str, operation_id: str | None = None
    ) -> dict[str, Any]:
        """Carries out the plan of these wishes; under the same operation id it is done once. Raises
        Conflict: `plan-changed`, with the new one in `document["plan"]`, or `superseded`."""
        more = {} if operation_id is None else {"operation_id": operation_id}
        return self._document("POST", "/v1/ring/apply", {**wishes, "hash": plan_hash, **more})

    def cancel(self) -> dict[str, Any]:
        """Takes back what has not been switched yet."""
        return self._document("POST", "/v1/ring/cancel", {})

    def remove(
        self,
        name: str,
        *,
        force: bool = False,
        accept_loss: bool = False,
        operation_id: str | None = None,
    ) -> dict[str, Any]:
        """Without `force`: which partitions may lose acked writes, and which would fall below N.
        With it: removes a node that will never come back, and is fenced should it start again."""
        body = {"name": name, "force": force, "accept_loss": accept_loss}
        more = {} if operation_id is None else {"operation_id": operation_id}
        return self._document("POST", "/v1/ring/remove", {**body, **more})

    def replace(self, name: str) -> dict[str, Any]:
        """Lets one empty node of that name take its place, where that waits for a person. The
        answer says for how long, in `lapses_s`. Raises Conflict: `not-lost`, while the member
        answers."""
        return self._document("POST", "/v1/ring/replace", {"name": name})

    def repair(
        self, partitions: Sequence[int] = (), nodes: Sequence[str] = (), mode: str = "tree"
    ) -> str:
        """Starts anti-entropy over all partitions, those named, or those of the nodes; its id."""
        body = {"partitions": list(partitions), "nodes": list(nodes), "mode": mode}
        return str(self._document("POST", "/v1/repairs", body)["id"])

    def repair_status(self, repair_id: str) -> dict[str, Any]:
        """Progress and result, at the node that was asked. Raises NotFound."""
        return self._document("GET", f"/v1/repairs/{quoted(repair_id.encode())}")

    def keys(
        self, partition: int | None = None, after: str | None = None, limit: int | None = None
    ) -> Iterator[bytes]:
        """Live keys of the cluster or one partition, each once, fetched in pages as they are
        taken; at most `limit`, all when it is None. `after` is `next` of a page of the API."""
        left = limit
        while left is None or left > 0:
            page_max = KEYS_PAGE if left is None else min(left, KEYS_PAGE)
            query = {"partition": partition, "after": after, "limit": page_max}
            said = urlencode({k: v for k, v in query.items() if v is not None})
            reply = self._ask("GET", f"/v1/keys?{said}")
            page = _decoded(reply, _Page)
            yield from page.keys
            if page.next is None:
                return
            after = page.next
            left = None if left is None else left - len(page.keys)

    def preference_list(self, key: Key) -> dict[str, Any]:
        """Partition, owners and stand-ins of a key, and who of them is up."""
        return self._document("GET", f"/v1/preference-list/{quoted(key_bytes(key))}")

    def cluster(self) -> dict[str, Any]:
        """Every member's status, and who takes it for up, as this one node gathers it."""
        return self._document("GET", "/v1/cluster")

    def records(self, key: Key) -> dict[str, Any]:
        """Every copy of a key, hints included, side by side, and what each copy lacks."""
        return self._document("GET", f"/v1/records/{quoted(key_bytes(key))}")

    def history(self, key: Key) -> dict[str, Any]:
        """The causal history of a key, as far as nodes remember it (`history_bytes_max`)."""
        return self._document("GET", f"/v1/history/{quoted(key_bytes(key))}")

    def trees(self, partition: int) -> dict[str, Any]:
        """The hash trees of a partition's owners, and the leaves that differ."""
        return self._document("GET", f"/v1/trees/{partition}")

    def hints(self, target: str = "", limit: int = 0) -> dict[str, Any]:
        """The hints of all nodes by target; of `target` the first keys too, at most 100."""
        said = urlencode({"target": target, "limit": limit})
        return self._document("GET", f"/v1/hints?{said}")

    def metrics(self) -> str:
        """Prometheus text."""
        return self._ask("GET", "/metrics").body.decode()

    def livez(self) -> bool:
        """Whether the process and its store are alive."""
        return self._probe("/livez")

    def readyz(self, level: str | None = None) -> bool:
        """Whether it takes operations; level `synced`: and misses nothing."""
        return self._probe("/readyz" + (f"?level={level}" if level else ""))

    def close(self) -> None:
        """Closes the connection."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _probe(self, path: str) -> bool:
        heard = self._pool.ask(Ask("GET", self.url + path, {}, timeout_s=self._timeout_s))
        return isinstance(heard, Reply) and heard.status == 200

    def _document(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        content = b"" if body is None else msgspec.json.encode(body)
        return _decoded(self._ask(method, path, content), dict[str, Any])

    def _ask(self, method: str, path: str, content: bytes = b"") -> Reply:
        heard = self._pool.ask(Ask(method, self.url + path, {}, content, self._timeout_s))
        if isinstance(heard, Failure):
            error = ConnectionFailed(f"{self.url}: {heard.reason}")
            error.applied = "unknown" if heard.sent and method != "GET" else "no"
            raise error
        if heard.status >= 400:
            raise error_of_reply(heard)
        return heard


def _decoded(reply: Reply, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadAnswer(f"not what an admin listener answers: {error}", reply.status) from error
