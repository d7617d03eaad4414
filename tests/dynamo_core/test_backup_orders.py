"""Orders and answers of backups that come from a peer: what is not believed (S-IN-2)."""

from __future__ import annotations

import pytest

from dynamo_core.backup.archive_calls import ArchiveFailed
from dynamo_core.backup.manifest import Manifest, Piece, decode_manifest, encode_manifest
from dynamo_core.bounds import WHY_MAX, one_line
from dynamo_core.errors import BadParameter
from dynamo_core.protocol.answers import answer_fault
from dynamo_core.protocol.backup_messages import Load, Loaded, Part, Save, Saved, SaveHints
from dynamo_core.protocol.intake import fault
from dynamo_core.protocol.messages import Message, Refused
from dynamo_core.protocol.refusal import Refusal
from dynamo_core.testing.town import Town

PART = Part("parts/one/0003-7-0", 5, 600, 70, "ab" * 32)
ELSEWHERE = Part("parts/one/../../id", 5, 600, 70, "ab" * 32)
URL = "s3://shop"
SENSIBLE = (
    Save(1, "one", URL, 15, (0, 1)), SaveHints(1, "one", URL), Saved(1, [PART]),
    Saved(1, [], why="the disk is full: é"), Load(1, "r", URL, PART), Loaded(1, 5),
    Load(1, "r", URL, PART, b"", (15,), 16), Load(1, "r", URL, PART, b"", (), 4096),
)  # fmt: skip
SENSELESS = (
    Save(1, "one", URL, 16, (0, 1)), Save(1, "../one", URL, 3, (0, 1)), Save(1, "", URL, 3, (0, 1)),
    SaveHints(1, "one/two", URL), SaveHints(1, "one", "s3://shop\x1b[2J"),
    Saved(1, [PART, ELSEWHERE]), Saved(1, [], why="full\x1b[2J"), Saved(1, [], missed=("~b",)),
    Load(1, "r", URL, ELSEWHERE), Load(1, "r\n", URL, PART), Loaded(1, 5, why="a\nb"),
    Load(1, "r", URL, PART, b"", (1,), 1 << 40), Load(1, "r", URL, PART, b"", (16,), 16),
)  # fmt: skip


@pytest.mark.parametrize("message", SENSIBLE, ids=repr)
def test_what_makes_sense_is_taken(message: Message) -> None:
    assert fault(message, Town("a b c").nodes["a"]) == ""


@pytest.mark.parametrize("message", SENSELESS, ids=repr)
def test_what_makes_none_is_not(message: Message) -> None:
    assert fault(message, Town("a b c").nodes["a"])


def test_nothing_is_unchanged_that_was_not_compared() -> None:
    node = Town("a b c").nodes["a"]
    same = Saved(1, [], b"root", True)
    assert answer_fault(Save(1, "one", URL, 3, (0, 1)), same, node)
    assert answer_fault(SaveHints(1, "one", URL), same, node)
    assert answer_fault(Save(1, "one", URL, 3, (0, 1), True, b"root"), same, node) == ""


def test_numbers_of_rounds_are_in_order_and_one_for_each_part() -> None:
    node = Town("a b c").nodes["a"]
    save, hints = Save(1, "one", URL, 3, (0, 1)), SaveHints(1, "one", URL)
    assert answer_fault(save, Saved(1, [], seen=3, floor=2, passed=1), node) == ""
    assert answer_fault(save, Saved(1, [], seen=1, floor=2), node)
    assert answer_fault(save, Saved(1, [], seen=2, floor=1, passed=2), node)
    assert answer_fault(hints, Saved(1, [PART], stamps=[{3: 7}]), node) == ""
    assert answer_fault(hints, Saved(1, [PART]), node)


def test_a_manifest_names_parts_alone() -> None:
    one = Manifest(1, "one", "c", 1, 2, {}, {}, [], {0: [Piece("a", [ELSEWHERE])]})
    with pytest.raises(BadParameter, match="no name of a part"):
        decode_manifest(encode_manifest(one))


def test_words_of_an_archive_are_one_printable_line() -> None:
    assert one_line("full\x1b[2J\nmore") == "full?[2J?more"
    assert one_line("\ud800" + "x" * 9999) == "?" + "x" * (WHY_MAX - 1)


def test_a_node_without_archives_says_so_in_words() -> None:
    town = Town("a", n=1)
    node = town.nodes["a"]
    order = Save(7, "one", URL, 3, town.ring.entries[3].id)
    said: list[Message] = []
    node.local.answer(order, said.append)
    node.dispatcher.drain()
    node.flush()
    node.dispatcher.drain()
    assert said == [Saved(7, [], why="this node has no way to archives")]


def test_a_copy_that_may_miss_keys_refuses_to_be_saved_alone() -> None:
    town = Town("a b c")
    node = town.nodes["a"]
    node.archive.carry = lambda request, reply: reply(ArchiveFailed(0, "not reached"))
    node.replica.complete = lambda partition: False  # type: ignore[method-assign]
    said: list[Message] = []
    node.local.answer(Save(7, "one", URL, 3, town.ring.entries[3].id), said.append)
    assert said == [Refused(7, Refusal.INCOMPLETE)]


def test_a_place_that_is_not_allowed_is_refused_before_anything_begins() -> None:
    node = Town("a b c").nodes["a"]
    node.archive.archive_fault = lambda url: "not here"
    body = {"id": "one", "backup": "one", "archive": URL}
    said: list[tuple[int, str]] = []
    for begin in (node.archive.back_up, node.archive.restore):
        begin(body, lambda status, document: said.append((status, document["detail"])))
    assert said == [(400, "archive: not here")] * 2
