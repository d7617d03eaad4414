"""Keys that have grown, by thousands of dead actors or siblings of two sides (S-CTX-1, S-SIB-1)."""

from __future__ import annotations

from dynamo_core.causality.codec import encode_record
from dynamo_core.causality.context import seal, unseal
from dynamo_core.causality.records import History, Record, Sibling
from dynamo_core.keys import DATA, VALUE_BYTES_MAX, store_key
from dynamo_core.protocol.frames import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, encode_frame
from dynamo_core.secret_keys import keys_of
from dynamo_core.testing.town import Town, known

KEY = b"cart"
SECRET = keys_of(()).contexts
A, B, C = "abc"


def test_what_two_sides_of_a_cut_wrote_is_merged_read_and_resolved_beyond_a_frame() -> None:
    """S-SIB-1: each side has a record that fits into a frame; the merge must be readable too."""
    town = Town("a b c")
    town.lost = lambda sender, to, frame: len(encode_frame(frame)) > MESSAGE_BYTES_MAX
    others = {(A, B), (A, C), (B, C)}
    town.cut = others | {(to, sender) for sender, to in others}
    town.run(4.0)
    for at in (A, B, C):
        for _ in range(16):
            assert town.put(at, KEY, at.encode() * VALUE_BYTES_MAX, w=1).status == 204
    town.cut = set()
    town.until(lambda: len({disk.rows[DATA][store_key(KEY)] for disk in town.disks.values()}) == 1)
    assert len(town.disks[A].rows[DATA][store_key(KEY)]) > FRAME_BYTES_MAX
    assert town.put(A, KEY, b"more").problem == "too-many-siblings"
    found = town.get(B, KEY, r=3)
    assert len(found.values) == 48
    assert town.put(C, KEY, b"all", context=known(found), w=3).status == 204
    assert town.values(A, KEY, r=3) == [b"all"]


def test_a_key_that_thousands_of_actors_wrote_is_changed_with_its_context() -> None:
    """S-CTX-1, S-DOT-5: a node accepts the contexts that it has given, after any restarts."""
    town = Town("a b c")
    dead = {n << 40: 3 for n in range(1, 3001)}
    siblings = tuple(Sibling(n << 40, 3, b"%d" % n) for n in (1, 1500, 3000))
    record = encode_record(KEY, Record(siblings, History(dead)))
    for node in town.nodes.values():
        node.replica.take(store_key(KEY), record, "")
    town.deliver()
    for value in (b"x", b"y", b"z"):
        given = seal(SECRET, KEY, known(town.get(A, KEY)))
        assert town.put(A, KEY, value, context=unseal(SECRET, KEY, given)).status == 204
        assert town.values(B, KEY) == [value]
        bare = seal(
            SECRET, KEY, known(town.put(C, KEY, b"new", context=unseal(SECRET, KEY, given)))
        )
        town.put(A, KEY, b"newer", context=unseal(SECRET, KEY, bare), w=3)
        assert sorted(v for v in town.values(B, KEY) if v) == sorted((value, b"newer"))
