"""A peer that says what makes no sense: 100,000 mutated frames end nobody, and all agree afterwards
(S-IN-2, T-3)."""

from __future__ import annotations

import pytest
from senseless import Senseless

from dynamo_core.protocol.registry import MESSAGES

FRAMES = 25_000


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_frames_without_sense_end_nobody(seed: int) -> None:
    storm = Senseless(seed)
    storm.storm(FRAMES)
    assert storm.said == set(MESSAGES)
    assert storm.refused < FRAMES <= storm.sent
    assert storm.settled > FRAMES / 2_500 / 2
