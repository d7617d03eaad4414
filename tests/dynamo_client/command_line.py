"""`dynamoctl` as tests run it: in this process, against nodes that it started."""

from __future__ import annotations

import json
import random
import socket
from typing import Any

from typer.testing import CliRunner, Result

from dynamo_client.cli import app

QUICK = ["--heartbeat-ms=100", "--suspect-ms=1500", "--exchange-ms=200", "--log-level=warning"]


def base_port() -> int:
    """One from which the ports of four nodes are free, below those that the system hands out."""
    while True:
        base = random.randrange(10_000, 32_000)
        wanted = [base + 100 * kind + node for kind in range(3) for node in range(4)]
        try:
            for port in wanted:
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return base


def run(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


def ok(*arguments: str, given: bytes | None = None) -> Result:
    result = run(*arguments, given=given)
    assert result.exit_code == 0, result.output
    return result


def document(*arguments: str) -> Any:
    return json.loads(ok(*arguments, "--output", "json").stdout)
