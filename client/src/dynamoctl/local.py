"""`local`: nodes as processes on this machine, with their data in `.local/`."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dynamo_client.local_door import LocalConsole
from dynamo_client.local_fault import LocalFault
from dynamo_client.local_nodes import BASE_PORT, NODES_MAX, LocalNode, LocalRing, said
from dynamo_client.local_process import Process, until
from dynamoctl.change import change
from dynamoctl.room import offer, room
from dynamoctl.secured import certify, give_rights, secure, told
from dynamoctl.session import LOCAL_DIR, Session, table

NODES, PARTITIONS = 3, 256
WATCH_S = 0.2
LOUD = {"warning": "yellow", "error": "red", "critical": "red"}
NEWS = "a peer is "
"""Only these lines of level info are shown to people."""
EXPECTED = "no cluster secret"
"""Not worth a warning on loopback."""
CLEAN = "stopped clean"
commands = room(no_args_is_help=True, help="Run nodes as processes on this machine.")

Directory = Annotated[Path, typer.Option("--dir", help="Directory of their data.")]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Such as n1.", autocompletion=offer("local_any"))
]
Running = Annotated[
    str, typer.Argument(metavar="NAME", help="Such as n1.", autocompletion=offer("local_running"))
]
Stopped = Annotated[
    str, typer.Argument(metavar="NAME", help="Such as n1.", autocompletion=offer("local_stopped"))
]


@commands.command()
def up(
    ctx: typer.Context,
    flags: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- NODE-FLAGS]",
            help="Flags of dynamo-node, for a new directory.",
            autocompletion=offer("node_flags"),
        ),
    ] = None,
    *,
    directory: Directory = LOCAL_DIR,
    nodes: Annotated[
        int | None, typer.Option(min=1, max=NODES_MAX, help="Nodes in a new directory; default 3.")
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1024,
            max=65000,
            help=f"Client port of n1; admin: +100, peer: +200; default {BASE_PORT}.",
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave them running.")] = False,
    what_if: Annotated[
        bool,
        typer.Option("--what-if/--no-what-if", help="Offer faults to the console, on loopback."),
    ] = True,
    with_tls: Annotated[
        bool, typer.Option("--secure", help="With a secret, a trial authority, TLS and rights.")
    ] = False,
) -> None:
    """Start nodes, make a ring of them, and stay until Ctrl-C. If the directory has nodes, start
    them again with their data. The console of the ring offers faults while this command stays."""
    session: Session = ctx.obj
    ring = LocalRing(directory)
    new = not ring.nodes
    _prepare(ring, nodes, base_port, flags or [], with_tls)
    began = time.monotonic()
    with _terminated_like_interrupted(), ExitStack() as stack:
        console = None
        try:
            if what_if and not detach:
                console = LocalConsole(ring)
                stack.callback(console.stop)
            elif ring.linked:
                ring.link(False)
            ring.up(PARTITIONS)
        except BaseException:
            if new:
                ring.forget()
            raise
        if detach:
            _welcome(
                session, ring, time.monotonic() - began, f"{of(directory, 'down')} stops them."
            )
            return
        try:
            ran = _processes(ring)
            _welcome(session, ring, time.monotonic() - began, "Ctrl-C stops them.", console)
            _watch(session, directory, ran, console)
        except KeyboardInterrupt:
            pass
        finally:
            if console is not None:
                console.release()
            LocalRing(directory).stop()
    session.say(f"stopped; their data stays in {directory}/")


def _prepare(
    ring: LocalRing, nodes: int | None, base_port: int | None, flags: list[str], with_tls: bool
) -> None:
    """Checks the options against the directory; a new directory gets its nodes."""
    if ring.running:
        names = ", ".join(node.name for node in ring.running)
        raise LocalFault(
            f"{names} of {ring.directory} run already; {of(ring.directory, 'down')} ends them"
        )
    if not ring.nodes:
        ring.flags = flags
        if with_tls:
            secure(ring)
            give_rights(ring)
        for _ in range(nodes or NODES):
            ring.add(base_port or BASE_PORT)
        certify(ring)
        return
    if with_tls and ring.certs is None:
        raise LocalFault(f"{ring.directory} has nodes without TLS; give another --dir", "--secure")
    if nodes not in (None, len(ring.nodes)):
        raise LocalFault(
            f"{ring.directory} has {len(ring.nodes)} nodes;"
            f" {of(ring.directory, 'add')} makes one more",
            "--nodes",
        )
    first = next(iter(ring.nodes.values())).ports["client"]
    if base_port not in (None, first):
        raise LocalFault(f"{ring.directory} has its ports from {first} on", "--base-port")
    if flags and flags != ring.flags:
        raise LocalFault(f"{ring.directory} has {' '.join(ring.flags) or 'none'}", "NODE-FLAGS")


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGHUP)}
    for signum, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup: stay
            signal.signal(signum, signal.default_int_handler)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _welcome(
    session: Session, ring: LocalRing, seconds: float, end: str, console: LocalConsole | None = None
) -> None:
    nodes = list(ring.nodes.values())
    ours = "dynamoctl" if shutil.which("dynamoctl") else _beside_python("dynamoctl")
    curl = f"curl --cacert {shlex.quote(str(ring.certs / 'ca.crt'))}" if ring.certs else "curl"
    url = f"U={nodes[0].endpoint}/v1/kv/cart-1"
    known = curl
    if held := ring.client_token_file:
        url += f'\n  T="Authorization: Bearer $(cat {shlex.quote(str(held))})"'
        known += ' -H "$T"'
    first = f"""
