"""The files of `/docs`, a viewer of the OpenAPI document: served without a token, as they hold no
data. The page asks for a token where the node does, and fetches `/openapi.json` with it.

They load nothing from elsewhere, and the policy in their headers keeps browsers from it.
`node/viewer/vendor` brings the viewer (Swagger UI) into the package, packed by gzip.
"""

from __future__ import annotations

from functools import cache
from gzip import decompress
from pathlib import Path

from starlette.responses import Response

PLACE = "/docs"
_FILES = Path(__file__).parent / "viewer"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
"""Pictures are data in the style sheet of the viewer."""


@cache
def _files() -> dict[str, tuple[str, bool, bytes]]:
    """By path: the type, whether it is packed, the bytes."""
    found = {}
    for path in _FILES.iterdir():
        packed = path.suffix == ".gz"
        name = path.name.removesuffix(".gz")
        kind = _TYPES.get(Path(name).suffix)
        if kind is not None:
            found[f"{PLACE}/{name}"] = (kind, packed, path.read_bytes())
    found[PLACE] = found.pop(f"{PLACE}/index.html")
    return found


def viewer_file(method: str, path: str, accepts: bytes) -> Response | None:
    """The file of that path; None where there is none. `accepts` is the Accept-Encoding field."""
    if method not in ("GET", "HEAD") or path not in _files():
        return None
    kind, packed, body = _files()[path]
    headers = dict(HEADERS)
    if packed and b"gzip" in accepts:
        headers["Content-Encoding"] = "gzip"
    elif packed:
        body = decompress(body)
    return Response(body, 200, headers, kind)
