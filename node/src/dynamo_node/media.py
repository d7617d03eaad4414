"""The content type and the content encoding of a value, in one word.

A version keeps both in its one field `content_type`: only the type, or the type, a tab and the
encoding. So the digest of the record covers the encoding, the encoding goes wherever the record
goes, and a node of an earlier version passes it on without knowing it (C17). No client can send
such a word as a type, because a type with a tab is refused. See decision 14.
"""

from __future__ import annotations

import re

from dynamo_node.problems import bad_parameter

OCTETS = "application/octet-stream"
"""The content type of a value whose client has given none."""
JSON = b"application/json"
CONTENT_TYPE_CHARS_MAX = 256
CONTENT_ENCODING_CHARS_MAX = 64
_TAB = "\t"
_PRINTABLE = re.compile(r"[ -~]*")
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_CODINGS = re.compile(rf"{_TOKEN}( *, *{_TOKEN})*")


def media_of(content_type: bytes) -> bytes:
    """The type that a body is said to be, without parameters."""
    return content_type.partition(b";")[0].strip().lower()


def word_of(field: str, text: str, chars_max: int) -> str:
    """Text that is stored and later shown in headers. Raises Problem."""
    if len(text) > chars_max or not _PRINTABLE.fullmatch(text):
        raise bad_parameter(field, f"at most {chars_max} printable ASCII characters")
    return text


def kept_word(fields: tuple[str, str], content_type: str, content_encoding: str) -> str:
    """Both, in the form in which a version keeps them; `fields` are their names in the request.
    Raises Problem that names the field."""
    kind = word_of(fields[0], content_type, CONTENT_TYPE_CHARS_MAX)
    if not content_encoding:
        return kind
    if len(content_encoding) > CONTENT_ENCODING_CHARS_MAX or not _CODINGS.fullmatch(
        content_encoding
    ):
        limit = f"at most {CONTENT_ENCODING_CHARS_MAX} characters"
        raise bad_parameter(fields[1], f"names of codings with commas between them, {limit}")
    return f"{kind or OCTETS}{_TAB}{content_encoding}"


def said_of(word: str) -> tuple[str, str]:
    """Content type and content encoding of a version, "" where it has no encoding."""
    kind, _, encoding = word.partition(_TAB)
    return kind or OCTETS, encoding


def lines_of(word: str) -> bytes:
    """The header fields of an answer or of a part."""
    kind, encoding = said_of(word)
    lines = b"Content-Type: %b\r\n" % kind.encode("latin-1")
    return lines + b"Content-Encoding: %b\r\n" % encoding.encode("latin-1") if encoding else lines
