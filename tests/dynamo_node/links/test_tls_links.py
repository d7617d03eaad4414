"""Links between nodes in TLS: who gets in, who does not, and the way there (C17)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dynamo_core.protocol.frames import Frame, encode_frame
from dynamo_core.protocol.messages import Fetched
from dynamo_node.certificates import Certificates
from dynamo_node.handshake import Handshake
from tests.dynamo_node.access.authorities import Authority, unchecked
from tests.dynamo_node.links.station import FRAME, SECRET, Station, closed, hello, run
from tests.dynamo_node.waiting import until

Pair = Callable[[Station, Station], Awaitable[None]]
Side = tuple[str, Certificates | None]
OFF: Side = ("off", None)


def with_pair(test: Pair, here: Side, there: Side) -> None:
    async def body() -> None:
        stations = Station("here"), Station("there")
        for station, (how, certificates) in zip(stations, (here, there), strict=True):
            station.ends.secure(how, certificates)
            await station.open()
        try:
            await test(*stations)
        finally:
            for station in stations:
                await station.close()
            await asyncio.sleep(0)

    run(body())


async def passes(here: Station, there: Station) -> None:
    """Many frames, small and large, whole and in their order."""
    frames = [FRAME, *[FRAME] * 50]
    for frame in frames:
        assert here.links.send(there.address, frame)
    await until(lambda: there.frames == frames)
    link = next(iter(there.links.incoming))
    assert link.transport is not None
    assert link.transport.get_extra_info("ssl_object").version() == "TLSv1.3"


async def refused(here: Station, there: Station) -> None:
    here.links.send(there.address, FRAME)
    await until(lambda: here.lost == [there.address])
    assert (there.frames, there.links.incoming) == ([], set())


def test_frames_pass_where_both_are_known(tmp_path: Path) -> None:
    ours = Authority(tmp_path)
    with_pair(passes, ("require", ours.node("here")), ("require", ours.node("there")))


def test_a_frame_of_many_records_passes(tmp_path: Path) -> None:
    large = encode_frame(
        Frame(1, "c", "a", 1, "a:1", 1, 2, 3, 4, [Fetched(1, b"v" * 1_500_000, 0)])
    )

    async def body(here: Station, there: Station) -> None:
        for frame in (large, FRAME, large):
            assert here.links.send(there.address, frame)
        await until(lambda: there.frames == [large, FRAME, large])

    ours = Authority(tmp_path)
    with_pair(body, ("require", ours.node("here")), ("require", ours.node("there")))


BAD = ("other authority", "ended", "other name", "plain")


@pytest.mark.parametrize("side", ["dialer", "acceptor"])
@pytest.mark.parametrize("case", BAD)
def test_who_is_not_known_gets_in_on_neither_side(tmp_path: Path, case: str, side: str) -> None:
    ours, others = Authority(tmp_path / "ours"), Authority(tmp_path / "others")
    good = {name: ("require", ours.node(name)) for name in ("here", "there")}
    name = "here" if side == "dialer" else "there"
    bad: dict[str, Callable[[], Side]] = {
        "other authority": lambda: ("require", unchecked(others.files(name, ours.ca))),
        "ended": lambda: ("require", unchecked(ended.files(name, days=-1.0))),
        "other name": lambda: ("require", ours.node("other")),
        "plain": lambda: OFF,
    }
    ended = Authority(tmp_path / "ended")
    if case == "ended":
        other = "there" if name == "here" else "here"
        good = {other: ("require", ended.node(other))}
    good[name] = bad[case]()
    with_pair(refused, good["here"], good["there"])


@pytest.mark.parametrize("case", ["no certificate", "TLS 1.2"])
def test_a_raw_client_that_knows_the_secret_gets_no_link(tmp_path: Path, case: str) -> None:
    ours = Authority(tmp_path)
    old = case == "TLS 1.2"
    latest = ssl.TLSVersion.TLSv1_2 if old else ssl.TLSVersion.TLSv1_3
    context = ours.client("n" if old else "", latest)

    async def body(here: Station, there: Station) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", there.port, ssl=context)
        except (ssl.SSLError, ConnectionError):
            assert old
        else:
            writer.write(Handshake(hello(), SECRET).begin())
            try:
                assert await closed(reader)
            except ssl.SSLError as error:
                assert "REQUIRED" in str(error)
            writer.transport.abort()
        await until(lambda: not there.links.strangers)
        assert there.ends.counters["tls_handshakes_failed"] == 1
        assert not there.links.incoming

    with_pair(body, OFF, ("require", ours.node("there")))


def test_a_certificate_of_an_authority_that_was_taken_away_opens_no_new_link(
    tmp_path: Path,
) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    files = old.files("there")
    held = Certificates(files)

    async def body(here: Station, there: Station) -> None:
        here.links.send(there.address, FRAME)
        await until(lambda: there.frames == [FRAME])
        fresh = new.files("there")
        for mine, theirs in zip(files, fresh, strict=True):
            assert mine is not None and theirs is not None
            mine.write_bytes(theirs.read_bytes())
        held.take()
        here.links.send(there.address, FRAME)
        await until(lambda: len(there.frames) == 2)  # what is open stays
        (link,) = there.links.incoming
        link.abort()
        await until(lambda: here.lost == [there.address])
        await until(lambda: here.links.send(there.address, FRAME))
        await until(lambda: len(here.lost) == 2)
        assert len(there.frames) == 2

    with_pair(body, ("require", old.node("here")), ("require", held))


@pytest.mark.parametrize(
    ("here", "there", "in_tls"),
    [("off", "allow", False), ("allow", "off", False), ("allow", "allow", True),
     ("allow", "require", True), ("require", "allow", True)],
)  # fmt: skip
def test_a_ring_goes_over_to_tls_node_by_node(
    tmp_path: Path, here: str, there: str, in_tls: bool
) -> None:
    ours = Authority(tmp_path)

    async def body(one: Station, other: Station) -> None:
        for a, b in ((one, other), (other, one)):
            assert a.links.send(b.address, FRAME)
            await until(lambda b=b: b.frames == [FRAME])  # type: ignore[misc]
            (link,) = b.links.incoming
            assert link.transport is not None
            assert (link.transport.get_extra_info("ssl_object") is not None) is in_tls
            assert not a.lost

    with_pair(body, (here, ours.node("here")), (there, ours.node("there")))


def test_two_that_can_do_tls_are_not_talked_down_to_a_plain_link(tmp_path: Path) -> None:
    ours = Authority(tmp_path)

    async def body(here: Station, there: Station) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        handshake = Handshake(here.ends.handshake("dialer")._me, SECRET)
        writer.write(handshake.begin())
        while handshake.peer is None and (piece := await reader.read(1)):
            writer.write(handshake.receive(piece))
        assert await closed(reader)
        writer.close()
        assert there.ends.counters["links_talked_down"] == 1
        assert not there.links.incoming

    with_pair(body, ("allow", ours.node("here")), ("allow", ours.node("there")))
