"""All deliberate faults: a module of mutants or ladders registers its own when it is imported."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from tests.simulation.mutants import MUTANTS

__all__ = ["MUTANTS"]

for kind in ("mutants", "ladders"):
    for file in sorted(Path(__file__).parent.glob(f"*_{kind}.py")):
        if not file.name.startswith(("all_", "run_", "test_")):
            import_module(f"tests.simulation.{file.stem}")
