"""Runs a module with a wrong wall clock: `python -m dynamo_client.skewed_clock 3600 MODULE`.

For what-if stories on this machine. The clock of the machine stays as it is: only `time.time` of
this process is moved, before the module is loaded. Its monotonic clock is right.
"""

from __future__ import annotations

import runpy
import sys
import time


def main() -> None:
    """The command: seconds ahead (behind if negative), the module, and its arguments."""
    ahead_s, module = float(sys.argv[1]), sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    right = time.time
    time.time = lambda: right() + ahead_s
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
