"""Results of operations: versions, what was found, what was stored. Plain immutable values."""

from __future__ import annotations

import msgspec

from dynamo_client.errors import ClientError, NotFound, SiblingsFound
from dynamo_client.versions import Acks, Version


class Found(msgspec.Struct, frozen=True):
    """What a read found: no value, one value, or siblings that no client has merged yet [P 4.4]."""

    key: bytes
    values: tuple[Version, ...]
    context: str | None
    """What this read saw, for the next put or delete of this key. A deleted key has a context and
    no value (S-CTX-2)."""

    @property
    def exists(self) -> bool:
        """Whether there is a value."""
        return bool(self.values)

    @property
    def value(self) -> bytes:
        """The one value. Raises NotFound if there is none, SiblingsFound if there are several."""
        if not self.values:
            raise NotFound(f"the key {self.key!r} has no value")
        if len(self.values) > 1:
            raise SiblingsFound(self.values)
        return self.values[0].data


class Stored(msgspec.Struct, frozen=True):
    """The result of a put or delete. `node` is its coordinator ("" in a batch). `values` are the
    versions of the key after it, if `return_values` asked for them."""

    context: str
    """Covers this write and everything that the put's own context covered; "" if there was nothing
    to delete."""
    acks: Acks
    node: str
    values: tuple[Version, ...] = ()


class BatchResult(msgspec.Struct, frozen=True):
    """One operation of a batch: exactly one of `found`, `stored`, `error` is set. `status` is its
    HTTP status, 0 without an answer."""

    status: int
    found: Found | None = None
    stored: Stored | None = None
    error: ClientError | None = None
