"""A peer that says what makes no sense: 100,000 mutated frames end nobody, and all agree afterwards
(S-IN-2, T-3)."""

from __future__ import annotations

import typing

import pytest
from senseless import Senseless

from dynamo_core.answers import ANSWER_OF
from dynamo_core.frames import REPLIES, AnyMessage
from dynamo_core.intake import CHECKS, PLAIN
from dynamo_core.messages import Refused
from dynamo_core.ring_messages import Admitted

FRAMES = 25_000


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_frames_without_sense_end_nobody(seed: int) -> None:
    storm = Senseless(seed)
    storm.storm(FRAMES)
    assert storm.said == set(typing.get_args(AnyMessage))
    assert storm.refused < FRAMES <= storm.sent
    assert storm.settled > FRAMES / 2_500 / 2


def test_every_kind_of_message_was_thought_of() -> None:
    """A new one is in one of both: its types say all, or there is more to check."""
    assert CHECKS.keys() | PLAIN == set(typing.get_args(AnyMessage))
    assert not CHECKS.keys() & PLAIN


def test_every_reply_is_the_answer_to_something() -> None:
    """A refusal answers anything; nobody calls for an admission."""
    assert set(ANSWER_OF.values()) | {Refused, Admitted} == REPLIES
