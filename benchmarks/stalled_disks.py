"""Disks of local nodes whose fsyncs can be delayed: each node starts with a preloaded library."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("fsync_stalls.c")
MISSING = "delaying an fsync needs Linux, a C compiler and a preloaded library"


class Disks:
    """The disks of the nodes under one directory."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._library = place / "fsync_stalls.so"
        compiler = shutil.which("cc")
        self.can_stall = compiler is not None and sys.platform == "linux"
        if compiler is not None and self.can_stall:
            place.mkdir(parents=True, exist_ok=True)
            build = [compiler, "-shared", "-fPIC", "-o", str(self._library), str(SOURCE)]
            subprocess.run(build, check=True)

    def before(self, name: str) -> list[str]:
        """The words before the command of this node."""
        if not self.can_stall:
            return []
        return ["env", f"LD_PRELOAD={self._library}", f"FSYNC_STALLS={self._trigger(name)}"]

    def stall(self, name: str) -> None:
        """From now on no fsync of the node ends."""
        assert self.can_stall, MISSING
        self._trigger(name).touch()

    def heal(self, *names: str) -> None:
        """Waiting fsyncs end, and all others are as fast as before."""
        for name in names:
            self._trigger(name).unlink(missing_ok=True)

    def _trigger(self, name: str) -> Path:
        return self._place / f"{name}.stalls"
