"""Which URLs are those of archives, and to which of them a node may write.

A person who may ask a node for a backup must not be able to write to any file of the node. So a
node writes only to URLs that begin with one of its setting `backup_targets`, segment by segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

STORES = ("s3://", "gs://", "az://")
"""Object stores: their credentials say what a node may write there."""
SCHEMES = ("file://", *STORES)


def url_fault(url: str) -> str:
    """What is wrong with the URL of an archive, "" when nothing is."""
    if not url.startswith(SCHEMES):
        return f"{url!r}: wants {', '.join(SCHEMES)}"
    plain = unquote(url)
    if not plain.isprintable():
        return f"{url!r}: characters that do not print"
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:
        return "credentials belong into the environment, not into the URL"
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        return f"{url!r}: wants file:///DIRECTORY"
    if {".", ".."}.intersection(plain.split("/")):
        return f"{url!r}: a path without . and .."
    return ""


def archive_fault(url: str, allowed: Sequence[str]) -> str:
    """Why a node with these `backup_targets` refuses the archive, "" if it may read and write
    there."""
    if fault := url_fault(url):
        return fault
    place = _segments(url)
    if any(place[: len(begin)] == begin for begin in map(_segments, allowed)):
        return ""
    return f"{url!r}: not among this node's backup_targets, {', '.join(allowed) or 'none'}"


def _segments(url: str) -> list[str]:
    return [segment for segment in unquote(url).split("/") if segment]
