"""The bytes of all links together are bounded, and every frame still arrives (T-4)."""

from __future__ import annotations

import random

import pytest

from dynamo_core.protocol.frame_tags import HEAD_BYTES, PlainSealer, Sealer
from dynamo_core.protocol.frames import MESSAGE_BYTES_MAX, Frame, encode_frame
from dynamo_core.protocol.messages import Fetched
from dynamo_node.link_bytes import READ_BYTES_MAX, READ_BYTES_MIN, Arriving, LinkBytes, Waiting
from dynamo_node.link_ends import LinkLimits
from tests.dynamo_node.links.station import FRAME, Station, closed, dial, with_stations
from tests.dynamo_node.waiting import until

MIB = 1 << 20


def frame_of(size: int) -> bytes:
    """A frame of a record of so many bytes."""
    return encode_frame(Frame(1, "c", "a", 1, "a:1", 1, 2, 3, 4, [Fetched(1, b"c" * size, 0)]))


class Link:
    """One that is read or sends, without a network."""

    def __init__(self) -> None:
        self.counted = self.held = 0
        self.reads = True

    def pause(self) -> None:
        self.reads = False

    def resume(self) -> None:
        self.reads = True

    def waiting(self) -> int:
        return self.held


# ---------------------------------------------------------------- the books


def test_the_beginnings_of_frames_stay_within_their_bound_and_all_get_whole() -> None:
    """Many links, frames much larger than the room: a random one that may is read next."""
    chance = random.Random(7)
    book, sizes = Arriving(MIB), [3 * MIB, *(chance.randrange(1, 2 * MIB) for _ in range(30))]
    links = {Link(): size for size in sizes}
    while links:
        able = [link for link in links if link.reads]
        assert able, "all wait for each other"
        link = chance.choice(able)
        link.held = min(links[link], link.held + chance.randrange(1, book.room(link) + 1))
        if link.held == links[link]:
            del links[link]
            link.held = 0
        book.hold(link, link.held)
        first = max((other.held for other in links), default=0)
        assert book.used == sum(other.held for other in links)
        assert book.used - first <= MIB + len(sizes) * READ_BYTES_MIN
    assert book.used == 0


def test_a_link_that_goes_away_makes_room() -> None:
    book, first, second, third = Arriving(MIB), Link(), Link(), Link()
    book.hold(first, MIB)
    book.hold(second, 10)
    book.hold(third, 10)
    assert (first.reads, second.reads, third.reads) == (True, False, False)
    assert book.room(first) == READ_BYTES_MAX
    assert book.room(third) == READ_BYTES_MIN
    book.hold(second, 0)
    assert not third.reads
    book.hold(first, 0)
    assert third.reads and book.used == 10


def test_a_peer_that_does_not_read_cannot_take_the_room_of_others() -> None:
    book, stalled, other = Waiting(64 * MIB), Link(), Link()
    while book.take(stalled, stalled.held, MIB):
        stalled.held += MIB
    assert stalled.held <= 33 * MIB
    assert all(book.take(other, 0, MIB) for _ in range(100)), "it reads"
    while book.take(other, other.held, MIB):
        other.held += MIB
    assert other.held >= 16 * MIB
    assert stalled.held + other.held <= 64 * MIB + MIB


def test_a_frame_of_any_length_waits_if_no_other_does() -> None:
    book, one, other = Waiting(MIB), Link(), Link()
    assert book.take(one, 0, 5 * MIB)
    one.held = 5 * MIB
    assert not book.take(other, 0, 5 * MIB)
    assert not book.take(one, one.held, 5 * MIB)
    assert book.take(other, 0, 1000), "small ones pass by"
    one.held = 0
    assert book.take(other, 0, 5 * MIB)
    book.leave(other)
    book.leave(one)
    assert (book.used, book.take(one, 0, 5 * MIB)) == (0, True)


