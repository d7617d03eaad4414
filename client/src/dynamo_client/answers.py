"""What answers are: versions, what was found, what was stored. Plain immutable values."""

from __future__ import annotations

import msgspec

from dynamo_client.errors import ClientError, NotFound, SiblingsFound
from dynamo_client.expiry import Time


class Version(msgspec.Struct, frozen=True):
    """One value. `dot` is equal for the same write event and never used again (C5). `expires_at`
    (UTC) is when it begins to read as deleted, None for never (S-TTL-1). `content_encoding` is what
    its writer said, "" for none: `data` is as it was put, never decoded here."""

    data: bytes
    content_type: str
    dot: str
    expires_at: Time | None = None
    content_encoding: str = ""


class Acks(msgspec.Struct, frozen=True):
    """How many distinct nodes hold a write: in all, owners, hinted replicas, and how many of all
    have it on the disk (S-RW-2, S-RW-3)."""

    total: int = 0
    owners: int = 0
    hinted: int = 0
    durable: int = 0


class Found(msgspec.Struct, frozen=True):
    """What a read found: no value, one, or siblings that nobody has merged yet [P 4.4]."""

    key: bytes
    values: tuple[Version, ...]
    context: str | None
    """What was seen, for the next put or delete of this key; there may be one without a value,
    where something was deleted (S-CTX-2)."""

    @property
    def exists(self) -> bool:
        """Whether there is a value."""
        return bool(self.values)

    @property
    def value(self) -> bytes:
        """The one value. Raises NotFound when there is none, SiblingsFound when there are more."""
        if not self.values:
            raise NotFound(f"nothing is at {self.key!r}")
        if len(self.values) > 1:
            raise SiblingsFound(self.values)
        return self.values[0].data


class Stored(msgspec.Struct, frozen=True):
    """What became of a put or delete. `node` is its coordinator ("" in a batch). `values` are the
    versions that are there now, where `return_values` asked for them."""

    context: str
    """Covers what the put's own context covered and this write; "" when nothing was there to
    delete."""
    acks: Acks
    node: str
    values: tuple[Version, ...] = ()


class BatchResult(msgspec.Struct, frozen=True):
    """One operation of a batch: exactly one of `found`, `stored`, `error` is set. `status` is its
    HTTP status, 0 when nobody answered."""

    status: int
    found: Found | None = None
    stored: Stored | None = None
    error: ClientError | None = None
