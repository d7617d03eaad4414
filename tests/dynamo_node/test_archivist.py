"""The threads that carry out what the core asks of archives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import pytest

from dynamo_archive.sealing import Sealing
from dynamo_core.backup.archive_calls import Bring, Brought, Done, Pack, Packed, Put
from dynamo_core.keys import DATA
from dynamo_core.protocol.messages import Message
from dynamo_core.runtime.throttle import BUDGET_MIN
from dynamo_node.archivist import QUIET_S, SHARE, THREADS, Archivist, rest_s
from tests.dynamo_node.lone_admin import Admin, with_node


class Held(Sealing):
    """Parts wait until the test lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = Event()

    def seal(self, data: bytes) -> bytes:
        self.go.wait(20)
        return super().seal(data)


def test_progress_and_manifests_do_not_wait_for_partitions(tmp_path: Path) -> None:
    """The node that leads a backup saves partitions as well, on as many threads as there are."""

    async def body(admin: Admin) -> None:
        url, held = tmp_path.as_uri(), Held()
        archivist = Archivist(admin.driver, (url,), held)
        await admin.put(b"key")

        def asked(request: Message) -> asyncio.Future[Message]:
            loop = asyncio.get_running_loop()
            answered: asyncio.Future[Message] = loop.create_future()
            archivist.carry(request, answered.set_result)
            return answered

        names = [f"parts/one/{index}" for index in range(2 * THREADS)]
        packs = [asked(Pack(0, url, name, DATA, b"", None)) for name in names]
        assert await asyncio.wait_for(asked(Put(0, url, "progress", b"half")), 10) == Done(0)
        progress = await asyncio.wait_for(asked(Bring(0, url, "progress")), 10)
        assert progress == Brought(0, b"half")
        assert not any(pack.done() for pack in packs)
        held.go.set()
        for pack in packs:
            said = await asyncio.wait_for(pack, 10)
            assert isinstance(said, Packed) and said.parts[0].records == 1

    with_node(body)


@pytest.mark.parametrize(
    ("budget", "busy"), [(1.0, SHARE), (0.5, SHARE), (SHARE, SHARE), (BUDGET_MIN, BUDGET_MIN)]
)
def test_a_thread_uses_its_share_of_a_processor(budget: float, busy: float) -> None:
    """The whole budget while no client asks; never less than the least budget."""
    for quiet_s, share in ((QUIET_S, budget), (float("inf"), budget), (0.0, busy)):
        assert 3.0 / (3.0 + rest_s(3.0, budget, quiet_s)) == pytest.approx(share)


def test_a_request_of_a_client_counts_as_asked(tmp_path: Path) -> None:
    async def body(admin: Admin) -> None:
        requests = admin.driver.requests
        assert requests.asked_at == float("-inf")
        await admin.put(b"key")
        first = requests.asked_at
        await admin.put(b"key")
        assert float("-inf") < first < requests.asked_at

    with_node(body)
