"""Pages of keys for a name that may list some prefixes and is not an administrator.

`next` must not show a key that the name may not list. It names the last key of the page, which the
name may list, or the beginning of a partition.
"""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any

from dynamo_core.keys import partition_of, store_key
from dynamo_node.clock import now_s

Ask = Callable[[str], Awaitable[tuple[int, dict[str, Any]]]]
"""Returns one page of all keys after a `next`: status and body of the core."""
LOOK_S_MAX = 10.0
"""One page skips keys of other prefixes for at most this time; it then ends with a partition."""
_BORDER_BYTES = 2
"""Bytes of a `next` that names a partition and no key."""


async def page_of(
    ask: Ask, after: str, limit: int, prefixes: tuple[bytes, ...], bits: int
) -> tuple[int, dict[str, Any]]:
    """Up to `limit` keys with one of the prefixes; the ring has 2**`bits` partitions."""
    found: list[str] = []
    until = now_s() + LOOK_S_MAX
    while True:
        status, body = await ask(after)
        if status != 200:
            return status, body
        found += [key for key in body["keys"] if b64decode(key).startswith(prefixes)]
        after = body["next"]
        if len(found) > limit or (found and after is not None and now_s() > until):
            found = found[:limit]
            return 200, {"keys": found, "next": _after(b64decode(found[-1]), bits)}
        if after is None:
            return 200, {"keys": found, "next": None}
        if now_s() > until and len(urlsafe_b64decode(after)) == _BORDER_BYTES:
            return 200, {"keys": [], "next": after}


def _after(key: bytes, bits: int) -> str:
    stored = store_key(key)
    return urlsafe_b64encode(partition_of(stored, bits).to_bytes(2, "big") + stored).decode()
