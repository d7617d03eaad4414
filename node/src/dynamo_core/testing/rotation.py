"""The cluster's secret changes under load: each node reads its file again at its own time.

An administrator adds the new secret behind the old one, then puts it first, then removes the old
one, and takes each step when every node has read the file. The judge knows which secret has sealed
each context. It is a fault if a node refuses a context whose secret it has (C6), or accepts a
context of a removed secret.
"""

from __future__ import annotations

from functools import lru_cache, partial
from random import Random
from typing import TYPE_CHECKING

from dynamo_core.causality.context import Context, seal, unseal
from dynamo_core.errors import BadContext
from dynamo_core.secret_keys import ContextKeys, keys_of
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.plan import Plan

if TYPE_CHECKING:
    from dynamo_core.testing.world import World

OLD, NEW = b"simulated cluster secret", b"simulated secret that follows"
OF_COPIES = b"simulated secret of a second ring"
STEPS = ((OLD,), (OLD, NEW), (NEW, OLD), (NEW,))
ROTATED = 0.06
"""The share of histories that have it."""


@lru_cache(maxsize=len(STEPS) + 2)
def context_keys(secrets: tuple[bytes, ...]) -> ContextKeys:
    """Made once, as a node makes them when it reads its secrets."""
    return keys_of(secrets).contexts


class Gone(Exception):
    """A context of a removed secret: the client must read again."""


def add_to(rng: Random, plan: Plan) -> None:
    """In few histories the secret changes midway."""
    if not plan.quiet and rng.random() < ROTATED:
        plan.rotates_at = rng.uniform(0.5, plan.ends_at)
        plan.rotates_s = rng.choice((0.2, 1.0, 3.0))


class Rotation:
    """Which secrets each node has, and which node has sealed which context."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: dict[str, tuple[bytes, ...]] = {}
        self._made: dict[str, bytes] = {}
        self._of_another: frozenset[str] = frozenset()
        """Contexts of the ring whose disks were copied."""

    def begin(self) -> None:
        """Schedule its steps."""
        world, plan = self._world, self._world.plan
        if not plan.rotates_at:
            return
        rng = Random(f"{plan.seed} rotation")
        for index, secrets in enumerate(STEPS[1:]):
            at = plan.rotates_at + index * plan.rotates_s
            for process in world.processes:
                lag_s = rng.uniform(0.0, plan.rotates_s)
                take = partial(self._held.__setitem__, process.name, secrets)
                world.later(world.steps_after + at + lag_s, take)

    def go_on_from(self, other: Rotation, names: list[str], one_secret: bool) -> None:
        """These nodes are on copies of the other ring's disks, with another secret or the same."""
        self._made = dict(other._made)
        self._of_another = frozenset(self._made)
        secrets = (OLD, NEW) if one_secret else (OF_COPIES,)
        self._held = dict.fromkeys(names, secrets)

    def _secrets(self, name: str) -> tuple[bytes, ...]:
        return self._held.get(name, STEPS[0])

    def seal(self, name: str, key: bytes, context: Context) -> str:
        """Sealed by the node of that name."""
        secrets = self._secrets(name)
        text = seal(context_keys(secrets), key, context)
        self._made[text] = secrets[0]
        return text

    def unseal(self, name: str, key: bytes, text: str) -> Context:
        """Opened by the node of that name. Raises Gone, and BadContext if it should not."""
        secrets = self._secrets(name)
        held = self._made[text] in secrets
        try:
            context = unseal(context_keys(secrets), key, text)
        except BadContext:
            if held:
                raise
            self._world.count(
                "context of the first ring refused"
                if text in self._of_another
                else "context of a secret that was taken away"
            )
            raise Gone from None
        if not held:
            detail = f"{name} took a context of a secret that it has no more"
            self._world.events.append(Trouble("C6", detail))
        if text in self._of_another:
            self._world.count("context of the first ring taken")
        if self._made[text] != secrets[0]:
            self._world.count("context of another secret than that which makes")
        return context
