"""The console of the nodes of one directory, at one address of loopback, with the what-if page.

    /console, /v1/...    goes on to the admin listener of a node that runs, as it is
    /node/n2/v1/...      goes on to the admin listener of this node
    /what-if             the faults of `local_faults`; POST makes one

A page that looks at the ring through one node would go blind when this node is killed. This door
stores no data. Faults need a token that only this page can read: the door answers
`GET /what-if` only to its own origin, and where the ring has a secret only with the administrators'
token.
"""

from __future__ import annotations

import json
from contextlib import suppress
from hmac import compare_digest
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from threading import Thread
from typing import Any

import msgspec

from dynamo_client.errors import ClientError
from dynamo_client.local_fault import LocalFault
from dynamo_client.local_faults import LocalFaults, Wanted
from dynamo_client.local_links import LocalLinks
from dynamo_client.local_nodes import LocalNode, LocalRing
from dynamo_client.local_ports import console_port, link_port

WHAT_IF = "/what-if"
NODE = "/node/"
TOKEN_HEADER = "Dynamo-What-If"
BODY_BYTES_MAX = 1024 * 1024
PIECE_BYTES = 64 * 1024
ANSWER_S_MAX = 40.0
"""A node that is silent for longer has not answered; a stream says something every 10 seconds."""
PASSED_ON = (
    "accept", "accept-encoding", "authorization", "content-type", "dynamo-context", "last-event-id",
    "origin", "sec-fetch-site",
)  # fmt: skip
OF_THE_LINK = ("connection", "date", "keep-alive", "server", "transfer-encoding")
"""Fields of an answer that are not for the page."""


