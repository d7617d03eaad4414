"""A process on this machine that may be ended later, also from another shell.

A process number alone does not name a process: after it has ended, the system may give the number
to another process. So a process is its number and its start time; a signal goes only to a process
with both.
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


def _state_and_start(pid: int) -> tuple[str, str]:
    """State (Z: has ended) and start time in the system's words; "" if there is no such process."""
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
    """One process; `started` is the system's text of its start time."""

    pid: int
    started: str

    @classmethod
    def start(cls, command: list[str], log: Path) -> Self:
        """Starts a command and writes its output to a file. The process goes on when its starter
        ends, and Ctrl-C on the terminal does not reach it. Raises OSError if the command cannot be
        run."""
        # The process gets all its settings by flags.
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DYNAMO_")}
        appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawnp(
            command[0],
            command,
            clean,
            setpgroup=0,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, appended, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )
        return cls(pid, _state_and_start(pid)[1])

    @classmethod
    def of_file(cls, file: Path) -> Self | None:
        """The process that `save` has written, which may have ended; None if there is none."""
        try:
            pid, _, started = file.read_text().strip().partition(" ")
            return cls(int(pid), started)
        except (OSError, ValueError):
            return None

    def save(self, file: Path) -> None:
        """Writes it to a file for other shells."""
        file.write_text(f"{self.pid} {self.started}\n")

    @property
    def alive(self) -> bool:
        """Whether it still runs. An ended child of this process is reaped."""
        state, started = _state_and_start(self.pid)
        if started != self.started or not started:
            return False
        if state != "Z":
            return True
        with suppress(ChildProcessError):  # not our child: its parent reaps it
            os.waitpid(self.pid, os.WNOHANG)
        return False

    def send(self, signum: int) -> None:
        """Sends it a signal; does nothing if it has ended."""
        if self.alive:
            os.kill(self.pid, signum)

    def end(self, signum: int = signal.SIGTERM) -> None:
        """Ends it and waits; kills it if it does not end."""
        self.send(signum)
        try:
            until(lambda: not self.alive, "", STOP_S_MAX)
        except RuntimeError:
            self.send(signal.SIGKILL)
            until(lambda: not self.alive, f"process {self.pid} cannot be killed")
