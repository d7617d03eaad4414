"""A deliberate fault of request ids: bits that flip in them are not noticed (T-1, S-REQ-1).

Two ids differ by one bit, so a superseded id becomes the id of a value that was acked, and the next
merge drops that value. The memory of a simulated node flips such bits too, but one bit makes the id
of a live value only once in thousands of histories.
"""

from __future__ import annotations

import msgspec

from dynamo_core.causality import codec
from dynamo_core.protocol.frames import Frame, encode_frame
from dynamo_core.protocol.messages import Message, Store
from dynamo_core.testing.town import SETTINGS, Town, known
from tests.simulation.ladders import KEY, ladder
from tests.simulation.mutants import LADDER_OF, Patch, mutant

FLIPPED = "a request id with one bit wrong"
QUIET = msgspec.structs.replace(SETTINGS, anti_entropy=False)


def spoilt(message: Message) -> Message:
    """One bit of a superseded id is wrong when it is sent."""
    if not isinstance(message, Store):
        return message
    record = message.record.replace(b"request-1", b"request-3")
    return msgspec.structs.replace(message, record=record)


@ladder(FLIPPED)
def a_request_id_with_one_bit_wrong() -> None:
    """No value that was acked under the other id is lost (C1)."""
    town = Town("a b c", settings=QUIET)
    first, second, third = town.owners(KEY)
    town.put(first, KEY, b"milk", w=3, request_id="request-1")
    context = known(town.get(first, KEY, r=3))
    after = town.put(first, KEY, b"tea", w=3, context=context)
    town.cut = {(x, y) for x in town.names for y in town.names if x != y}
    town.run(4.0)
    assert town.put(second, KEY, b"bread", w=1, request_id="request-3").status == 204
    town.cut = {pair for pair in town.cut if third in pair}
    town.until(lambda: town.nodes[first].up(second) and town.nodes[second].up(first))

    def lost(sender: str, to: str, frame: Frame) -> bool:
        messages = [spoilt(m) for m in frame.messages] if sender == first else frame.messages
        if messages == frame.messages:
            return False
        town.frames.append(
            (sender, to, encode_frame(msgspec.structs.replace(frame, messages=messages)))
        )
        return True

    town.lost = lost
    town.put(first, KEY, b"coffee", w=1, context=known(after))
    town.run(1.0)
    assert b"bread" in town.values(second, KEY, r=1)


@mutant("request ids not checked")
def _() -> list[Patch]:
    return [(codec, "_check_ids", lambda key, unchecked, check: None)]


LADDER_OF["request ids not checked"] = FLIPPED