class LocalDoor:
    """One HTTP server on loopback for the ring in a directory."""

    def __init__(self, faults: LocalFaults, port: int) -> None:
        """Listens at once. Raises LocalFault if it cannot."""
        self.faults = faults
        self.directory = faults.directory
        self.token = token_urlsafe(24)
        door = self

        class Handler(_Handler):
            """Requests of this door."""

        Handler.door = door
        try:
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        except OSError as error:
            reason = f"127.0.0.1:{port} cannot be used: {error.strerror}"
            raise LocalFault(reason, "--base-port") from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = Thread(target=self._server.serve_forever, name="door", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the server; requests under way end with the process."""
        self._server.shutdown()
        self._server.server_close()

    def nodes(self, name: str = "") -> list[LocalNode]:
        """The nodes that may answer: the named one, or all that run and are not frozen."""
        running = LocalRing(self.directory).running
        if name:
            return [node for node in running if node.name == name]
        return [node for node in running if not self.faults.asleep(node.name)]


class LocalConsole:
    """The door, the faults and the proxies of a ring, while one process holds them."""

    def __init__(self, ring: LocalRing) -> None:
        """Before the nodes start: from now on they dial each other through proxies, unless they
        use TLS, which hides from a proxy which node speaks. Raises LocalFault."""
        self._links = None if ring.certs else LocalLinks()
        self._faults = LocalFaults(ring.directory, self._links)
        try:
            ring.link(self._links is not None)
            self.follow(ring)
            first = next(iter(ring.nodes.values()))
            self._door = LocalDoor(self._faults, console_port(first.ports))
        except BaseException:
            if self._links is not None:
                self._links.stop()
            raise
        self.url = f"{self._door.url}/console"

    def follow(self, ring: LocalRing) -> None:
        """Another shell may have added or dropped a node. Raises LocalFault."""
        if self._links is not None:
            ports = {name: node.ports for name, node in ring.nodes.items()}
            self._links.lead({n: (link_port(each), each["peer"]) for n, each in ports.items()})

    def release(self) -> None:
        """Lets all processes run freely, so that they can be stopped."""
        self._faults.release()

    def stop(self) -> None:
        """Closes everything."""
        self._door.stop()
        if self._links is not None:
            self._links.stop()


class _Handler(BaseHTTPRequestHandler):
    door: LocalDoor
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dynamoctl", ""

    def do_GET(self) -> None:
        """Any request."""
        with suppress(BrokenPipeError, ConnectionResetError, TimeoutError):
            self._answer()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def log_message(self, *args: Any) -> None:
        """Requests are not logged."""

    def _answer(self) -> None:
        own = {f"127.0.0.1:{self.door.port}", f"localhost:{self.door.port}"}
        if self.headers.get("host", "") not in own:
            self._problem(421, f"host: this is the console at {self.door.url}/console")
            return
        from_own = self.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        origin = self.headers.get("origin")
        if not from_own or (origin and origin.removeprefix("http://") not in own):
            self._problem(403, "origin: a page of another site may not ask")
            return
        length = self.headers.get("content-length", "0")
        if not length.isdigit() or "transfer-encoding" in self.headers:
            self.close_connection = True
            self._problem(411, "content-length: required")
            return
        if int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            self._problem(413, f"body: at most {BODY_BYTES_MAX} bytes")
            return
        body = self.rfile.read(int(length))
        if self.path == "/":
            self._send(302, b"", {"Location": "/console"})
        elif self.path == WHAT_IF:
            self._what_if(body)
        elif self.path.startswith(NODE):
            name, _, path = self.path.removeprefix(NODE).partition("/")
            self._pass_on("/" + path, body, self.door.nodes(name))
        else:
            self._pass_on(self.path, body, self.door.nodes())

    def _what_if(self, body: bytes) -> None:
        """The state of faults with the token, or one fault."""
        faults = self.door.faults
        try:
            if self.command == "GET":
                admins = LocalRing(self.door.directory).admin_tokens
                shown = self.headers.get("authorization", "")
                if admins and not any(_same(shown, f"Bearer {admin}") for admin in admins):
                    self._problem(401, "authorization: needs the token of administrators")
                    return
                self._document(200, {**faults.state(), "token": self.door.token})
            elif self.command != "POST":
                self._problem(405, "GET shows the faults, POST makes one")
            elif not _same(self.headers.get(TOKEN_HEADER, ""), self.door.token):
                self._problem(403, f"{TOKEN_HEADER.lower()}: needs the token of the page")
            else:
                faults.do(msgspec.json.decode(body, type=Wanted))
                self._document(200, faults.state())
        except msgspec.MsgspecError as error:
            self._problem(400, f"body: {error}")
        except LocalFault as error:
            self._problem(400, f"{error.field}: {error}" if error.field else str(error))
        except (RuntimeError, OSError, ClientError) as error:
            self._problem(500, str(error))

    def _pass_on(self, path: str, body: bytes, nodes: list[LocalNode]) -> None:
        """Sends the request to the first of these nodes that takes it, and its answer back."""
        for node in nodes:
            link = _connection(node)
            try:
                link.request(self.command, path, body or None, self._fields(node))
                answer = link.getresponse()
            except (OSError, HTTPException):
                link.close()
                if self.command in ("GET", "HEAD"):
                    continue
                break  # the node may have done it: only the page may try again
            try:
                self._copy(answer)
            except HTTPException:
                self.close_connection = True
            finally:
                link.close()
            return
        self._problem(502, "no node of this directory answers")

    def _fields(self, node: LocalNode) -> dict[str, str]:
        fields = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        if "origin" in fields:  # checked here: a node compares it with its own address
            fields["origin"] = node.admin
        return fields

    def _copy(self, answer: HTTPResponse) -> None:
        """The answer of a node, piece by piece, as a stream of events needs it."""
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in OF_THE_LINK:
                self.send_header(name, value)
        bodiless = self.command == "HEAD" or answer.status in (204, 304)
        if answer.getheader("content-length") is None and not bodiless:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        while not bodiless and (piece := answer.read1(PIECE_BYTES)):
            self.wfile.write(piece)
            self.wfile.flush()

    def _document(self, status: int, document: dict[str, Any]) -> None:
        fields = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        self._send(status, json.dumps(document).encode(), fields)

    def _problem(self, status: int, detail: str) -> None:
        words = {"type": "about:blank", "status": status, "title": detail, "detail": detail}
        fields = {"Content-Type": "application/problem+json"}
        self._send(status, json.dumps(words).encode(), fields)

    def _send(self, status: int, body: bytes, fields: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _same(one: str, other: str) -> bool:
    return compare_digest(one.encode(), other.encode())


def _connection(node: LocalNode) -> HTTPConnection:
    where = ("127.0.0.1", node.ports["admin"])
    if node.certs:
        return HTTPSConnection(*where, timeout=ANSWER_S_MAX, context=node.tls.context())
    return HTTPConnection(*where, timeout=ANSWER_S_MAX)
