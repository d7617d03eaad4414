"""The bytes of a frame are bounded: no frame is too long for its link.

A link drops a frame that is too long, and its node then counts as unreachable; so without a bound,
large records that wait for one node would block each other for ever.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from dynamo_core.keys import DATA, VALUE_BYTES_MAX, partition_of, store_key
from dynamo_core.protocol.frames import FRAME_BYTES_MAX, Frame, encode_frame
from dynamo_core.protocol.operations import Get, Outcome
from dynamo_core.testing.town import SETTINGS, Town

BOUND = 4096
VALUE = b"x" * 1000
LONGEST = BOUND + 2 * len(VALUE)
"""One record more than the bound, and what else a frame has."""
BOUNDED = msgspec.structs.replace(SETTINGS, fetch_bytes_max=BOUND)


def keys_of(town: Town, owner: str, count: int, together: bool = False) -> list[bytes]:
    """This many keys with this node as the first owner; `together`: of one partition."""
    entries, bits = town.ring.entries, town.ring.partition_bits
    owned = [index for index, entry in enumerate(entries) if entry.owners[0] == owner]
    wanted = set(owned[:1] if together else owned)
    keys = (b"%d" % index for index in range(10_000))
    found = (key for key in keys if partition_of(store_key(key), bits) in wanted)
    return list(islice(found, count))


def watched(town: Town) -> list[int]:
    """The length of every frame from now on."""
    lengths: list[int] = []

    def lost(sender: str, to: str, frame: Frame) -> bool:
        lengths.append(len(encode_frame(frame)))
        return False

    town.lost = lost
    return lengths


def test_hints_that_wait_go_a_few_at_once() -> None:
    town = Town("a b c", n=1, settings=BOUNDED)
    keys = keys_of(town, "c", 30)
    town.kill("c")
    for key in keys:
        assert town.put("a", key, VALUE, w=1).status == 204
    lengths = watched(town)
    town.start("c")
    town.until(lambda: len(town.disks["c"].rows[DATA]) == len(keys))
    assert max(lengths) <= LONGEST
    town.until(lambda: not town.nodes["a"].hints.counts)


def test_hints_of_the_largest_values_are_delivered() -> None:
    """Together they have more bytes than one frame may have."""
    town = Town("a b c", n=1)
    keys = keys_of(town, "c", FRAME_BYTES_MAX // VALUE_BYTES_MAX + 1)
    town.kill("c")
    for key in keys:
        assert town.put("a", key, bytes(VALUE_BYTES_MAX), w=1).status == 204
    lengths = watched(town)
    town.start("c")
    town.until(lambda: not town.nodes["a"].hints.counts)
    assert max(lengths) <= FRAME_BYTES_MAX


def test_an_exchange_pushes_a_few_records_at_once() -> None:
    town = Town("a b", n=2, settings=BOUNDED)
    keys = keys_of(town, "a", 30, together=True)
    town.kill("b")
    for key in keys:
        assert town.put("a", key, VALUE, w=1).status == 204
    lengths = watched(town)
    town.start("b")
    town.until(lambda: len(town.disks["b"].rows[DATA]) == len(keys))
    assert max(lengths) <= LONGEST
    assert town.nodes["b"].counters["stored_by_exchange"] > 0


def test_unowned_records_are_handed_over_a_few_at_once() -> None:
    town = Town("a b c", n=1, settings=BOUNDED)
    keys = keys_of(town, "c", 30, together=True)
    for key in keys:
        assert town.put("c", key, VALUE, w=1).status == 204
    node, disk = town.nodes["a"], town.disks["c"]
    for stored, record in disk.rows[DATA].items():
        node.replica.merge(stored, record)
    disk.rows[DATA].clear()
    lengths = watched(town)
    town.until(lambda: len(disk.rows[DATA]) == len(keys) and not town.disks["a"].rows[DATA])
    assert max(lengths) <= LONGEST


def test_answers_of_one_turn_are_as_many_frames_as_they_need() -> None:
    """A batch of reads asks for more than one frame may have."""
    town = Town("a b c")
    keys = [b"%d" % index for index in range(FRAME_BYTES_MAX // VALUE_BYTES_MAX + 1)]
    for key in keys:
        assert town.put("a", key, bytes(VALUE_BYTES_MAX), w=3).status == 204
    lengths = watched(town)
    answers: list[Outcome] = []
    for key in keys:
        town.nodes["a"].submit(Get(key=key, r=3), answers.append)
    town.until(lambda: len(answers) == len(keys))
    assert {answer.status for answer in answers} == {200}
    assert VALUE_BYTES_MAX * 2 < max(lengths) <= FRAME_BYTES_MAX
