"""A town whose peers are heard of all the time and answer no read."""

from __future__ import annotations

from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Fetched
from dynamo_core.protocol.operations import Get, Outcome
from dynamo_core.testing.town import Town

KEY = b"cart"


def reads(town: Town, count: int, at: str = "a", **fields: float) -> list[Outcome]:
    """This many gets, all at once."""
    answers: list[Outcome] = []
    for _ in range(count):
        town.nodes[at].submit(Get(key=KEY, r=2, **fields), answers.append)  # type: ignore[arg-type]
    town.deliver()
    return answers


def slow_town() -> Town:
    """Peers of `a` send messages all the time, and answer no read."""
    town = Town("a b c")
    town.put("a", KEY, b"milk", w=3)

    def lost(sender: str, receiver: str, frame: Frame) -> bool:
        return receiver == "a" and any(isinstance(m, Fetched) for m in frame.messages)

    town.lost = lost
    return town
