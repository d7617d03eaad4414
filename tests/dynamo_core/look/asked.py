"""What a node of a town answers to a person who looks inside."""

from __future__ import annotations

from typing import Any

import msgspec

from dynamo_core.testing.town import SETTINGS, Town

WATCHING = msgspec.structs.replace(SETTINGS, history_bytes_max=1 << 20)


def asked(town: Town, at: str, question: str, *arguments: Any) -> dict[str, Any]:
    """The document that this node answers."""
    told: list[tuple[int, dict[str, Any]]] = []
    getattr(town.nodes[at].inside, question)(*arguments, lambda *answer: told.append(answer))
    town.deliver()
    town.until(lambda: bool(told))
    assert len(told) == 1 and told[0][0] == 200, told
    shown: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(told[0][1]))
    return shown
