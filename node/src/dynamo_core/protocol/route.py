"""How a node says to which process a frame goes: a member by its name, any other by its address."""

from __future__ import annotations

import msgspec


class At(msgspec.Struct, frozen=True, order=True):
    """The process at an address, "host:port", that is not a member (yet, or any more), or whose
    line in the ring may be old."""

    address: str

    def __str__(self) -> str:
        """For people: in logs and counters."""
        return "@" + self.address


Route = str | At
"""A string is the name of a member, "" none."""
