"""Deliberate faults in changes of the secret (S-CTX-1, C6)."""

from __future__ import annotations

from typing import Any

from dynamo_core.secret_keys import ContextKeys, keys_of
from dynamo_core.testing import rotation
from tests.simulation.mutants import Patch, mutant

TAKEN = "a context of a secret that was taken away is taken"


@mutant(TAKEN)
def _() -> list[Patch]:
    original = ContextKeys.__init__
    all_keys: dict[bytes, None] = {}

    def init(self: Any, *keys: bytes) -> None:
        all_keys.update(dict.fromkeys(keys))
        original(self, *keys, *all_keys)

    def made(secrets: tuple[bytes, ...]) -> ContextKeys:
        return keys_of(secrets).contexts  # not those that were made before the fault was planted

    return [(ContextKeys, "__init__", init), (rotation, "context_keys", made)]


@mutant("only contexts of the secret that makes are taken")
def _() -> list[Patch]:
    return [(ContextKeys, "holds", lambda self, tag, body: tag == self.tag(body))]
