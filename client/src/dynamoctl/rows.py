"""Rows of an import file: how each format gives keys and values, line by line.

    ndjson   the format of `export`: {"key_text": ..., "values": [{"data": base64, ...}]}
    jsonl    one JSON object in each line, any fields
    json     one JSON array of objects
    csv      a header, then rows

In all but the first, the key is one field, and the value is another field or the whole object. A
third field may have the time at which the value expires, in RFC 3339; null or an empty field means
never.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple

import msgspec

from dynamo_client.errors import BadParameter
from dynamo_client.expiry import time_of

FORMATS = ("ndjson", "jsonl", "json", "csv")
OCTETS = "application/octet-stream"
BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
JSON_BYTES_MAX = 1 << 30
"""A JSON array is read as a whole."""
_encode = msgspec.json.Encoder(order="deterministic").encode


class Value(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One version of a key; data is base64 in JSON."""

    data: bytes
    content_type: str = OCTETS
    expires_at: str | None = None
    """RFC 3339, None for never (S-TTL-2)."""
    content_encoding: str = ""

    def __post_init__(self) -> None:
        if self.expires_at is not None:
            time_of(self.expires_at)

    @property
    def ends(self) -> datetime | None:
        """The time at which it expires, None for never."""
        return None if self.expires_at is None else time_of(self.expires_at)


class Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One key with all its siblings, the key in one of two forms."""

    key: bytes | None = None
    key_text: str | None = None
    values: list[Value]


class Row(NamedTuple):
    """One line or object of the file: a key with its values, or `wrong`, why it is not valid.
    `line` counts them from 1. `offset` is where the next one begins, 0 if the format does not tell;
    a blank line has neither a key nor a fault."""

    line: int
    raw: bytes
    offset: int = 0
    key: bytes = b""
    values: tuple[Value, ...] = ()
    wrong: str = ""


class Fields(NamedTuple):
    """How rows are read: the format, the field of the key, the field of the value ("": all), and
    the field of the time of expiry ("": none)."""

    format: str = "ndjson"
    key: str = ""
    value: str = ""
    expires_at: str = ""

    def checked(self) -> Fields:
        """Checks them. Raises BadParameter that names the option."""
        if self.format not in FORMATS:
            raise BadParameter(f"--format: one of {', '.join(FORMATS)}")
        if self.format == "ndjson" and (self.key or self.value or self.expires_at):
            raise BadParameter("--key: ndjson has fixed fields; give --format")
        if self.format != "ndjson" and not self.key:
            raise BadParameter(f"--key: {self.format} needs the field with the key")
        return self


def unpacked(file: BinaryIO) -> BinaryIO:
    """The file, through gzip if its first bytes are gzip's; `file` must be able to peek."""
    head = file.peek(2)[:2]  # type: ignore[attr-defined]
    return gzip.open(file) if head == GZIP_MAGIC else file  # type: ignore[return-value]


def rows(file: BinaryIO, fields: Fields, offset: int, skipped: int) -> Iterator[Row]:
    """All rows behind `offset`, the first of them after `skipped` others. Raises BadParameter if
    the file as a whole is not of its format."""
    if fields.format == "csv":
        yield from _csv(file, fields, skipped)
    elif fields.format == "json":
        yield from _array(file, fields, skipped)
    else:
        yield from _lines(file, fields, offset, skipped)


def _lines(file: BinaryIO, fields: Fields, offset: int, skipped: int) -> Iterator[Row]:
    for line, raw in enumerate(file, skipped + 1):
        start, offset = offset, offset + len(raw)
        text = (raw.removeprefix(BOM) if not start else raw).strip()
        row = Row(line, raw, offset)
        if not text:
            yield row
        elif fields.format == "ndjson":
            yield _of_ours(row, text)
        else:
            yield _of_json(row, text, fields)


def _of_ours(row: Row, text: bytes) -> Row:
    try:
        line = msgspec.json.decode(text, type=Line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return row._replace(wrong=str(error))
    key = line.key or (line.key_text or "").encode()
    if not key or (line.key and line.key_text):
        return row._replace(wrong="needs one of key, key_text")
    return row._replace(key=key, values=tuple(line.values))


def _of_json(row: Row, text: bytes, fields: Fields) -> Row:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return row._replace(wrong=str(error))
    return _of_object(row, found, fields)


def _of_object(row: Row, found: Any, fields: Fields) -> Row:
    if not isinstance(found, dict):
        return row._replace(wrong=f"needs an object, not {type(found).__name__}")
    for name in filter(None, fields[1:]):
        if name not in found:
            return row._replace(wrong=f"{name}: no such field")
    key = found[fields.key]
    if isinstance(key, bool) or not isinstance(key, str | int) or key == "":
        return row._replace(wrong=f"{fields.key}: the key must be text or a whole number")
    held = found[fields.value] if fields.value else found
    until = found[fields.expires_at] if fields.expires_at else None
    until = None if until == "" else until
    try:
        if isinstance(held, str):
            value = Value(held.encode(), "text/plain; charset=utf-8", until)
        else:
            value = Value(_encode(held), "application/json", until)
    except (TypeError, ValueError) as error:
        return row._replace(wrong=f"{fields.expires_at}: {error}")
    return row._replace(key=str(key).encode(), values=(value,))


def _array(file: BinaryIO, fields: Fields, skipped: int) -> Iterator[Row]:
    data = file.read(JSON_BYTES_MAX + 1)
    if len(data) > JSON_BYTES_MAX:
        raise BadParameter(f"FILE: a JSON array of more than {JSON_BYTES_MAX} bytes; use jsonl")
    try:
        found = msgspec.json.decode(data.removeprefix(BOM), type=list[msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadParameter(f"FILE: not a JSON array: {error}") from None
    for at, raw in enumerate(found[skipped:], skipped + 1):
        text = bytes(raw)
        yield _of_json(Row(at, text + b"\n"), text, fields)


def _csv(file: BinaryIO, fields: Fields, skipped: int) -> Iterator[Row]:
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        reader = csv.DictReader(text, strict=True)
        for name in filter(None, fields[1:]):
            if name not in (reader.fieldnames or ()):
                raise BadParameter(f"FILE: the header has no column {name}")
        for at, found in enumerate(reader, 1):
            if at > skipped:
                yield _of_csv(at, found, fields)
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadParameter(f"FILE: not CSV in UTF-8: {error}") from None
    finally:
        text.detach()


def _of_csv(at: int, found: dict[str | None, Any], fields: Fields) -> Row:
    back = io.StringIO()
    csv.writer(back).writerow(value for value in found.values() if isinstance(value, str))
    row = Row(at, back.getvalue().encode())
    if None in found or None in found.values():
        return row._replace(wrong="not as many columns as the header has")
    return _of_object(row, found, fields)
