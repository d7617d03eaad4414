"""When values expire, as callers say it and as the HTTP API has it (S-TTL-1, S-TTL-2)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from dynamo_client.errors import BadParameter
from dynamo_client.versions import Time

Never = Literal["never"]


class Expiry(NamedTuple):
    """Whole seconds from now, or the moment itself in RFC 3339; neither: it never expires."""

    seconds: int | None = None
    at: str | None = None

    def headers(self) -> dict[str, str]:
        """What a put says of it."""
        if self.at is not None:
            return {"Dynamo-Expires-At": self.at}
        return {} if self.seconds is None else {"Dynamo-Expires-In": str(self.seconds)}


def expiry_of(expires_in_s: int | None, expires_at: datetime | None) -> Expiry:
    """What a caller asks for. Raises BadParameter: both at once, seconds that are no whole number,
    a time without a zone. The cluster knows the bounds."""
    if expires_in_s is not None and expires_at is not None:
        raise BadParameter("expires_at: not beside expires_in_s: one of both")
    if expires_in_s is not None and type(expires_in_s) is not int:
        raise BadParameter(f"expires_in_s: wants whole seconds, not {expires_in_s!r}")
    if expires_at is None:
        return Expiry(expires_in_s)
    if not isinstance(expires_at, datetime) or expires_at.utcoffset() is None:
        raise BadParameter(f"expires_at: wants a datetime with its zone, not {expires_at!r}")
    return Expiry(at=time_text(expires_at))


def expiry_of_update(
    expires_in_s: int | Never | None, expires_at: datetime | None
) -> Expiry | None:  # fmt: skip
    """The same for an update, None for "keep what is there". Raises BadParameter."""
    if expires_in_s == "never" and expires_at is None:
        return Expiry()
    if isinstance(expires_in_s, str):
        raise BadParameter(f'expires_in_s: whole seconds or "never", not {expires_in_s!r}')
    expiry = expiry_of(expires_in_s, expires_at)
    return expiry if expiry != Expiry() else None


def longest(times: Iterable[datetime | None]) -> Expiry:
    """The expiry of what is made of several values: that of the one which lives longest. None is a
    value that never expires, and outlives all others; so nothing expires before its time."""
    found = list(times)
    ends = [time for time in found if time is not None]
    return Expiry(at=time_text(max(ends))) if ends and len(ends) == len(found) else Expiry()


def outlives(one: datetime | None, other: datetime | None) -> bool:
    """Whether the first of two values lives as long as the second one, or longer."""
    return one is None or (other is not None and one >= other)


def time_text(time: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond, as the store has it. Raises BadParameter."""
    try:
        return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError) as error:
        raise BadParameter(f"expires_at: {error}") from None


def time_of(text: str) -> datetime:
    """The inverse, for any zone; what is finer than a millisecond is cut off. Raises ValueError."""
    try:
        time: datetime = msgspec.convert(text, Time).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(f"wants a time with its zone in RFC 3339: {error}") from None
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
