"""W3C trace context: the id of the trace that a request is part of (W3C Trace Context, level 1).

A client sends it in the header `traceparent`. A node sends it with every call that it makes for
that request. The machines do not read it. A malformed value is ignored and is never an error, as
section 4.3 of the recommendation says.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

CHARS = 55
"""Length of a traceparent of version 00, the only version that nodes send."""
TRACE_ID, PARENT_ID = slice(3, 35), slice(36, 52)
"""The places of both ids in it, in hex."""
SAMPLED, RANDOM = 1, 2
"""The flags that nodes send; by the recommendation all others are 0."""

Trace = Annotated[str, Meta(max_length=CHARS)]
"""A traceparent on the wire, "" for none. It may come from a peer, so do not trust it."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


def traceparent_of(text: str) -> str:
    """The value of a header in the form that nodes send: version 00, with the known flags. "" if it
    is malformed. Of a later version, only the fields of version 00 are read (section 4.3)."""
    found = _FORM.fullmatch(text.strip(" \t"))
    if found is None:
        return ""
    version, trace_id, parent_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):
        return ""
    if not (trace_id.strip("0") and parent_id.strip("0")):
        return ""
    return f"00-{trace_id}-{parent_id}-{int(flags, 16) & (SAMPLED | RANDOM):02x}"


def sampled(trace: str) -> bool:
    """Whether the caller records the trace; then this node records its part too."""
    return len(trace) == CHARS and int(trace[-2:], 16) & SAMPLED > 0
