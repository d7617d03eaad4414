"""Chooses the node to ask: the owners of the key by the ring document [P 6.4], or an endpoint.

Theory of operation. A client that knows the ring saves the hop from a node without the key to one
with it. It fetches the document from any node. It fetches it again when it is RING_AGE_S_MAX old,
and after a miss: an owner cannot be reached, or the node that answered is not an owner. Every node
answers for every key, so an old ring only costs time. The endpoints that the client was given
always stay in the list.

Among several, in this order: a node that did not fail lately and asked for no pause; fewest
attempts of this operation; fewest failures, if all failed; the owner that answered last for this
key, because it has what the client saw there (S-RW-7); an owner, in the ring's order; an endpoint,
in the caller's order; the other owners; another member.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec

from dynamo_client.errors import BadParameter
from dynamo_client.steps import Failure, Reply
from dynamo_core.errors import BadParameter as NotARing
from dynamo_core.keys import partition_of, store_key
from dynamo_core.ring.document import LEFT, Ring
from dynamo_core.ring.json_form import from_document

RING_AGE_S_MAX = 10.0
RING_PAUSE_S = 1.0
"""The shortest time between two requests for the ring, even after many misses."""
AVOID_S, AVOID_S_MAX = 1.0, 60.0
"""Time to avoid a node after a failure, doubled after each further one: members whose addresses
this client cannot reach (for example behind a gateway) then cost little."""
DOUBT_S = 5.0
"""A node that did not reach a quorum is asked last for this time: it may be cut off."""
ANSWERED_MAX = 4096
OWNERS_FIRST = 2
"""Number of owners before the endpoints; endpoints can be reached when owners cannot."""


def checked_url(url: object, field: str) -> str:
    """`http://host:port` without a slash at its end. Raises BadParameter that names the field: a
    path would be part of every key, and an address needs a scheme."""
    if not isinstance(url, str):
        raise BadParameter(f"{field}: needs text like http://host:port, not {type(url).__name__}")
    bare = url.rstrip("/")
    try:
        parts = urlsplit(bare)
        well = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        well = False
    if not well or any(c.isspace() or not c.isprintable() for c in bare):
        raise BadParameter(f"{field}: {url!r} is not a URL like http://host:port")
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        bare = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise BadParameter(f"{field}: {url!r} has more than {bare}")
    return bare


class Routes:
    """The endpoints, the ring, and which nodes have answered. All operations share it."""

    def __init__(self, endpoints: Sequence[str], routing: bool, now: Callable[[], float]) -> None:
        if not endpoints:
            raise BadParameter("endpoints: give at least one")
        self.endpoints = tuple(checked_url(url, "endpoints") for url in endpoints)
        self.ring: Ring | None = None
        self.etag = ""
        self.now = now
        self._epoch = -1
        self._routing = routing
        self._scheme = self.endpoints[0].partition("://")[0]
        self._asked_at = self._fetched_at = float("-inf")
        self._missed = False
        self._failures: dict[str, int] = {}
        self._avoided: dict[str, float] = {}
        self._held: dict[str, float] = {}
        self._answered: OrderedDict[bytes, str] = OrderedDict()

    # ------------------------------------------------------------ the choice

    def choose(self, key: bytes | None, tried: Sequence[str] = ()) -> str:
        """Base URL of the next node to ask."""
        now = self.now()

        def order(url: str) -> tuple[bool, int, int]:
            avoided = max(self._avoided.get(url, 0.0), self._held.get(url, 0.0)) > now
            return avoided, tried.count(url), self._failures.get(url, 0) if avoided else 0

        return min(self._candidates(key), key=order)

    def held_s(self, url: str) -> float:
        """Seconds until this node may be asked again, as it told the client."""
        return max(0.0, self._held.get(url, 0.0) - self.now())

    def _candidates(self, key: bytes | None) -> list[str]:
        ring = self.ring
        if ring is None:
            return list(self.endpoints)
        members = {m.name: m for m in ring.members.values() if m.client and m.state != LEFT}
        last = self._answered.get(key) if key is not None else None
        names = sorted(filter(members.get, self.owners(key)), key=lambda name: name != last)
        owners = [f"{self._scheme}://{members[name].client}" for name in names]
        others = [f"{self._scheme}://{member.client}" for member in members.values()]
        first, rest = owners[:OWNERS_FIRST], owners[OWNERS_FIRST:]
        return list(dict.fromkeys((*first, *self.endpoints, *rest, *others)))

    def owners(self, key: bytes | None) -> tuple[str, ...]:
        """Names of the owners of the key, () while no ring is known."""
        if self.ring is None or key is None:
            return ()
        return self.ring.entries[partition_of(store_key(key), self.ring.partition_bits)].owners

    # ------------------------------------------------------------ results of attempts

    def failed(self, url: str) -> None:
        """The node at this URL did not answer."""
        self._failures[url] = count = self._failures.get(url, 0) + 1
        self._avoided[url] = self.now() + min(AVOID_S_MAX, AVOID_S * 2 ** min(count - 1, 16))
        self._missed = True

    def hold(self, url: str, seconds: float) -> None:
        """The node asked the client to wait for `seconds`."""
        self._held[url] = self.now() + seconds

    def doubt(self, url: str) -> None:
        """The node answered that it reaches too few others."""
        self._avoided[url] = self.now() + DOUBT_S

    def answered(self, url: str, key: bytes | None, node: str) -> None:
        """A node answered at `url`; `node` is the coordinator that it names, "" for none."""
        self._failures.pop(url, None)
        self._avoided.pop(url, None)
        if key is None or not node:
            return
        owners = self.owners(key)
        self._missed |= bool(owners) and node not in owners
        self._answered.pop(key, None)
        self._answered[key] = node
        while len(self._answered) > ANSWERED_MAX:
            self._answered.popitem(last=False)

    # ------------------------------------------------------------ the ring

    def refresh_due(self) -> bool:
        """Whether to ask for the ring now; True once, then not again for a while."""
        now = self.now()
        if not self._routing or now - self._asked_at < RING_PAUSE_S:
            return False
        if not self._missed and now - self._fetched_at < RING_AGE_S_MAX:
            return False
        self._asked_at = now
        return True

    def learn(self, heard: Reply | Failure | None) -> None:
        """The answer to a request for the ring; only a newer ring changes something."""
        if not isinstance(heard, Reply) or heard.status not in (200, 304):
            return
        self._fetched_at = self._asked_at = self.now()
        self._missed = False
        if heard.status == 304:
            return
        try:
            document = msgspec.json.decode(heard.body, type=dict)
            ring, epoch = from_document(document), int(document["epoch"])
        except (msgspec.MsgspecError, NotARing, LookupError, ValueError, TypeError):
            return
        same = self.ring is not None and self.ring.identity == ring.identity
        if not same or epoch >= self._epoch:
            self.ring, self._epoch = ring, epoch
            self.etag = heard.headers.get("etag", "")
