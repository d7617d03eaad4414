"""A node behind each front of the client listener, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from dynamo_node.http_limits import Limits
from tests.dynamo_node.http.client_listener import Listener


@pytest.fixture(scope="module", params=["protocol", "asgi"])
def listener(request: pytest.FixtureRequest) -> Iterator[Listener]:
    """With the `LIMITS` of the module of the test, if it has some."""
    limits = getattr(request.module, "LIMITS", Limits(value_bytes_max=1 << 20))
    listener = Listener(request.param, limits)
    yield listener
    listener.stop()


@pytest.fixture
def kv(listener: Listener) -> Iterator[httpx.Client]:
    with listener.client() as client:
        yield client
