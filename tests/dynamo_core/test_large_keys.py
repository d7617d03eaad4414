"""Keys that have grown, by thousands of dead actors or siblings of two sides (S-CTX-1, S-SIB-1)."""

from __future__ import annotations

from town import Town, known

from dynamo_core.context import seal, unseal
from dynamo_core.ids import store_key
from dynamo_core.versions import History, Record, Sibling, encode_record

KEY = b"cart"
A, B, C = "abc"


def test_a_key_that_thousands_of_actors_wrote_is_changed_with_its_context() -> None:
    """S-CTX-1, S-DOT-5: what a node gives out it takes back, whatever restarts have left behind."""
    town = Town("a b c")
    dead = {n << 40: 3 for n in range(1, 3001)}
    siblings = tuple(Sibling(n << 40, 3, b"%d" % n) for n in (1, 1500, 3000))
    record = encode_record(KEY, Record(siblings, History(dead)))
    for node in town.nodes.values():
        node.replica.take(store_key(KEY), record, "")
    town.settle()
    for value in (b"x", b"y", b"z"):
        given = seal(b"", KEY, known(town.get(A, KEY)))
        assert town.put(A, KEY, value, context=unseal(b"", KEY, given)).status == 204
        assert town.values(B, KEY) == [value]
        bare = seal(b"", KEY, known(town.put(C, KEY, b"new", context=unseal(b"", KEY, given))))
        town.put(A, KEY, b"newer", context=unseal(b"", KEY, bare), w=3)
        assert sorted(v for v in town.values(B, KEY) if v) == sorted((value, b"newer"))
