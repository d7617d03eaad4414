"""kubectl for the stories, and waits for what it shows."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

POLL_S = 0.5
Object = dict[str, Any]


class Refused(Exception):
    """kubectl or another command ended with an error; its words."""


class Slow(Exception):
    """A wait has reached its bound."""


def run(*command: str, given: str | None = None, timeout_s: float = 120.0) -> str:
    """A command's output. Raises Refused."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"{' '.join(command)}: no end in {timeout_s:.0f} s") from None
    if done.returncode:
        raise Refused(f"{' '.join(command[:6])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def kubectl(*words: str, given: str | None = None, timeout_s: float = 60.0) -> str:
    """kubectl's output. Raises Refused."""
    return run("kubectl", *words, given=given, timeout_s=timeout_s)


def get(kind: str, namespace: str, name: str) -> Object:
    """An object. Raises Refused."""
    found: Object = json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json"))
    return found


def find(kind: str, namespace: str, selector: str = "") -> list[Object]:
    """Objects by label. Raises Refused."""
    chosen = ["-l", selector] if selector else []
    items: list[Object] = json.loads(kubectl("get", kind, "-n", namespace, *chosen, "-o", "json"))[
        "items"
    ]
    return items


def apply(*objects: Object) -> None:
    """Creates or changes objects. Raises Refused."""
    kubectl(
        "apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )


def patch(kind: str, namespace: str, name: str, change: Object) -> None:
    """A merge patch. Raises Refused."""
    kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", json.dumps(change))


def until(what: str, met: Callable[[], Any], seconds: float) -> float:
    """Waits until `met` returns something true; returns the seconds. An error of kubectl counts as
    not yet, and so does a field that is not there: an object has no `status` until its controller
    has written one. Raises Slow."""
    began = time.monotonic()
    last: Any = None
    while time.monotonic() - began < seconds:
        try:
            last = met()
        except (Refused, LookupError) as not_yet:
            last = not_yet
        if last and not isinstance(last, (Refused, LookupError)):
            return time.monotonic() - began
        time.sleep(POLL_S)
    raise Slow(f"{what}: not within {seconds:.0f} s; last seen: {last!r}")
