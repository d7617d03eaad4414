"""Translates HTTP to operations and back (docs/http-api.md): no sockets, no node, no clock.

The key is the raw path, percent-decoded here to bytes (S-KEY-1): the decoded path of a framework
maps `%ff`, `%fe` and `%80` to one key. Every parameter is checked. An unknown parameter is refused,
not ignored, because its client relies on an effect that it would not have.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes

import msgspec

from dynamo_core.causality.context import Context, seal, unseal
from dynamo_core.causality.records import Sibling
from dynamo_core.errors import BadContext
from dynamo_core.keys import KEY_BYTES_MAX
from dynamo_core.protocol.operations import Get, Operation, Outcome, Put
from dynamo_core.protocol.traceparent import traceparent_of
from dynamo_core.secret_keys import ContextKeys
from dynamo_node.expiry import expiry_line, expiry_shown, set_expiry
from dynamo_node.media import kept_word, lines_of, said_of, word_of
from dynamo_node.problems import FIXED_HEAD, Answer, Problem, bad_parameter, not_allowed

TIMEOUT_MS, TIMEOUT_MS_MAX = 1000, 30_000
REQUEST_ID_CHARS_MAX = 64
RAW, JSON, MULTIPART = "", "-json", "-multipart"
"""Forms of an answer, as its ETag names them."""
METHODS = ("GET", "HEAD", "PUT", "DELETE")
KEPT = frozenset(
    (b"accept", b"prefer", b"content-type", b"content-encoding", b"dynamo-context",
     b"dynamo-request-id", b"dynamo-expires-in", b"dynamo-expires-at", b"if-match",
     b"if-none-match", b"if-unmodified-since", b"content-range", b"traceparent")
)  # fmt: skip
"""Fields of a request that this module uses."""
_LISTS = (
    b"accept", b"prefer", b"content-encoding", b"if-match", b"if-none-match", b"traceparent",
)  # fmt: skip
"""Fields that may occur twice. Two traceparents count as a malformed one, which is no error."""
_SAID = (b"content-type", b"content-encoding")
_CONDITIONS = (b"if-match", b"if-none-match", b"if-unmodified-since")
_EXPIRIES = (b"dynamo-expires-in", b"dynamo-expires-at")
_EXPIRY_FIELDS = ("dynamo-expires-in", "dynamo-expires-at")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_QUALITY = re.compile(rb"[0-9]{1,9}(\.[0-9]{0,9})?|\.[0-9]{1,9}")
SANDBOX = b"Content-Security-Policy: sandbox; default-src 'none'\r\n"
"""On raw values: if a browser opens a page that a client stored, it runs and loads nothing."""
_FORMS = {b"application/json": JSON, b"multipart/mixed": MULTIPART}
_json = msgspec.json.Encoder()


class Request(NamedTuple):
    """A front's request: `path` is the raw path behind `/v1/kv/`, field names in lower case."""

    method: str
    path: bytes
    query: bytes
    fields: dict[bytes, bytes]
    body: bytes


class Ways(NamedTuple):
    """Options of an operation; 0 and None mean the ring's default."""

    r: int = 0
    w: int = 0
    dw: int = 0
    strict: bool | None = None
    timeout_s: float = TIMEOUT_MS / 1000
    explain: bool = False


class Asked(NamedTuple):
    """An operation, and how to show its outcome."""

    operation: Operation
    form: str = RAW


USUAL = Ways()


# ---------------------------------------------------------------- what is asked


