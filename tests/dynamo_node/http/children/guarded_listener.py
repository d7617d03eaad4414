"""A listener in a separate process: `guarded_listener.py FRONT` until standard input ends.

Writes its port, then what it knows at its end: the exit code is 0 when no callback has failed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[4]))

from dynamo_node import log
from dynamo_node.http_limits import Limits
from tests.dynamo_node.http.client_listener import Listener

LIMITS = Limits(
    value_bytes_max=100_000,
    head_s_max=3.0,
    body_s_max=3.0,
    idle_s_max=3.0,
    sweep_s=0.1,
    admin_connections_max=4096,
)


def main(front: str) -> None:
    log.configure("info")
    listener = Listener(front, LIMITS)
    print(listener.address[1], flush=True)
    sys.stdin.read()
    listener.stop()


if __name__ == "__main__":
    main(sys.argv[1])
