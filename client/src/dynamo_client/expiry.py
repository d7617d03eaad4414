"""Expiries of values, for callers and for the HTTP API (S-TTL-1, S-TTL-2)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from dynamo_client.errors import BadParameter
from dynamo_client.versions import Time

Never = Literal["never"]


class Expiry(NamedTuple):
    """Whole seconds from now, or the time in RFC 3339; without both, the value never expires."""

    seconds: int | None = None
    at: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers of a put for it."""
        if self.at is not None:
            return {"Dynamo-Expires-At": self.at}
        return {} if self.seconds is None else {"Dynamo-Expires-In": str(self.seconds)}


def expiry_of(expires_in_s: int | None, expires_at: datetime | None) -> Expiry:
    """The expiry that a caller asks for. Raises BadParameter: both given, seconds that are not a
    whole number, a time without a zone. The cluster checks the bounds."""
    if expires_in_s is not None and expires_at is not None:
        raise BadParameter("expires_at: not with expires_in_s")
    if expires_in_s is not None and type(expires_in_s) is not int:
        raise BadParameter(f"expires_in_s: needs whole seconds, not {expires_in_s!r}")
    if expires_at is None:
        return Expiry(expires_in_s)
    if not isinstance(expires_at, datetime) or expires_at.utcoffset() is None:
        raise BadParameter(f"expires_at: needs a datetime with a zone, not {expires_at!r}")
    return Expiry(at=time_text(expires_at))


def expiry_of_update(
    expires_in_s: int | Never | None, expires_at: datetime | None
) -> Expiry | None:
    """The same for an update; None means "keep the present expiry". Raises BadParameter."""
    if expires_in_s == "never" and expires_at is None:
        return Expiry()
    if isinstance(expires_in_s, str):
        raise BadParameter(f'expires_in_s: needs whole seconds or "never", not {expires_in_s!r}')
    expiry = expiry_of(expires_in_s, expires_at)
    return expiry if expiry != Expiry() else None


def longest(times: Iterable[datetime | None]) -> Expiry:
    """The expiry of a value made of several: that of the one that lives longest. None means a value
    that never expires, so it is the longest; no merged value expires too early."""
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
    """The inverse, for any zone; finer digits than milliseconds are cut off. Raises ValueError."""
    try:
        time: datetime = msgspec.convert(text, Time).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(f"needs a time with a zone in RFC 3339: {error}") from None
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
