"""`make mutants`: plants every deliberate fault in turn and prints how many seeds it took."""

from __future__ import annotations

import sys
from multiprocessing import get_context
from time import monotonic

from tests.simulation.all_mutants import MUTANTS
from tests.simulation.disk_fault import blind_iterator, disk_rules_broken
from tests.simulation.move_mutants import MIX_OF
from tests.simulation.mutants import seeds_to_catch
from tests.simulation.round_mutants import LADDER_OF

SEEDS_MAX = 1000


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