Try:
  {url}
  {known} -X PUT --data-binary 'two apples' $U
  {known} -i $U
  C=$({known} -so /dev/null -w '%header{{dynamo-context}}' $U)
  {known} -X DELETE -H "Dynamo-Context: $C" $U
or {ours} get, put, ring, status, top{_named(ring)}{told(ring, curl)}{end}"""
    count = "1 node is" if len(nodes) == 1 else f"{len(nodes)} nodes are"
    ready = Text(f"{count} ready after {seconds:.1f} s", "bold green")
    page = console.url if console else f"{nodes[0].admin}/console"
    session.show(
        _document(ring), ready, _table(ring), Text(f"\nConsole: {page}", "bold"), Text(first)
    )


def of(directory: Path, words: str) -> str:
    """A `local` command for this directory, to be pasted into a shell in any directory."""
    where = "" if directory == LOCAL_DIR else f" --dir {shlex.quote(str(directory.resolve()))}"
    return f"dynamoctl local {words}{where}"


def _named(ring: LocalRing) -> str:
    """The variables for commands that do not find the ring by themselves."""
    if ring.directory == LOCAL_DIR:
        return ". "
    nodes = ring.nodes.values()
    names = {
        "DYNAMO_ENDPOINT": " ".join(node.endpoint for node in nodes),
        "DYNAMO_ADMIN": " ".join(node.admin for node in nodes),
    }
    if ring.secret_file:
        names["DYNAMO_SECRET_FILE"] = str(Path(ring.secret_file).resolve())
    if held := ring.client_token_file:
        names["DYNAMO_CLIENT_TOKEN_FILE"] = str(held.resolve())
    if ring.certs:
        names["DYNAMO_CA_FILE"] = str((ring.certs / "ca.crt").resolve())
    words = " ".join(f"{name}={shlex.quote(text)}" for name, text in names.items())
    return f", after\n  export {words}\n"


def _beside_python(name: str) -> str:
    return os.path.relpath(Path(sys.executable).with_name(name))


def _table(ring: LocalRing) -> Table:
    rows = table("node", "runs", "client HTTP", "admin HTTP", ">pid")
    for node in ring.nodes.values():
        alive, process = node.alive, node.process
        runs = Text("yes", "green") if alive else Text("no", "red" if process else "")
        pid = str(process.pid) if process and alive else "-"
        rows.add_row(node.name, runs, node.endpoint, node.admin, pid)
    return rows


def _document(ring: LocalRing) -> list[dict[str, Any]]:
    return [
        {
            "name": node.name,
            "running": node.alive,
            "pid": process.pid if process else None,
            "endpoint": node.endpoint,
            "admin": node.admin,
            "peer": node.advertise,
        }
        for node in ring.nodes.values()
        for process in [node.process]
    ]


def _watch(
    session: Session, directory: Path, ran: dict[str, Process], console: LocalConsole | None
) -> None:
    """Shows warnings and errors of the logs, and ended nodes, until all have been stopped."""
    ring = LocalRing(directory)
    read = {node.name: _size(node.log) for node in ring.nodes.values()}
    while ran or any(node.process for node in ring.nodes.values()):
        time.sleep(WATCH_S)
        ring = LocalRing(directory)  # another shell may have added a node
        if console is not None:
            console.follow(ring)
        for node in ring.nodes.values():
            begin = read.get(node.name, 0)
            for level, words in _news(node, begin):
                session.say(f"{node.name:<4} {words}", LOUD.get(level, "dim"))
            read[node.name] = _size(node.log)
        running = _processes(ring)
        for name in sorted(ran.keys() - running.keys()):
            ran[name].end()  # its files are removed, so no other command can end it
            if there := ring.nodes.get(name):
                clean = there.process is None or there.last_words() == CLEAN
                words = "stopped" if clean else f"ended; {of(directory, f'start {name}')} starts it"
            else:
                clean, words = True, f"stopped, and its directory in {directory}/ is removed"
            session.say(f"{name:<4} has {words}", "dim" if clean else "red")
        ran = running


def _size(log: Path) -> int:
    with suppress(FileNotFoundError):
        return log.stat().st_size
    return 0


def _processes(ring: LocalRing) -> dict[str, Process]:
    found = ((node.name, node.process) for node in ring.nodes.values())
    return {name: process for name, process in found if process and process.alive}


def _news(node: LocalNode, begin: int) -> Iterator[tuple[str, str]]:
    with suppress(FileNotFoundError), node.log.open("rb") as log:
        log.seek(begin)
        for line in log.read().decode("utf-8", "replace").splitlines():
            level, words = said(line)
            if (level in LOUD or words.startswith(NEWS)) and not words.startswith(EXPECTED):
                yield level, words


@commands.command()
def down(ctx: typer.Context, directory: Directory = LOCAL_DIR) -> None:
    """Stop all nodes cleanly; their data stays."""
    session: Session = ctx.obj
    ring = LocalRing(directory)
    names = [node.name for node in ring.running]
    ring.stop()
    session.show({"stopped": names}, f"stopped: {', '.join(names) or 'none ran'}")


@commands.command()
def status(ctx: typer.Context, directory: Directory = LOCAL_DIR) -> None:
    """Show the nodes of the directory and whether they run."""
    ring = LocalRing(directory)
    ctx.obj.show(_document(ring), _table(ring))


@commands.command()
def add(
    ctx: typer.Context,
    directory: Directory = LOCAL_DIR,
    unjoined: Annotated[bool, typer.Option("--unjoined", help="Do not join the ring.")] = False,
) -> None:
    """Start one more node and take it into the ring."""
    session: Session = ctx.obj
    ring = LocalRing(directory)
    if not ring.nodes:
        raise LocalFault(f"{directory} has no nodes; {of(directory, 'up')} makes them", "--dir")
    others = _without(session, ring)
    node = ring.add()
    certify(ring)
    try:
        ring.start([node])
    except BaseException:
        ring.drop(node)
        raise
    where = {"name": node.name, "endpoint": node.endpoint, "admin": node.admin}
    words = f"{node.name} runs at {node.endpoint}, admin {node.admin}"
    if unjoined:
        session.show(where, f"{words}, not joined: it holds no partition and answers 503")
        return
    if not session.as_json:
        session.say(words)
    change(others, {"join": [{"name": node.name, "address": node.advertise}]}, yes=True)


@commands.command()
def leave(ctx: typer.Context, name: Name, directory: Directory = LOCAL_DIR) -> None:
    """Let a node leave the ring, then stop it and remove its directory."""
    session: Session = ctx.obj
    ring = LocalRing(directory)
    node = ring.node(name)
    if name in ring.members():
        change(_without(session, ring, name), {"leave": [name]}, yes=True)
    ring.drop(node)
    if not session.as_json:
        session.say(f"{name} has left and is stopped")


def _without(session: Session, ring: LocalRing, but: str = "") -> Session:
    """The session with the nodes of this directory as administrators, without `but`."""
    urls = [node.admin for node in ring.running if node.name != but]
    options = () if ring.directory == LOCAL_DIR else tuple(f"--admin={url}" for url in urls)
    if options and ring.secret_file:
        options += (f"--secret-file={Path(ring.secret_file).resolve()}",)
    if options and ring.certs:
        options += (f"--ca-file={(ring.certs / 'ca.crt').resolve()}",)
    admins, tls = urls or session.admins, next(iter(ring.nodes.values())).tls
    return dataclasses.replace(session, admins=admins, token=ring.token, options=options, tls=tls)


@commands.command()
def kill(ctx: typer.Context, name: Running, directory: Directory = LOCAL_DIR) -> None:
    """Kill a node, like a power cut (SIGKILL)."""
    session: Session = ctx.obj
    node = LocalRing(directory).node(name)
    if not node.alive:
        raise LocalFault(f"{name} does not run", "NAME")
    node.kill()
    session.show(
        {"killed": name}, f"{name} is killed; {of(directory, f'start {name}')} brings it back"
    )


@commands.command()
def start(ctx: typer.Context, name: Stopped, directory: Directory = LOCAL_DIR) -> None:
    """Start a stopped node on its data."""
    session: Session = ctx.obj
    ring = LocalRing(directory)
    node = ring.node(name)
    if node.alive:
        raise LocalFault(f"{name} runs already", "NAME")
    ring.start([node])
    if name in ring.members():
        until(node.ready, f"{name} is not ready; its log is {node.log}")
    session.show({"started": name}, f"{name} runs at {node.endpoint}")
