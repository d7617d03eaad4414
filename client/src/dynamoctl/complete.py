"""Shell completion: keys of the ring, names of its nodes, flags of a node.

A shell puts an offered word into its command line, and some shells evaluate it. So a key is offered
only if every shell reads it as one plain word. Everything is bounded: if the ring is silent for
ANSWER_S_MAX, nothing is offered. No error is printed into the prompt.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from dynamo_client import AdminClient, ClientError
from dynamoctl.credentials import Credentials
from dynamoctl.session import LOCAL_DIR, Failed, Session, shown_key, text_of
from dynamoctl.whom import session_of

ANSWER_S_MAX = 0.8
"""Time limit of the ring's answer, with look-ups of hosts."""
KEYS_OFFERED_MAX = 100
PLAIN = re.compile(r"[\w/:@+.,][\w/:@+.,=%-]*")
"""Words that every shell reads as one word without quotes."""
NODE_FLAGS = (
    "--access-file", "--admin-advertise", "--admin-tls", "--anti-entropy",
    "--backup-identity-file", "--backup-recipients", "--backup-targets", "--canaries-per-minute",
    "--client-advertise", "--client-tls", "--cluster", "--cluster-secret-file", "--copy-of",
    "--delay-samples-per-minute", "--engine",
    "--exchange-ms", "--exchanges-max", "--fsync-stall-ms", "--heartbeat-ms", "--hedge-ms",
    "--hint-bytes-max", "--history-bytes-max", "--history-one-in", "--history-prefixes",
    "--http-front", "--in-flight-max", "--insecure", "--jwks-file",
    "--latency-threshold-ms", "--log-level", "--memtable-bytes", "--moves-max", "--otel-endpoint",
    "--peer-arriving-bytes-max", "--peer-protocol-min", "--peer-tls", "--peer-waiting-bytes-max",
    "--replace-lost", "--siblings-max", "--slow-request-ms", "--suspect-ms", "--tls-ca-file",
    "--tls-cert-file", "--tls-key-file", "--token-audience", "--token-issuer",
    "--tombstone-age-min-s", "--value-bytes-max", "--weight", "--zone",
)  # fmt: skip
"""Flags of dynamo-node, without those that `local` sets for each node."""


def in_time(found: Iterator[str], seconds: float = ANSWER_S_MAX) -> list[str]:
    """What an iterator yields in time; an error ends it."""
    offered: list[str] = []

    def run() -> None:
        try:
            for one in found:
                offered.append(one)  # noqa: PERF402  (the other thread sees each one at once)
        except (ClientError, Failed, RuntimeError, OSError):
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return list(offered)


def _session(ctx: typer.Context) -> Session:
    """The session for the options before the word. Raises Failed."""
    given: dict[str, Any] = ctx.find_root().params
    endpoints, admins = (list(given.get(name) or ()) for name in ("endpoint", "admin"))
    names = ("token_file", "secret_file", "ca_file", "cert", "key", "client_token_file")
    files = (Path(given[name]) if given.get(name) else None for name in names)
    return session_of(endpoints, admins, Credentials(*files), as_json=False)


def _admins(ctx: typer.Context) -> Iterator[AdminClient]:
    session = _session(ctx)
    for url in session.admins:
        with AdminClient(url, session.token, timeout_s=ANSWER_S_MAX, tls=session.tls) as admin:
            yield admin


def _first(ctx: typer.Context, ask: Callable[[AdminClient], Iterator[str]]) -> Iterator[str]:
    """The answer of the first node that answers."""
    for admin in _admins(ctx):
        try:
            yield from ask(admin)
        except ClientError:
            continue
        return


def keys(ctx: typer.Context, incomplete: str) -> list[str]:
    """Live keys that begin with the word, the first ones of a walk through the ring."""
    coded = bool(ctx.params.get("is_base64"))

    def ask(admin: AdminClient) -> Iterator[str]:
        count = 0
        for key in admin.keys():  # noqa: SIM118  (no dictionary)
            word = base64.b64encode(key).decode() if coded else shown_key(key)
            plain = coded or (word == text_of(key) and PLAIN.fullmatch(word))
            if plain and word.startswith(incomplete):
                yield word
                count += 1
            if count == KEYS_OFFERED_MAX:
                return

    return in_time(_first(ctx, ask))


def _members(ctx: typer.Context) -> Iterator[dict[str, Any]]:
    for admin in _admins(ctx):
        try:
            ring = admin.ring()
        except ClientError:
            continue
        yield from (member for member in ring["members"] if member["state"] != "LEFT")
        return


def nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of members without those already given; also the last name of a comma list."""
    head, comma, _ = incomplete.rpartition(",")
    there = {*(ctx.params.get("names") or ()), *head.split(",")}
    names = (member["name"] for member in _members(ctx))
    return in_time(head + comma + name for name in names if name not in there)


def weighed(ctx: typer.Context, incomplete: str) -> list[str]:
    """Members with their present weights."""
    return in_time(f"{member['name']}={member['weight']}" for member in _members(ctx))


def _local(ctx: typer.Context, alive: bool | None) -> list[str]:
    from dynamo_client.local_nodes import LocalRing

    def found() -> Iterator[str]:
        for node in LocalRing(Path(ctx.params.get("directory") or LOCAL_DIR)).nodes.values():
            if alive is None or node.alive is alive:
                yield node.name

    return in_time(found())


def local_any(ctx: typer.Context, incomplete: str) -> list[str]:
    """Nodes of `--dir`."""
    return _local(ctx, None)


def local_running(ctx: typer.Context, incomplete: str) -> list[str]:
    """Nodes of `--dir` that run."""
    return _local(ctx, True)


def local_stopped(ctx: typer.Context, incomplete: str) -> list[str]:
    """Nodes of `--dir` that do not run."""
    return _local(ctx, False)


def node_flags(ctx: typer.Context, incomplete: str) -> list[str]:
    """The flags that `local up` passes to the nodes of a new directory."""
    return list(NODE_FLAGS)


def bash_words(said: str, at: int) -> tuple[list[str], int, str]:
    """The words of a command line as a user sees them, the index of the word that is typed, and the
    part of it that bash keeps. Bash splits words at `:` and `=`, so that `cart:1` becomes three
    words, and replaces only the last by the offer."""
    raw = said.split("\n")
    joined: list[str] = []
    open_end = False
    for word in raw[: at + 1]:
        breaks = bool(word) and not word.strip(":=")
        if joined and (open_end or breaks) and len(joined) > 1:
            joined[-1] += word
        else:
            joined.append(word)
        open_end = breaks
    typed = joined[-1]
    kept = typed[: max(typed.rfind(":"), typed.rfind("=")) + 1]
    return joined, len(joined) - 1, kept
