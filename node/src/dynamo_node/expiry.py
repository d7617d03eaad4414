"""Expiries in HTTP: RFC 3339 outside, milliseconds since 1970 inside (S-TTL-1, S-TTL-2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dynamo_core.bounds import EXPIRES_MS_MAX
from dynamo_core.protocol.operations import Put
from dynamo_node.problems import bad_parameter

EXPIRES_S_MAX = 10 * 365 * 86_400
"""Maximum of seconds from now; a client that sends seconds since 1970 is refused."""
EARLIEST = "1970-01-01T00:00:00.001Z"
"""0 ms stands for no expiry."""
_SINCE = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_Zoned = Annotated[datetime, Meta(tz=True)]


def time_of(expires_ms: int) -> str:
    """RFC 3339 in UTC, to the millisecond; a time beyond the year 9999 is shown as its end."""
    time = _SINCE + min(expires_ms, EXPIRES_MS_MAX) * _MS
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_of(field: str, text: str) -> int:
    """The inverse, for any zone; finer digits than milliseconds are cut off. Raises Problem that
    names the field."""
    try:
        time: datetime = msgspec.convert(text, _Zoned)
    except (msgspec.ValidationError, ValueError) as error:
        raise bad_parameter(field, f"RFC 3339, as {EARLIEST}: {error}") from None
    expires_ms = (time - _SINCE) // _MS
    if not 1 <= expires_ms <= EXPIRES_MS_MAX:
        raise bad_parameter(field, f"{EARLIEST} to {time_of(EXPIRES_MS_MAX)}")
    return expires_ms


def set_expiry(put: Put, fields: tuple[str, str], seconds: int | None, at: str | None) -> None:
    """Writes the client's expiry into its put: seconds from now, or a time. None means not sent;
    `fields` are the names of both in the request. Raises Problem."""
    if seconds is None and at is None:
        return
    of_seconds, of_time = fields
    if put.value is None:
        raise bad_parameter(of_time if seconds is None else of_seconds, "a delete never expires")
    if seconds is None:
        put.expires_ms = ms_of(of_time, at or "")
    elif at is not None:
        raise bad_parameter(of_time, f"not with {of_seconds}")
    elif 1 <= seconds <= EXPIRES_S_MAX:
        put.expires_in_s = seconds
    else:
        raise bad_parameter(of_seconds, f"1 to {EXPIRES_S_MAX} seconds")


def expiry_shown(expires_ms: int) -> dict[str, Any]:
    """The member `expires_at` of a value with an expiry, else no member."""
    return {"expires_at": time_of(expires_ms)} if expires_ms else {}


def expiry_line(expires_ms: int) -> bytes:
    """The header of a value with an expiry, else no bytes."""
    return b"Dynamo-Expires-At: %b\r\n" % time_of(expires_ms).encode() if expires_ms else b""
