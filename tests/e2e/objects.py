"""An object store in memory for the stories, in a pod of the node's image: as much of S3 as small
rings use.

It checks no signature, and takes no object in several parts. `tests/dynamo_archive` has a real S3
server; what counts here is that archives lie outside of the ring's namespace.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

PAGE = 1000
HEAD = '<?xml version="1.0" encoding="UTF-8"?>'
objects: dict[str, bytes] = {}
lock = Lock()


class Handler(BaseHTTPRequestHandler):
    """PUT, GET and HEAD of objects, deletions of several, and lists of a bucket, page by page."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """Keeps an object whole."""
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        with lock:
            objects[self._name()] = data
        self._answer(200, b"")

    def do_GET(self) -> None:
        """An object, or a page of names."""
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query)
            return
        with lock:
            data = objects.get(self._name())
        if data is None:
            self._answer(404, f"{HEAD}<Error><Code>NoSuchKey</Code></Error>".encode())
        else:
            self._answer(200, data)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Deletes named objects; what is not there is no error."""
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        bucket = self._name().rstrip("/")
        names = [each.text for each in ElementTree.fromstring(data).iter() if _is_key(each)]
        with lock:
            for name in names:
                objects.pop(f"{bucket}/{name}", None)
        said = "".join(f"<Deleted><Key>{escape(str(n))}</Key></Deleted>" for n in names)
        self._answer(200, f"{HEAD}<DeleteResult>{said}</DeleteResult>".encode())

    def _name(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/")

    def _list(self, query: dict[str, list[str]]) -> None:
        bucket = self._name().rstrip("/")
        begin = f"{bucket}/{query.get('prefix', [''])[0]}"
        after = query.get("continuation-token", [""])[0]
        with lock:
            found = sorted(name for name in objects if name.startswith(begin) and name > after)
            sizes = {name: len(objects[name]) for name in found[:PAGE]}
        lines = [
            f"<Contents><Key>{escape(name[len(bucket) + 1 :])}</Key><Size>{size}</Size>"
            '<ETag>"x"</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>'
            for name, size in sizes.items()
        ]
        more = len(found) > PAGE
        last = escape(found[PAGE - 1]) if more else ""
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if more else ""
        body = f"{HEAD}<ListBucketResult><Name>{bucket}</Name><IsTruncated>{str(more).lower()}"
        body += f"</IsTruncated>{token}{''.join(lines)}</ListBucketResult>"
        self._answer(200, body.encode())

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Says nothing."""


def _is_key(element: ElementTree.Element) -> bool:
    return element.tag.rpartition("}")[2] == "Key"


if __name__ == "__main__":
    print("ready", flush=True)
    ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
