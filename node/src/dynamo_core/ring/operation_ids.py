"""The ids of the operations that led to a target, as the ring document keeps them: the last one is
the current one. A cancelled operation has the sign ~ before its id."""

from __future__ import annotations

import msgspec


class KeptOperation(msgspec.Struct, frozen=True):
    """One change of the ring by an administrator."""

    id: str
    cancelled: bool = False

    @property
    def text(self) -> str:
        """As the document has it."""
        return "~" + self.id if self.cancelled else self.id


def kept_operation(text: str) -> KeptOperation:
    """What the document has, as a value."""
    return KeptOperation(text[1:], True) if text[:1] == "~" else KeptOperation(text)
