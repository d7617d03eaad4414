"""The console's files (docs/console.md): the node reads them once at its start and serves them to
everyone, because they hold no data. The policy in their headers keeps browsers from loading
anything from elsewhere.
"""

from __future__ import annotations

from gzip import compress
from pathlib import Path

from starlette.responses import Response

ROOT = Path(__file__).parent / "console"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
CONSOLE = "/console"


class ConsoleFiles:
    """Every file of the console, by its path."""

    def __init__(self) -> None:
        self._files = {
            f"{CONSOLE}/{path.relative_to(ROOT).as_posix()}": (
                TYPES[path.suffix],
                _plain_packed(path),
            )
            for path in sorted(ROOT.rglob("*"))
            if path.suffix in TYPES
        }
        index = self._files[f"{CONSOLE}/index.html"]
        self._files[CONSOLE] = self._files[f"{CONSOLE}/"] = index

    def answer(self, path: str, method: str, accepts: bytes) -> Response | None:
        """The file of that path, gzipped if the client accepts that; None if there is none."""
        if path not in self._files or method not in ("GET", "HEAD"):
            return None
        kind, (plain, packed) = self._files[path]
        if b"gzip" in accepts:
            return Response(packed, 200, HEADERS | {"Content-Encoding": "gzip"}, kind)
        return Response(plain, 200, HEADERS, kind)


def _plain_packed(path: Path) -> tuple[bytes, bytes]:
    """A file's bytes, as they are and gzipped."""
    plain = path.read_bytes()
    return plain, compress(plain, 9, mtime=0)
