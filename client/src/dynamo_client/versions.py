"""What answers show of one key: its versions, and how many nodes hold a write."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

Time = Annotated[datetime, Meta(tz=True)]
"""A moment, with its zone."""


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
