"""W3C trace context: the id of the trace that a request is part of (W3C Trace Context, level 1).

A client sends it in the header `traceparent`; a node hands it on with every call that it makes for
that request. The machines do not look into it. What is malformed is ignored and never an error, as
the recommendation says in section 4.3.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

CHARS = 55
"""Of a traceparent of version 00, the only one that is sent on."""
TRACE_ID, PARENT_ID = slice(3, 35), slice(36, 52)
"""Where both ids stand in it, in hex."""
SAMPLED, RANDOM = 1, 2
"""The flags that are sent on; the recommendation wants the others to be 0."""

Trace = Annotated[str, Meta(max_length=CHARS)]
"""A traceparent on the wire, "" for none; it may be of a peer and is not to be believed."""

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


def traceparent_of(text: str) -> str:
    """A header's value as it is sent on: version 00, with the flags that are known. "" where it is
    malformed. A value of a later version is read as far as version 00 goes (section 4.3)."""
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
    """Whether the caller records the trace, so that its parts are worth a record here too."""
    return len(trace) == CHARS and int(trace[-2:], 16) & SAMPLED > 0
