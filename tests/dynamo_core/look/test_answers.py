"""Answers to looks are checked like every answer of a peer (S-IN-2)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dynamo_core.keys import partition_of, store_key
from dynamo_core.protocol.answers import SUM_BYTES, answer_fault
from dynamo_core.protocol.intake import fault
from dynamo_core.protocol.look_messages import (
    HINTS,
    HISTORY,
    RECORD,
    STATUS,
    TREE,
    Change,
    HintsBody,
    HintsFor,
    HistoryBody,
    Look,
    Looked,
    RecordBody,
    RecordShown,
    SiblingShown,
    StatusBody,
    TreeBody,
    encode_body,
)
from dynamo_core.replica import merkle
from dynamo_core.testing.town import SETTINGS, Town

SIBLING = SiblingShown((1, 2), "value", 5, b"v", "text/plain", 0, "id")
LEAVES = b"l" * (SUM_BYTES << SETTINGS.leaf_bits)


def record(sibling: SiblingShown = SIBLING, target: str = "") -> RecordBody:
    one = RecordShown(target, b"d", 9, {1: 2}, [(1, 4)], [sibling], 1, 1)
    return RecordBody(3, 0, False, [one])


def change(**fields: Any) -> HistoryBody:
    line = Change(1, "put", "", (1, 2), {1: 1}, [], [(1, 2)], [], "value", 1, b"v")
    return HistoryBody(True, 0, [msgspec.structs.replace(line, **fields)])


def hint(target: str = "c", waits_for: str = "it") -> HintsBody:
    return HintsBody(5, [HintsFor(target, 1, 2, waits_for, [b"k"])])


MANY_FIELDS = b",".join(b'"%d":1' % n for n in range(101))
GOOD = [
    (STATUS, StatusBody(b'{"peers":{"a":"up"}}')),
    (RECORD, record()),
    (HINTS, hint()),
    (HISTORY, change()),
    (TREE, TreeBody(3, b"root", LEAVES, 1, 0)),
]
BAD = {
    "a status that is no object": (STATUS, StatusBody(b"[1]")),
    "a status that is no JSON": (STATUS, StatusBody(b"\xff{")),
    "a status with another word for peers": (STATUS, StatusBody(b'{"peers":[1]}')),
    "a status of many fields": (
        STATUS,
        StatusBody(b"{%b}" % b",".join(b'"%d":1' % n for n in range(101))),
    ),
    "a status that ends early": (STATUS, StatusBody(b'{"a":[1,{"b":2}')),
    "a status without a bottom": (STATUS, StatusBody(b'{"a":' + b"[" * 60_000 + b"}")),
    "a body of another question": (RECORD, hint()),
    "a kind that is none": (RECORD, record(msgspec.structs.replace(SIBLING, kind="big"))),
    "a target that does not print": (RECORD, record(target="a\x1b[2J")),
    "a reason that does not print": (HINTS, hint(waits_for="\x1b]0;x\x07")),
    "a way that is none": (HISTORY, change(way="magic")),
    "a value that is too long": (HISTORY, change(value=b"v" * 257)),
    "a tree of another size": (TREE, TreeBody(3, b"root", LEAVES[:-1], 1, 0)),
}


def test_the_size_of_a_leaf_is_that_of_the_trees() -> None:
    assert SUM_BYTES == merkle.SUM_BYTES


@pytest.mark.parametrize(("what", "body"), GOOD, ids=lambda value: str(value)[:8])
def test_a_good_answer_is_taken(what: str, body: msgspec.Struct) -> None:
    node = Town("a b c").nodes["a"]
    assert answer_fault(Look(0, what), Looked(0, encode_body(body)), node) == ""


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_makes_no_sense_is_refused(name: str) -> None:
    what, body = BAD[name]
    node = Town("a b c").nodes["a"]
    assert answer_fault(Look(0, what), Looked(0, encode_body(body)), node)


def test_a_question_that_makes_no_sense_is_refused() -> None:
    node = Town("a b c").nodes["a"]
    stored = store_key(b"k")
    partition = partition_of(stored, 4)
    assert fault(Look(0, RECORD, partition, stored), node) == ""
    assert fault(Look(0, STATUS), node) == ""
    assert fault(Look(0, "secrets"), node)
    assert fault(Look(0, TREE, 16), node)
    assert fault(Look(0, RECORD, (partition + 1) % 16, stored), node)
    assert fault(Look(0, HISTORY, 0, b"\0\0\0\0"), node)