def fields_of(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The fields that this module uses. Raises Problem if a field that must be single occurs twice.
    Names are lower case."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in KEPT:
            if name in fields:
                if name not in _LISTS:
                    raise bad_parameter(name.decode(), "given twice")
                value = fields[name] + b", " + value
            fields[name] = value
    return fields


def key_of(path: bytes) -> bytes:
    """The key: `/` and `+` stand for themselves, `.` and `..` are ordinary names."""
    key = path
    if b"%" in path:
        if _BAD_ESCAPE.search(path):
            raise Problem(400, "bad-key", "key: an invalid percent escape")
        key = unquote_to_bytes(path)
    return checked_key(key)


def checked_key(key: bytes) -> bytes:
    """The key, if its length is valid."""
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise Problem(400, "bad-key", f"key: {len(key)} bytes, must be 1 to {KEY_BYTES_MAX}")
    return key


def count_of(field: str, value: int | str, n: int) -> int:
    """How many nodes of N: a number, `one`, `quorum` or `all`."""
    words = {"one": 1, "quorum": n // 2 + 1, "all": n}
    count = words.get(value, 0) if isinstance(value, str) else value
    if not 1 <= count <= n:
        raise bad_parameter(field, f"1 to {n}, one, quorum or all")
    return count


def check_levels(w: int, dw: int) -> None:
    """At most W of W copies can be fsynced; 0 means the ring's default. Raises Problem."""
    if 0 < w < dw:
        raise bad_parameter("dw", f"at most w={w}, because each fsynced copy is one of W")


def timeout_s_of(timeout_ms: int) -> float:
    """Seconds. Raises Problem out of range."""
    if not 1 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise bad_parameter("timeout_ms", f"1 to {TIMEOUT_MS_MAX}")
    return timeout_ms / 1000


def ways_of(query: bytes, n: int) -> Ways:
    """The query. Raises Problem: unknown, given twice, empty or out of range."""
    if not query:
        return USUAL
    found: dict[str, Any] = {}
    for pair in query.decode("latin-1").split("&"):
        field, _, text = pair.partition("=")
        if field in found:
            raise bad_parameter(field, "given twice")
        if field in ("r", "w", "dw"):
            found[field] = count_of(field, int(text) if _NUMBER.fullmatch(text) else text, n)
        elif field in ("strict", "explain"):
            if text not in ("true", "false"):
                raise bad_parameter(field, "true or false")
            found[field] = text == "true"
        elif field == "timeout_ms":
            found[field] = timeout_s_of(_number_of(text))
        else:
            raise bad_parameter(field[:64] or "query", "no such parameter")
    check_levels(found.get("w", 0), found.get("dw", 0))
    if "timeout_ms" in found:
        found["timeout_s"] = found.pop("timeout_ms")
    return Ways(**found)


def context_of(keys: ContextKeys, key: bytes, text: str) -> Context:
    """What the client has seen. Raises Problem (S-CTX-1)."""
    try:
        return unseal(keys, key, text)
    except BadContext as error:
        raise Problem(400, "bad-context", str(error)) from None


def asked_of(request: Request, n: int, keys: ContextKeys) -> Asked:
    """The operation that a request asks for. Raises Problem."""
    method, path, query, fields, body = request
    if method not in METHODS:
        raise not_allowed(*METHODS)
    key = key_of(path)
    r, w, dw, strict, timeout_s, explain = ways_of(query, n)
    form = _form(fields[b"accept"]) if b"accept" in fields else RAW
    if method in ("GET", "HEAD"):
        get = Get(key=key, r=r, strict=strict, timeout_s=timeout_s, explain=explain)
        if b"traceparent" in fields:
            get.trace = trace_of(fields)
        return Asked(get, form)
    put = Put(
        key=key,
        value=body if method == "PUT" else None,
        w=w,
        dw=dw,
        strict=strict,
        timeout_s=timeout_s,
        explain=explain,
    )
    if fields:
        _add_fields(put, fields, keys)
    return Asked(put, form)


def trace_of(fields: dict[bytes, bytes]) -> str:
    """The traceparent of a request; "" if there is none or it is malformed: then the request is
    part of no trace, and there is no other effect (W3C Trace Context, 4.3)."""
    return traceparent_of(fields.get(b"traceparent", b"").decode("latin-1"))


def wants_values(prefer: bytes) -> bool:
    """Whether a put is to be answered as a get is (RFC 7240, 4.2). The check of rights asks this as
    well: two readers of one field would find two meanings of it."""
    for preference in prefer.split(b","):
        name, _, value = preference.partition(b";")[0].partition(b"=")
        said = value.strip().strip(b'"').lower()
        if said == b"representation" and name.strip().lower() == b"return":
            return True
    return False


def _number_of(text: str) -> int:
    """The number, or 0 if the text is no number."""
    return int(text) if _NUMBER.fullmatch(text) else 0


def _add_fields(put: Put, fields: dict[bytes, bytes], keys: ContextKeys) -> None:
    said = (fields.get(name, b"").decode("latin-1") for name in _SAID)
    put.content_type = kept_word(("content-type", "content-encoding"), *said)
    for name, value in fields.items():
        text = value.decode("latin-1")
        if name == b"dynamo-context":
            put.context = context_of(keys, put.key, text)
        elif name == b"dynamo-request-id":
            put.request_id = word_of("dynamo-request-id", text, REQUEST_ID_CHARS_MAX)
        elif name == b"traceparent":
            put.trace = trace_of(fields)
        elif name == b"prefer":
            put.answer_record = put.value is not None and wants_values(value)
        elif name in _EXPIRIES:
            seconds, at = map(fields.get, _EXPIRIES)
            set_expiry(
                put,
                _EXPIRY_FIELDS,
                None if seconds is None else _number_of(seconds.decode("latin-1")),
                None if at is None else at.decode("latin-1"),
            )
        elif name in _CONDITIONS:
            # Without the condition the put would overwrite a value that the client wants to keep.
            raise bad_parameter(name.decode(), "writes are not conditional, use Dynamo-Context")
        elif name == b"content-range":
            # A part would replace the whole value (RFC 9110 14.5).
            raise bad_parameter("content-range", "a value is written whole")


@lru_cache(maxsize=128)
def _form(accept: bytes) -> str:
    """The form that the client prefers; of two with equal quality, the one that it names.

    The raw value may have any type, so every other range of types matches it. If the client accepts
    no form, it also gets the raw value.
    """
    liked = {JSON: 0.0, MULTIPART: 0.0, RAW: 0.0}
    for part in _QUOTED.sub(b"", accept.lower()).split(b","):
        media, *parameters = (word.strip() for word in part.split(b";"))
        form = _FORMS.get(media, RAW)
        if media:
            liked[form] = max(liked[form], _quality(parameters))
    best = max(liked, key=liked.__getitem__)
    return best if liked[best] else RAW


def _quality(parameters: list[bytes]) -> float:
    """0 to 1; an unreadable quality counts as 1, as if there were none."""
    for parameter in parameters:
        name, _, text = parameter.partition(b"=")
        if name.strip() == b"q" and _QUALITY.fullmatch(text.strip()):
            return min(1.0, float(text))
    return 1.0


# ---------------------------------------------------------------- what is answered


def dot_of(sibling: Sibling) -> str:
    """A string for one event; no other event ever gets it (C5)."""
    return f"{sibling.actor:016x}-{sibling.counter}"


def shown(sibling: Sibling) -> dict[str, Any]:
    """One item of `values`; with `content_encoding` only if the value has one."""
    kind, encoding = said_of(sibling.content_type)
    item = {"data": sibling.value, "content_type": kind, "dot": dot_of(sibling)}
    if encoding:
        item["content_encoding"] = encoding
    return item | expiry_shown(sibling.expires_ms)


def etag_of(values: list[Sibling], form: str) -> bytes:
    """Equal for the same set of versions in the same form."""
    dots = ",".join(map(dot_of, values)).encode()
    return f'"{blake2b(dots, digest_size=8).hexdigest()}{form}"'.encode()


@lru_cache(maxsize=1024)
def _lines_from(node: str) -> str:
    """The lines of every answer of that node."""
    fixed = FIXED_HEAD.decode()
    return f"{fixed}Dynamo-Node: {quote(node)}\r\n" if node else fixed


def head_of(outcome: Outcome, sealed: str) -> bytes:
    """The lines of every outcome."""
    head = _lines_from(outcome.node)
    if sealed:
        head += f"Dynamo-Context: {sealed}\r\n"
    acks = outcome.acks
    if acks is not None:
        nodes = f"total={acks.total} owners={acks.owners} hinted={acks.hinted}"
        head += f"Dynamo-Acks: {nodes} durable={acks.durable}\r\n"
    if outcome.applied:
        head += f"Dynamo-Applied: {outcome.applied}\r\n"
    return head.encode()


def problem_of(outcome: Outcome, sealed: str) -> Problem:
    """The error of an outcome."""
    members: dict[str, Any] = {}
    if sealed:
        members["context"] = sealed
    if outcome.acks is not None:
        members["acks"] = msgspec.structs.asdict(outcome.acks)
    return Problem(outcome.status, outcome.problem, outcome.detail, **members)


def sealed_of(keys: ContextKeys, key: bytes, outcome: Outcome) -> str:
    """The context for the client, "" if the node has seen no event of the key."""
    return seal(keys, key, outcome.context) if outcome.context is not None else ""


def answer_of(asked: Asked, outcome: Outcome, keys: ContextKeys) -> Answer:
    """The answer to one operation."""
    operation, form = asked
    sealed = sealed_of(keys, operation.key, outcome)
    head = head_of(outcome, sealed)
    if outcome.explanation is not None:
        return _explained(outcome, head)
    if outcome.status >= 400:
        problem = problem_of(outcome, sealed)
        problem.head = head.removeprefix(FIXED_HEAD)
        return problem.answer()
    values = outcome.values
    if outcome.status == 204 or not values:
        return Answer(204, head)
    head += b"Dynamo-Siblings: %d\r\nETag: %b\r\n" % (len(values), etag_of(values, form))
    if len(values) == 1:
        head += expiry_line(values[0].expires_ms)
    if form == JSON:
        whole = {"key": operation.key, "context": sealed, "values": list(map(shown, values))}
        return Answer(200, head + b"Content-Type: application/json\r\n", _json.encode(whole))
    if form == MULTIPART:
        return _multipart(values, head)
    if len(values) > 1:
        body = _json.encode(list(map(shown, values)))
        return Answer(300, head + b"Content-Type: application/json\r\n", body)
    only = values[0]
    assert only.value is not None
    return Answer(200, head + SANDBOX + lines_of(only.content_type), only.value)


def _explained(outcome: Outcome, head: bytes) -> Answer:
    """2xx only if the operation was done: an explanation does not make a failed put a success."""
    body = {"status": outcome.status, **msgspec.to_builtins(outcome.explanation)}
    status = 200 if outcome.status < 400 else outcome.status
    retry = b"Retry-After: 1\r\n" if status == 503 else b""
    return Answer(status, head + retry + b"Content-Type: application/json\r\n", _json.encode(body))


def _multipart(values: list[Sibling], head: bytes) -> Answer:
    boundary = etag_of(values, "").strip(b'"')
    while any(boundary in (sibling.value or b"") for sibling in values):
        boundary = blake2b(boundary, digest_size=8).hexdigest().encode()
    parts = []
    for sibling in values:
        said, dot = lines_of(sibling.content_type), dot_of(sibling).encode()
        parts.append(
            b"--%b\r\n%bDynamo-Dot: %b\r\n%b\r\n%b\r\n"
            % (boundary, said, dot, expiry_line(sibling.expires_ms), sibling.value or b"")
        )
    parts.append(b"--%b--\r\n" % boundary)
    head += SANDBOX + b"Content-Type: multipart/mixed; boundary=%b\r\n" % boundary
    return Answer(300 if len(values) > 1 else 200, head, b"".join(parts))
