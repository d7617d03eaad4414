"""Deliberate faults of links: changed or moved bytes on the wire are accepted (S-NET-3, T-2)."""

from __future__ import annotations

from typing import Any

from dynamo_core.protocol import frame_tags
from dynamo_core.protocol.frame_tags import Opener
from tests.simulation.mutants import Patch, mutant

TAG, NUMBER = "tag not checked", "number not checked"


@mutant(TAG)
def _() -> list[Patch]:
    def check(self: Any, data: Any, at: int, frame: Any) -> None:
        self._count += 1

    return [(Opener, "check", check)]


@mutant(NUMBER)
def _() -> list[Patch]:
    """Both ends stay at 0: the tag covers only the frame."""
    check, head = Opener.check, frame_tags.Sealer.head

    def checked(self: Any, data: Any, at: int, frame: Any) -> None:
        check(self, data, at, frame)
        self._count = 0

    def made(self: Any, frame: bytes) -> bytes:
        sealed = head(self, frame)
        self._count = 0
        return sealed

    return [(Opener, "check", checked), (frame_tags.Sealer, "head", made)]
