"""Pages of live keys of the whole cluster, which one node collects for an administrator."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable

from dynamo_core.errors import BadParameter
from dynamo_core.protocol.messages import Keys, KeysReply, Message
from dynamo_core.protocol.refusal import Reason
from dynamo_core.runtime.machine import Effects, Machine, View

LIST_S = 10.0
Listed = Callable[[list[bytes], str | None, str], None]


class KeyListing(Machine):
    """One page of live keys: partitions in order, each from one owner, the first that is up."""

    def __init__(
        self, view: View, partition: int | None, after: str, limit: int, done: Listed
    ) -> None:
        super().__init__()
        self.view = view
        self.limit = limit
        self.keys: list[bytes] = []
        self._done = done
        self.partition, self._after = partition or 0, b""
        self._last = len(view.ring.entries) - 1 if partition is None else partition
        self._tried: set[str] = set()
        if after:
            self.partition, self._after = _cursor(after, self._last)

    def start(self, now: float) -> Effects:
        self.wake_at = now + LIST_S
        return self._ask()

    def _ask(self) -> Effects:
        owners = self.view.preference.owners(self.partition)
        left = [o for o in owners if o not in self._tried and self.view.up(o)]
        if not left:
            return self._end("insufficient-owners")
        node = self.view.name if self.view.name in left else left[0]
        self._tried.add(node)
        limit = self.limit - len(self.keys)
        return [(node, Keys(0, self.partition, self._after, limit))]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        assert isinstance(reply, KeysReply)
        self._tried.clear()
        self.keys += [stored[4:] for stored in reply.keys]
        if reply.more:
            self._after = reply.cursor
        else:
            self.partition, self._after = self.partition + 1, b""
        if self.partition > self._last or len(self.keys) >= self.limit:
            return self._end("")
        return self._ask()

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        return self._ask()

    def expired(self, now: float) -> Effects:
        return self._end("insufficient-owners")

    def _end(self, problem: str) -> Effects:
        self.finished = True
        more = self.partition <= self._last
        raw = self.partition.to_bytes(2, "big") + self._after
        self._done(self.keys, urlsafe_b64encode(raw).decode() if more else None, problem)
        return []


def _cursor(after: str, last: int) -> tuple[int, bytes]:
    try:
        raw = urlsafe_b64decode(after.encode())
    except ValueError as error:
        raise BadParameter("after", "not a `next` of this listing") from error
    partition = int.from_bytes(raw[:2], "big")
    if len(raw) < 2 or partition > last:
        raise BadParameter("after", "not a `next` of this listing")
    return partition, raw[2:]
