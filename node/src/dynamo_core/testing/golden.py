"""Five stories of the protocol with real nodes: the ladders of docs/protocol.md.

`python -m dynamo_core.testing.golden` prints them; `--write docs/protocol.md` writes each into the
page under the comment with its name. tests/docs/test_protocol.py compares the two.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from dynamo_core.keys import DATA, HINTS, partition_of, store_key
from dynamo_core.protocol.frames import Frame
from dynamo_core.protocol.messages import Leaves, LeavesReply, Message
from dynamo_core.protocol.move_messages import Still, StillReply
from dynamo_core.protocol.ring_messages import Admit, Parts
from dynamo_core.protocol.round_messages import Numbers, NumbersTold
from dynamo_core.testing.ladder import BACKGROUND, Ladder
from dynamo_core.testing.town import SETTINGS, Town, known

KEY = b"cart"
FORGETFUL = msgspec.structs.replace(SETTINGS, tombstone_age_min_s=12.0, collect_s=0.5)
"""Tombstones are forgotten after 12 s instead of a day."""
COLUMN = 7
HIDDEN: tuple[type[Message], ...] = (*BACKGROUND, Numbers, NumbersTold, Still, StillReply, Parts)
GOLDEN: dict[str, Callable[[], str]] = {}
BLOCK = re.compile(r"(<!-- ladder: (?P<name>[a-z -]+) -->\n```\n)(?P<text>.*?)(```\n)", re.DOTALL)


def golden(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Registers a story under its name on the page."""

    def named(story: Callable[[], str]) -> Callable[[], str]:
        GOLDEN[name] = story
        return story

    return named


def drawn(town: Town, hidden: tuple[type[Message], ...] = HIDDEN) -> Ladder:
    """Draws the town from now on, without the messages of these types."""
    ladder = Ladder("".join(town.names), actor_name=town.actor_name, hidden=hidden, column=COLUMN)
    town.draw(ladder)
    return ladder


def holds(town: Town, name: str, family: int = DATA) -> int:
    """The number of rows on the node's disk."""
    return len(town.disks[name].rows[family])


@golden("a put with a stand-in")
def put_with_a_stand_in() -> str:
    """One owner is down: a node outside the owners keeps a hinted replica for it."""
    town = Town("a b c d")
    first, _, third = town.owners(KEY)
    town.kill(third)
    ladder = drawn(town)
    town.note(f"the owners of {KEY.decode()!r} are {' '.join(town.owners(KEY))}; {third} is down")
    town.put(first, KEY, b"milk", w=3)
    return ladder.text()


@golden("a hint is delivered")
def hint_is_delivered() -> str:
    """The owner is back: the stand-in delivers the hint, and drops it after the fsynced ack."""
    town = Town("a b c d")
    first, _, third = town.owners(KEY)
    (stand_in,) = town.others(KEY)
    town.kill(third)
    town.put(first, KEY, b"milk", w=3)
    ladder = drawn(town)
    town.note(f"{third} starts; {stand_in} keeps {holds(town, stand_in, HINTS)} hint for it")
    town.start(third)
    town.until(lambda: not holds(town, stand_in, HINTS))
    town.note(f"{stand_in} keeps {holds(town, stand_in, HINTS)} hints")
    return ladder.text()


@golden("a partition moves")
def partition_moves() -> str:
    """While the receiver copies, a put needs W acks of the owners before and of those after."""
    town = Town("a b c d")
    first, _, third = town.owners(KEY)
    (receiver,) = town.others(KEY)
    town.put(first, KEY, b"milk", w=3)
    held: list[str] = []

    def lost(sender: str, to: str, frame: Frame) -> bool:
        leaves = any(isinstance(message, LeavesReply) for message in frame.messages)
        held.extend([sender] if leaves and to == receiver else [])
        return leaves and (sender, to) == (third, receiver)

    here = partition_of(store_key(KEY), town.ring.partition_bits)
    ladder = drawn(town)
    town.note(f"an administrator moves partition {here} from {third} to {receiver}")
    town.lost = lost
    town.change(first, moves=[{"partition": here, "from": third, "to": receiver}])
    town.until(lambda: third in held)
    town.put(first, KEY, b"milk, bread", w=2, context=known(town.get(first, KEY)))
    town.lost = lambda sender, to, frame: False
    town.until(town.moved)
    town.note(f"the owners are {' '.join(town.owners(KEY))}")
    return ladder.text()


@golden("a round of forgetting")
def round_of_forgetting() -> str:
    """All members agree, all owners hold the same tombstone: every node forgets it."""
    town = Town("a b c d", settings=FORGETFUL)
    first = town.owners(KEY)[0]
    town.put(first, KEY, b"milk", w=3)
    town.put(first, KEY, None, context=known(town.get(first, KEY)), w=3)
    ladder = drawn(town)
    town.note("every owner holds the tombstone; it is not old enough yet")
    town.until(lambda: not any(holds(town, name) for name in town.names))
    town.note("no disk holds it any more")
    return ladder.text()


@golden("a disk is replaced")
def disk_is_replaced() -> str:
    """A node returns with an empty disk, is admitted again, and copies from all owners."""
    town = Town("a b c")
    lost = town.owners(KEY)[0]
    town.put(lost, KEY, b"milk", w=3)
    town.kill(lost)
    town.wipe(lost)
    town.run(SETTINGS.suspect_s)
    ladder = drawn(town, (*(kind for kind in HIDDEN if kind is not Admit), Leaves, LeavesReply))
    town.note(f"{lost} starts with an empty disk")
    town.start(lost)
    town.until(lambda: holds(town, lost) == 1)
    town.note(f"{lost} holds the record again")
    return ladder.text()


def rewritten(page: str) -> str:
    """The page with new ladders. Raises KeyError for a ladder without a story."""
    return BLOCK.sub(lambda found: found[1] + GOLDEN[found["name"]]() + "\n" + found[4], page)


def main() -> None:
    """Print all ladders, or write them into a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE", help="the page to update")
    page = parser.parse_args().write
    if page is None:
        for name, story in GOLDEN.items():
            print(f"{name}\n\n{story()}\n")
    else:
        page.write_text(rewritten(page.read_text()))


if __name__ == "__main__":
    main()
