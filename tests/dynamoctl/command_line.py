"""`dynamoctl` as tests run it: in this process, against nodes that it started."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from dynamo_client.local_nodes import LocalRing, free_base
from dynamoctl.app import app

QUICK = ["--heartbeat-ms=100", "--suspect-ms=1500", "--exchange-ms=200", "--log-level=warning"]


def run(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


def ok(*arguments: str, given: bytes | None = None) -> Result:
    result = run(*arguments, given=given)
    assert result.exit_code == 0, result.output
    return result


def document(*arguments: str) -> Any:
    return json.loads(ok(*arguments, "--output", "json").stdout)


@contextmanager
def ring_of_three(home: Path) -> Iterator[LocalRing]:
    """A ring of three quick nodes in `.local` of this directory, where dynamoctl looks for one."""
    ring = LocalRing(home / ".local")
    ring.flags = [*QUICK, "--engine=memory"]
    port = free_base(3)
    for _ in range(3):
        ring.add(port)
    try:
        ring.up(16)
        yield ring
    finally:
        LocalRing(home / ".local").stop()
