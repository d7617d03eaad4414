"""Nodes of two versions in one ring: no message goes to a node that would drop a frame for it."""

from __future__ import annotations

import msgspec
import pytest

from dynamo_core.protocol.backup_messages import Save, Saved, SaveHints
from dynamo_core.protocol.frames import FRAME_VERSION, Frame, decode_frame, encode_frame
from dynamo_core.protocol.messages import Message
from dynamo_core.protocol.refusal import Failure, Reason
from dynamo_core.protocol.registry import KNOWS
from dynamo_core.runtime.machine import Effects, Machine
from dynamo_core.testing.town import Town

HEAD = Frame(FRAME_VERSION, "town", "b", 2, "b:1", 7, 1, 0, 0, [], KNOWS)


class Asking(Machine):
    """One call to one node, and how it ended."""

    def __init__(self, to: str, request: Message) -> None:
        super().__init__()
        self.to, self.request = to, request
        self.ended: list[Reason | Message] = []

    def start(self, now: float) -> Effects:
        return [(self.to, self.request)]

    def replied(self, node: str, request: Message, reply: Message, now: float) -> Effects:
        self.finished = True
        self.ended.append(reply)
        return []

    def failed(self, node: str, request: Message, reason: Reason, now: float) -> Effects:
        self.finished = True
        self.ended.append(reason)
        return []


def test_a_frame_says_what_its_sender_knows_and_an_older_one_nothing() -> None:
    data = encode_frame(HEAD)
    assert decode_frame(data).knows == KNOWS
    older = msgspec.msgpack.encode(msgspec.msgpack.decode(data)[:-1])
    assert decode_frame(older).knows == 0


def test_each_life_of_a_peer_knows_what_its_own_frames_say() -> None:
    detector = Town("a b c").nodes["a"].detector
    assert detector.knows("b") == KNOWS and detector.knows("stranger") == 0
    again = msgspec.structs.replace(HEAD, echo_boot=detector.boot, echo=detector.now_ms, knows=0)
    detector.heard(again, "b")
    assert detector.knows("b") == 0


@pytest.mark.parametrize("older", [True, False], ids=["older", "of-this-version"])
def test_a_call_that_the_peer_does_not_know_is_not_sent(older: bool) -> None:
    town = Town("a b c")
    node = town.nodes["a"]
    if older:
        node.detector.peers["b"].knows = 0
    sent: list[Message] = []

    def lost(sender: str, receiver: str, frame: Frame) -> bool:
        sent.extend(frame.messages if (sender, receiver) == ("a", "b") else ())
        return False

    town.lost = lost
    asking = Asking("b", SaveHints(0, "one", "memory"))
    node.spawn(asking)
    town.run(1.0)
    assert any(isinstance(message, SaveHints | Save) for message in sent) is not older
    assert (asking.ended == [Failure.NOT_KNOWN]) is older and len(asking.ended) == 1
    assert node.counters["calls_not_known_there"] == older


def test_a_late_answer_is_not_sent_to_a_peer_that_was_put_back_meanwhile() -> None:
    node = Town("a b c").nodes["a"]
    node.outbox.send("b", Saved(7, []))
    assert node.outbox.outbox["b"] == [Saved(7, [])]
    node.detector.peers["b"].knows = 0
    node.outbox.send("b", Saved(8, []))
    assert node.outbox.outbox["b"] == [Saved(7, [])]
