"""Every kind of message is somewhere: its handler, its answer, what is checked of it."""

from __future__ import annotations

import pytest

from dynamo_core.protocol import (
    backup_messages,
    look_messages,
    messages,
    move_messages,
    ring_messages,
    round_messages,
    staleness_messages,
)
from dynamo_core.protocol.intake import CHECKS, PLAIN
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.registry import (
    ANSWER_OF,
    KNOWS,
    MEMBERSHIP,
    MESSAGES,
    REPLIES,
    SINCE,
)
from dynamo_core.protocol.ring_messages import Admitted
from dynamo_core.testing.town import Town

ROOMS = (messages, move_messages, ring_messages, round_messages, backup_messages, look_messages,
         staleness_messages)  # fmt: skip
FIRST_TAG_MAX = 63
"""Of the first version."""
WRITTEN = {
    kind
    for room in ROOMS
    for kind in vars(room).values()
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
}


def test_every_message_that_is_written_down_is_registered_once() -> None:
    assert len(MESSAGES) == len(set(MESSAGES))
    assert set(MESSAGES) == WRITTEN


def test_every_message_has_a_tag_of_its_own() -> None:
    tags = [kind.__struct_config__.tag for kind in MESSAGES]
    assert len(set(tags)) == len(tags)


def test_what_the_first_version_had_not_has_a_number() -> None:
    """C17: older nodes drop a whole frame for it."""
    newer = {kind for kind in MESSAGES if kind.__struct_config__.tag > FIRST_TAG_MAX}
    assert SINCE.keys() == newer
    assert set(SINCE.values()) == set(range(1, KNOWS + 1))


def test_what_older_nodes_do_not_know_is_sent_where_that_is_asked() -> None:
    """The dispatcher asks before it sends a call, the outbox before it sends anything else. A
    message about membership may go to a node that was never heard, so it needs its own check."""
    assert not SINCE.keys() & MEMBERSHIP


def test_every_kind_was_thought_of() -> None:
    """A new kind is in one of the two: its types say everything, or there is more to check."""
    assert CHECKS.keys() | PLAIN == set(MESSAGES)
    assert not CHECKS.keys() & PLAIN


def test_only_a_refusal_and_an_admission_answer_more_than_one_kind() -> None:
    assert set(ANSWER_OF.values()) | {Refused, Admitted} == REPLIES


@pytest.mark.parametrize(
    "kind", [k for k in MESSAGES if k not in REPLIES], ids=lambda k: k.__name__
)
def test_every_message_has_one_handler(kind: type[Message]) -> None:
    node = Town("a b c").nodes["a"]
    handlers = [
        node.local.kinds.keys(),
        node.inbox.replying.keys(),
        node.inbox.routed.keys(),
        node.membership.kinds.keys(),
    ]
    assert sum(kind in those for those in handlers) == 1
    assert (kind in MEMBERSHIP) == (kind in node.membership.kinds)
