"""A process of this machine that is started now and ended later, perhaps from another shell.

A process number alone is not enough: after a process has ended, the system may give its number to
another one. So a process is its number and its start time; a signal goes only to one with both.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

STOP_S_MAX = 12.0
WAIT_S_MAX = 30.0
POLL_S = 0.05


def until(condition: Callable[[], bool], what: str, wait_s_max: float = WAIT_S_MAX) -> None:
    """Waits for a condition. Raises RuntimeError after the time."""
    end = time.monotonic() + wait_s_max
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"after {wait_s_max:.0f} s: {what}")
        time.sleep(POLL_S)


def _seen(pid: int) -> tuple[str, str]:
    """State (Z: has ended) and time of start in the system's own words; "" when there is none."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return "", ""
        return fields[0], fields[19]
    ps = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    words = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.split()
    return (words[0][0], "-".join(words[1:])) if words else ("", "")


@dataclass(frozen=True)
class Process:
    """One process; `started` is as the system says it."""

    pid: int
    started: str

    @classmethod
    def start(cls, command: list[str], log: Path) -> Self:
        """Starts a command whose words go to a file. It lives on when its starter ends, and Ctrl-C
        on the terminal is not for it. Raises OSError when the command cannot be run."""
        # What is started here is told everything by flags.
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DYNAMO_")}
        appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawnp(
            command[0], command, clean, setpgroup=0,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, appended, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )  # fmt: skip
        return cls(pid, _seen(pid)[1])

    @classmethod
    def of_file(cls, file: Path) -> Self | None:
        """The process that `save` wrote down, which may have ended; None when none is there."""
        try:
            pid, _, started = file.read_text().strip().partition(" ")
            return cls(int(pid), started)
        except (OSError, ValueError):
            return None

    def save(self, file: Path) -> None:
        """Writes it down for other shells."""
        file.write_text(f"{self.pid} {self.started}\n")

    @property
    def alive(self) -> bool:
        """Whether it still runs. One of our own children that has ended is buried."""
        state, started = _seen(self.pid)
        if started != self.started or not started:
            return False
        if state != "Z":
            return True
        with suppress(ChildProcessError):  # another's child, whom its parent buries
            os.waitpid(self.pid, os.WNOHANG)
        return False

    def send(self, number: int) -> None:
        """Signals it; nothing when it has ended."""
        if self.alive:
            os.kill(self.pid, number)

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ends it and waits; kills what does not want to end."""
        self.send(number)
        try:
            until(lambda: not self.alive, "", STOP_S_MAX)
        except RuntimeError:
            self.send(signal.SIGKILL)
            until(lambda: not self.alive, f"process {self.pid} cannot be killed")
