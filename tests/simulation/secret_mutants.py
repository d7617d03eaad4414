"""Deliberate faults in what becomes of the secret when it changes (S-CTX-1, C6)."""

from __future__ import annotations

from typing import Any

from mutants import Patch, mutant

from dynamo_core.secret_keys import ContextKeys

TAKEN = "a context of a secret that was taken away is taken"


@mutant(TAKEN)
def _() -> list[Patch]:
    original = ContextKeys.__init__
    all_keys: dict[bytes, None] = {}

    def init(self: Any, *keys: bytes) -> None:
        all_keys.update(dict.fromkeys(keys))
        original(self, *keys, *all_keys)

    return [(ContextKeys, "__init__", init)]


@mutant("only contexts of the secret that makes are taken")
def _() -> list[Patch]:
    return [(ContextKeys, "holds", lambda self, tag, body: tag == self.tag(body))]