def test_waiting_bytes_stay_within_their_bound() -> None:
    chance = random.Random(8)
    book, links = Waiting(MIB), [Link() for _ in range(40)]
    beyond = 0
    for _ in range(20_000):
        link = chance.choice(links)
        if chance.random() < 0.3:
            link.held = chance.choice((0, link.held // 2))
        elif book.take(link, link.held, size := chance.choice((100, 10_000, 100_000))):
            link.held += size
        else:
            beyond += 1
        assert sum(other.held for other in links) <= MIB + 100_000
    assert beyond


def test_the_bound_that_is_told_has_the_one_frame_in_it() -> None:
    assert LinkBytes(5).most == 5 + MESSAGE_BYTES_MAX


# ---------------------------------------------------------------- real links


def test_peers_that_announce_more_than_there_is_room_for_are_read_one_after_the_other() -> None:
    """Ten links, each with all but the end of a frame of a MiB; then the ends come."""
    frame = frame_of(MIB)
    assert len(frame) > MIB

    async def body(here: Station, there: Station) -> None:
        links = [await dial(there) for _ in range(10)]
        for _, writer, sealer in links:
            writer.write(sealer.head(frame) + frame[:-1])
        small = await dial(there)
        await until(lambda: there.ends.arriving.used >= 2 * MIB)
        small[1].write(small[2].head(FRAME) + FRAME)
        await until(lambda: there.frames == [FRAME])
        used = there.ends.arriving.used
        assert used <= 2 * MIB + len(frame) + 11 * READ_BYTES_MIN
        for _, writer, _ in links:
            writer.write(frame[-1:])
        await until(lambda: len(there.frames) == 11)
        assert there.ends.arriving.used == 0
        for _, writer, _ in (*links, small):
            writer.close()

    with_stations(body, limits=LinkLimits(arriving_bytes_max=2 * MIB))


def test_a_frame_that_does_not_get_whole_in_time_closes_its_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynamo_node.link_ends.FRAME_S_MAX", 0.05)

    async def body(here: Station, there: Station) -> None:
        reader, writer, sealer = await dial(there)
        writer.write(sealer.head(FRAME) + FRAME[:-1])
        await until(lambda: there.links.purge() or bool(there.ends.counters["link_frames_late"]))
        assert await closed(reader)
        await until(lambda: there.ends.arriving.used == 0)
        writer.close()

    with_stations(body)


@pytest.mark.parametrize("speaks", [1, 2])
def test_a_large_frame_arrives_between_small_ones(speaks: int) -> None:
    frames = [FRAME, frame_of(5 * MIB), FRAME, frame_of(0), frame_of(READ_BYTES_MAX), FRAME]

    async def body(here: Station, there: Station) -> None:
        _, writer, sealer = await dial(there, speaks=speaks)
        writer.write(b"".join(sealer.head(frame) + frame for frame in frames))
        await until(lambda: len(there.frames) == len(frames))
        assert there.frames == frames
        assert there.ends.arriving.used == 0
        writer.close()

    with_stations(body, limits=LinkLimits(arriving_bytes_max=MIB))


def test_every_cut_of_two_frames_gives_two_frames() -> None:
    def sent(sealer: Sealer | PlainSealer) -> bytes:
        return sealer.head(FRAME) + FRAME + sealer.head(FRAME) + FRAME

    async def body(here: Station, there: Station) -> None:
        whole = 2 * (HEAD_BYTES + len(FRAME))
        for cut in range(1, whole, 7):
            _, writer, sealer = await dial(there)
            said = sent(sealer)
            already = len(there.frames)
            writer.write(said[:cut])
            await until(lambda: there.ends.arriving.used == cut % (whole // 2))  # noqa: B023
            writer.write(said[cut:])
            await until(lambda: len(there.frames) == already + 2)  # noqa: B023
            writer.close()
        assert set(there.frames) == {FRAME}

    with_stations(body)
