"""Deliberate faults of links: what the wire has changed or moved is taken (S-NET-3, T-2)."""

from __future__ import annotations

from typing import Any

from mutants import Patch, mutant

from dynamo_core.protocol import frame_tags
from dynamo_core.protocol.frame_tags import Opener

TAG, NUMBER = "tag not checked", "number not checked"


@mutant(TAG)
def _() -> list[Patch]:
    def check(self: Any, data: Any, at: int, frame: Any) -> None:
        self._number += 1

    return [(Opener, "check", check)]


@mutant(NUMBER)
def _() -> list[Patch]:
    """Both ends stay at 0: the tag is that of the frame alone."""
    check, head = Opener.check, frame_tags.Sealer.head

    def checked(self: Any, data: Any, at: int, frame: Any) -> None:
        check(self, data, at, frame)
        self._number = 0

    def made(self: Any, frame: bytes) -> bytes:
        sealed = head(self, frame)
        self._number = 0
        return sealed

    return [(Opener, "check", checked), (frame_tags.Sealer, "head", made)]
