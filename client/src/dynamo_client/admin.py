"""The admin listener of one node, for programs: status, rings, repairs, keys (docs/http-api.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self
from urllib.parse import urlencode

import msgspec

from dynamo_client.attempts import error_of_reply
from dynamo_client.errors import BadAnswer, BadParameter, ConnectionFailed
from dynamo_client.operations import key_bytes, quoted
from dynamo_client.pool import BlockingPool
from dynamo_client.request_options import Key
from dynamo_client.routing import checked_url
from dynamo_client.steps import Ask, Failure, Reply, T
from dynamo_client.tls import SYSTEM, Tls
from dynamo_client.token_file import TokenFile

TIMEOUT_S = 35.0
"""A node takes at most 30 s for questions to other nodes."""
KEYS_PAGE = 1000


class _Page(msgspec.Struct):
    keys: list[bytes]
    next: str | None


class AdminClient:
    """One node's admin listener at `url`; `token` is the output of `dynamoctl token`, if the ring
    has a secret (`tokens.token_of_secret_file`), or a TokenFile, which is read again when it
    changes, as the token of a ServiceAccount does.

    No request is repeated: the caller decides whether to repeat a change of the ring. Every method
    raises ClientError, also for a token that is not printable ASCII. `timeout_s` is the maximum
    time of a request. Threads may share it.
    """

    def __init__(
        self, url: str, token: str | TokenFile | None = None, *,
        timeout_s: float = TIMEOUT_S, tls: Tls = SYSTEM,
    ) -> None:  # fmt: skip
        self.url = checked_url(url, "url")
        self._timeout_s = timeout_s
        if isinstance(token, TokenFile):
            self._pool = BlockingPool([self.url], None, tls, token)
            return
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise BadParameter("token: one line of printable ASCII")
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        self._pool = BlockingPool([self.url], headers, tls)

    def status(self) -> dict[str, Any]:
        """The status of this node; see docs/http-api.md."""
        return self._document("GET", "/v1/status")

    def ring(self) -> dict[str, Any]:
        """The ring document. Raises NotAMember if the node is in no ring."""
        return self._document("GET", "/v1/ring")

    def create_ring(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Creates a ring and returns it, or returns the existing one if it has the same cluster id.
        Raises Conflict if the node is in another ring (S-RING-5)."""
        return self._document("POST", "/v1/ring", body)

    def plan(self, wishes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Shows what `join`, `leave`, `weights`, `moves` and `defaults` would do; without them, how
        the ring would be balanced (docs/http-api.md). Changes nothing."""
        return self._document("POST", "/v1/ring/plan", wishes or {})

    def apply(
        self, wishes: Mapping[str, Any], plan_hash: str, operation_id: str | None = None
    ) -> dict[str, Any]:
        """Carries out the plan of this change, once for each operation id. Raises Conflict:
        `plan-changed`, with the new plan in `document["plan"]`, or `superseded`."""
        more = {} if operation_id is None else {"operation_id": operation_id}
        return self._document("POST", "/v1/ring/apply", {**wishes, "hash": plan_hash, **more})

    def cancel(self) -> dict[str, Any]:
        """Cancels the moves that have not switched yet."""
        return self._document("POST", "/v1/ring/cancel", {})

    def remove(
        self,
        name: str,
        *,
        force: bool = False,
        accept_loss: bool = False,
        operation_id: str | None = None,
    ) -> dict[str, Any]:
        """Without `force`: the partitions that may lose acked writes, and those that would have
        fewer than N owners. With `force`: removes a node that will never return; if it starts
        again, the other nodes refuse it."""
        body = {"name": name, "force": force, "accept_loss": accept_loss}
        more = {} if operation_id is None else {"operation_id": operation_id}
        return self._document("POST", "/v1/ring/remove", {**body, **more})

    def replace(self, name: str) -> dict[str, Any]:
        """Approves that one empty node of that name takes its place, if a person must approve. The
        answer has `lapses_s`, the time until the approval ends. Raises Conflict: `not-lost`, while
        the member answers."""
        return self._document("POST", "/v1/ring/replace", {"name": name})

    def repair(
        self, partitions: Sequence[int] = (), nodes: Sequence[str] = (), mode: str = "tree"
    ) -> str:
        """Starts anti-entropy over all partitions, named ones, or those of nodes; its id."""
        body = {"partitions": list(partitions), "nodes": list(nodes), "mode": mode}
        return str(self._document("POST", "/v1/repairs", body)["id"])

    def repair_status(self, repair_id: str) -> dict[str, Any]:
        """Progress and result, from the node that runs the repair. Raises NotFound."""
        return self._document("GET", f"/v1/repairs/{quoted(repair_id.encode())}")

    def keys(
        self, partition: int | None = None, after: str | None = None, limit: int | None = None
    ) -> Iterator[bytes]:
        """Live keys of the cluster or of one partition, each once, fetched page by page; at most
        `limit`, or all if it is None. `after` is `next` of a page of the API."""
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
        """Partition, owners and stand-ins of a key, and which of them are up."""
        return self._document("GET", f"/v1/preference-list/{quoted(key_bytes(key))}")

    def cluster(self) -> dict[str, Any]:
        """Every member's status, and which members take it for up, as this node gathers it."""
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
        """The hints of all nodes by target; of `target` some of the keys too, at most 100."""
        said = urlencode({"target": target, "limit": limit})
        return self._document("GET", f"/v1/hints?{said}")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Asks what has no method here; an error as all others raise it."""
        return self._document("POST", path, body)

    def document(self, path: str) -> dict[str, Any]:
        """Reads what has no method here."""
        return self._document("GET", path)

    def metrics(self) -> str:
        """Prometheus text."""
        return self._ask("GET", "/metrics").body.decode()

    def livez(self) -> bool:
        """Whether the process and its store are alive."""
        return self._probe("/livez")

    def readyz(self, level: str | None = None) -> bool:
        """Whether it accepts operations; level `synced`: it also has all its data."""
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
        said = {"Content-Type": "application/json"} if content else {}
        heard = self._pool.ask(Ask(method, self.url + path, said, content, self._timeout_s))
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
        raise BadAnswer(f"not the answer of an admin listener: {error}", reply.status) from error
