"""The console's files: read once at the start, served without a token, as they hold no data.

They load nothing from elsewhere, and the policy in their headers keeps browsers from it.
"""

from __future__ import annotations

from gzip import compress
from pathlib import Path

from starlette.responses import Response

ROOT = Path(__file__).parent / "console"
TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache", "Cross-Origin-Opener-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}  # fmt: skip


class ConsoleFiles:
    """Every file of the console by its path."""

    def __init__(self) -> None:
        self._files = {
            "/console/" + path.relative_to(ROOT).as_posix(): (TYPES[path.suffix], path.read_bytes())
            for path in sorted(ROOT.rglob("*"))
            if path.suffix in TYPES
        }
        self._files["/console"] = self._files["/console/"] = self._files["/console/index.html"]
        self._packed: dict[str, bytes] = {}

    def answer(self, path: str, method: str, accepts: bytes) -> Response | None:
        """The file of that path, packed for who takes that; None when there is none."""
        if path not in self._files or method not in ("GET", "HEAD"):
            return None
        kind, body = self._files[path]
        headers = dict(HEADERS)
        if b"gzip" in accepts:
            if path not in self._packed:
                self._packed[path] = compress(body, 9, mtime=0)
            body = self._packed[path]
            headers["Content-Encoding"] = "gzip"
        return Response(body, 200, headers, kind)
