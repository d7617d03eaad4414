"""Nodes of the version before in a simulated ring, each updated at some time, or put back (C17).

Such a node drops a whole frame for one message that it does not know. It says nothing of what it
knows, so no other node may send it such a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

import msgspec

from dynamo_core.node import Node
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.registry import KNOWS, MESSAGES, SINCE
from dynamo_core.testing.fault import Fault
from dynamo_core.testing.history import Trouble
from dynamo_core.testing.process import Process
from dynamo_core.testing.surroundings import Surroundings

if TYPE_CHECKING:
    OlderMessage = Message
else:
    OlderMessage = Union[tuple(kind for kind in MESSAGES if kind not in SINCE)]  # noqa: UP007


class OlderFrame(msgspec.Struct, array_like=True):
    """A frame as such a node reads it."""

    version: int
    cluster_id: str
    name: str
    node_id: int
    address: str
    boot: int
    beat: int
    echo_boot: int
    echo: int
    messages: list[OlderMessage]


_decoder = msgspec.msgpack.Decoder(OlderFrame)
_echo = msgspec.msgpack.Decoder(list)


def begin(process: Process, node: Node) -> None:
    """What its frames will say."""
    node.outbox.knows = 0 if process.older else KNOWS


def takes(world: Surroundings, process: Process, node: Node, frame: bytes) -> bool:
    """Whether the process, in its older version, can read the frame. One sent to a later life of it
    may be lost like any frame of such."""
    try:
        _decoder.decode(frame)
    except msgspec.ValidationError as error:
        to_this_life = _echo.decode(frame)[7] == node.boot
        if to_this_life:
            detail = f"{process.name} was sent what its version does not know: {error}"
            world.events.append(Trouble("C17", detail))
        world.count("frame for a newer life dropped by an older version")
        return False
    return True


def update(world: Surroundings, process: Process, fault: Fault) -> None:
    """It stops, and starts again in the other version."""
    world.stop(process)
    process.older = not process.older
    world.count("node updated" if not process.older else "node put back to an older version")
    world.later(fault.lasts, lambda: world.start(process))
