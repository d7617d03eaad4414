"""`console`: where the ring is shown in a browser."""

from __future__ import annotations

import socket
import sys
import time
import webbrowser
from contextlib import suppress
from typing import Annotated
from urllib.parse import urlsplit

import typer

from dynamoctl.room import room
from dynamoctl.session import LOCAL_DIR, Failed, Session

CONNECT_S_MAX = 2.0
FORWARD_CHECK_S = 2.0
commands = room()


@commands.command()
def console(
    ctx: typer.Context,
    in_browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Print the address of the console: the ring in a browser. `kubectl dynamo console` forwards
    a port of a pod to it until Ctrl-C."""
    session: Session = ctx.obj
    with session.admin() as admin:
        url = f"{_door_of(admin.url)}/console"
    session.show({"console": url}, url)
    sys.stdout.flush()
    if in_browser and not webbrowser.open(url):
        raise Failed("no browser can be opened here")
    if session.forwarded:
        session.say("Ctrl-C ends the forwarding")
        with suppress(KeyboardInterrupt):
            while _listens(url):
                time.sleep(FORWARD_CHECK_S)
            raise Failed("the forwarded port is closed; the pod may be gone, so run this again")


def _door_of(url: str) -> str:
    """The door of `dynamoctl local up` if this is a node behind it: it outlives single nodes."""
    from dynamo_client.local_fault import LocalFault
    from dynamo_client.local_nodes import LocalRing
    from dynamo_client.local_ports import console_port

    try:
        nodes = list(LocalRing(LOCAL_DIR).nodes.values())
    except LocalFault:
        return url
    if url in [node.admin for node in nodes]:
        door = f"http://127.0.0.1:{console_port(nodes[0].ports)}"
        return door if _listens(door) else url
    return url


def _listens(url: str) -> bool:
    """Whether something accepts connections there."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), CONNECT_S_MAX).close()
    except OSError:
        return False
    return True
