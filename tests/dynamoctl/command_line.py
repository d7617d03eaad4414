"""`dynamoctl` as tests run it: in this process, against nodes that it started."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

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
