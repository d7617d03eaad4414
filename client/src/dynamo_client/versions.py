"""The versions of one key, and how many nodes hold a write, as answers show them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

Time = Annotated[datetime, Meta(tz=True)]
"""A time with a zone."""


class Version(msgspec.Struct, frozen=True):
    """One value. `dot` is equal for the same write event and never used again (C5). `expires_at`
    (UTC) is the time of its expiry, None for never (S-TTL-1). `content_encoding` is the writer's,
    "" for none: `data` is unchanged, never decoded here."""

    data: bytes
    content_type: str
    dot: str
    expires_at: Time | None = None
    content_encoding: str = ""


class Acks(msgspec.Struct, frozen=True):
    """How many distinct nodes hold a write: in total, owners, hinted replicas, and how many of all
    have it on disk (S-RW-2, S-RW-3)."""

    total: int = 0
    owners: int = 0
    hinted: int = 0
    durable: int = 0
