"""A peer sends 100,000 mutated frames: no node ends, and all agree afterwards (S-IN-2, T-3)."""

from __future__ import annotations

import pytest

from dynamo_core.protocol.registry import MESSAGES
from tests.dynamo_core.protocol.senseless import Senseless

FRAMES = 25_000


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_senseless_frames_end_no_node(seed: int) -> None:
    storm = Senseless(seed)
    storm.storm(FRAMES)
    assert storm.said == set(MESSAGES)
    assert storm.refused < FRAMES <= storm.sent
    assert storm.settled > FRAMES / 2_500 / 2
