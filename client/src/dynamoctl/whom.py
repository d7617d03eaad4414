"""Which nodes a command asks by default: the ring of `.local/` if it runs, else usual ports."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from dynamo_client.tls import SYSTEM
from dynamoctl.credentials import Credentials
from dynamoctl.session import ADMIN_PORT, DEFAULT_ENDPOINT, LOCAL_DIR, USAGE, Failed, Session


def session_of(
    endpoints: list[str], admins: list[str], credentials: Credentials, as_json: bool
) -> Session:
    """Completes the options: the ring of `.local/` if it runs, else the usual ports."""
    token, tls, shown = credentials.token(), credentials.tls(), credentials
    local, named = [], bool(endpoints or admins)
    if not (endpoints and admins) and (LOCAL_DIR / "nodes.json").exists():
        from dynamo_client.local_nodes import LocalRing

        ring = LocalRing(LOCAL_DIR)
        local = ring.running
        if local and not endpoints and token is None:
            token = ring.token
        if local and not endpoints and credentials.client_token_file is None:
            shown = replace(credentials, client_token_file=ring.client_token_file)
        if local and not (endpoints or admins) and tls == SYSTEM:
            tls = local[0].tls
    if not endpoints:
        admins = admins or [node.admin for node in local]
        endpoints = [node.endpoint for node in local] or [DEFAULT_ENDPOINT]
    beside = [_beside(url, "--endpoint") for url in endpoints]
    for url in admins:
        _beside(url, "--admin")
    known = {node.endpoint: node.admin for node in local}
    admins = admins or [known.get(u.rstrip("/"), b) for u, b in zip(endpoints, beside, strict=True)]
    options = [] if local and not named else [f"--admin={url}" for url in admins]
    options += credentials.options()
    urls = [url.rstrip("/") for url in endpoints]
    made = Session(urls, admins, token, as_json, options=tuple(options), tls=tls)
    made.client_token = shown.client_token()
    return made


def _beside(url: str, field: str) -> str:
    """The URL of the usual admin port on the same host. Raises Failed if it is no such URL."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise Failed(f"{url!r} is not a URL like http://host:port", USAGE, field)
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{ADMIN_PORT}"
