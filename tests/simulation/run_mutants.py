"""`make mutants`: plants every deliberate fault in turn and prints how many seeds it took."""

from __future__ import annotations

import sys
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "dynamo_core"))

import address_mutants
import approval_mutants
import background_mutants
import bounds_mutants
import edge_mutants
import expiry_mutants
import found_ladders
import gate_mutants
import ids_mutants
import level_mutants
import move_ladders
import put_ladders
import record_mutants
import refusal_ladders
import secret_mutants
import share_mutants
import wire_mutants
import writeable_mutants
from disk_fault import blind_iterator, disk_rules_broken
from move_mutants import MIX_OF
from mutants import MUTANTS, seeds_to_catch
from round_mutants import LADDER_OF

assert address_mutants.LADDER_OF and background_mutants.BUSY and edge_mutants.FULL
assert wire_mutants.TAG and bounds_mutants.VALUE
assert record_mutants.COPIED and gate_mutants.SENSELESS and ids_mutants.FLIPPED
assert expiry_mutants.LOST and refusal_ladders.LADDER_OF
assert approval_mutants.LADDER_OF and secret_mutants.TAKEN
assert level_mutants.LADDER_OF
assert writeable_mutants.LADDER_OF and share_mutants.SLOW

SEEDS_MAX = 1000
assert (
    move_ladders.four and put_ladders.LADDER_OF and found_ladders.LADDER_OF
)  # they register themselves


def catch(name: str) -> tuple[str, int, str, float]:
    began = monotonic()
    seeds, claim = seeds_to_catch(name, SEEDS_MAX)
    return name, seeds, claim, monotonic() - began


def main() -> int:
    survivors = []
    with get_context("spawn").Pool(2) as pool:
        for name, seeds, claim, took_s in pool.imap_unordered(catch, MUTANTS):
            kind = f" {MIX_OF[name]}" if name in MIX_OF else ""
            after = "" if name in LADDER_OF else f" after {seeds}{kind} seeds"
            verdict = f"caught by {claim}{after}" if seeds else "SURVIVED"
            print(f"{name:50} {verdict} ({took_s:.1f} s)", flush=True)
            if not seeds:
                survivors.append(name)
    with blind_iterator():
        caught = disk_rules_broken() > 0
    verdict = "caught by the tests of the disk rules" if caught else "SURVIVED"
    print(f"{'iterator status ignored':50} {verdict}")
    survivors += [] if caught else ["iterator status ignored"]
    print(f"{len(MUTANTS) + 1 - len(survivors)} of {len(MUTANTS) + 1} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
