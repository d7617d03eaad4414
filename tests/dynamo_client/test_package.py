"""The package for users: types, and an installation that needs no node."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import dynamo_client

PROGRAM = """
import asyncio
from dynamo_client import AsyncDynamoClient, DynamoClient, Found, Stored, cart_union

def work(client: DynamoClient) -> tuple[Found, Stored]:
    client.update("k", cart_union(add={"a": 1}), strict=True)
    return client.get("k", r="all"), client.put(b"k", "v", w=2, context=client.get("k").context)

async def later(client: AsyncDynamoClient) -> bytes:
    return (await client.get("k")).value

reveal_type(DynamoClient("").endpoints)
DynamoClient("").put("k", "v", context=7)
DynamoClient("").get("k", colour="red")
"""
NOT_IN_THE_BASE_INSTALL = (
    *("dynamo_node", "fastapi", "starlette", "httptools", "prometheus_client", "pydantic"),
    *("pydantic_settings", "rocksdict", "structlog", "uvicorn", "uvloop"),
)


def test_the_types_are_there_for_strict_users(tmp_path: Path) -> None:
    assert (Path(dynamo_client.__file__).parent / "py.typed").exists()
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(program)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    ).stdout
    lines = [line.partition(": ")[2] for line in said.splitlines()]
    assert lines[0] == 'note: Revealed type is "tuple[str, ...]"'
    assert "context" in lines[1] and "arg-type" in lines[1]
    assert "colour" in lines[2] and "call-arg" in lines[2]
    assert "Found 2 errors" in said


@pytest.mark.parametrize("name", ["dynamoctl", "kubectl-dynamo"])
def test_an_interrupt_before_a_command_has_loaded_is_no_traceback(name: str) -> None:
    """What the entry point itself imports is loaded at once; what takes a moment comes after it."""
    (command,) = entry_points(group="console_scripts", name=name)
    program = f"""
import sys
from {command.module} import {command.attr}

class Interrupted:
    def find_spec(self, name, *_):
        if name == "httpcore":
            raise KeyboardInterrupt

assert "httpcore" not in sys.modules
sys.meta_path.insert(0, Interrupted())
{command.attr}()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_the_base_install_is_enough() -> None:
    blocked = "".join(f"sys.modules[{name!r}] = None;" for name in NOT_IN_THE_BASE_INSTALL)
    program = f"import sys; {blocked} import dynamo_client; dynamo_client.DynamoClient('http://h')"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
