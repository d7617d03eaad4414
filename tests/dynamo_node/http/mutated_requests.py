"""Requests, valid and mutated, by seed: the input of `test_mutated_requests`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

H = b" HTTP/1.1\r\nHost: h\r\n"
TOKENS = [
    b"\r", b"\n", b"\r\n", b"\0", b"\t", b" ", b":", b"%", b"%zz", b"%00", b"?", b"#", b"&", b"=",
    b"\x80", b"\xff", b"0", b"f" * 17, b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1", b"HTTP/9.9",
    b"\x0b", b"//", b"http://x/", b"*",
]  # fmt: skip
FIELDS = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: -1", b"Content-Length: 5, 5",
    b"Content-Length: 0x5", b"Content-Length:\t5", b"Content-Length: 18446744073709551616",
    b"Content-Length: 00005", b"Content-Length: 5 ", b"Content_Length: 5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding : chunked", b"transfer-encoding: chunked;q=1",
    b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding: chunked\r\n\t", b"Host: b", b"Host:",
    b"Host: a, b", b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: x",
    b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade", b"Upgrade: h2c",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA",
    b"Upgrade: websocket", b"Connection: Transfer-Encoding", b"Connection: content-length",
    b"TE: trailers", b"Trailer: Content-Length", b"Keep-Alive: 5", b"X: " + b"y" * 9000,
    b"X: " + b"y" * 20000, b": x", b" X: y", b"X\0: y", b"X: \0", b"X: \xff\xfe", b"X:\ry",
    b"Range: bytes=0-1,1-2,2-3", b"Content-Range: bytes 0-1/5",
    b"Accept: " + b"application/json;q=0," * 50, b"If-Match: *", b"Dynamo-Context: AAAA",
    b"Dynamo-Context: " + b"A" * 16000, b"Content-Type: \xe9", b"Content-Type: a\tb",
    b"Content-Encoding: gzip", b"Content-Encoding: a\tb",
    b"Dynamo-Request-Id: " + b"x" * 65, b'Prefer: return=representation, a="b',
]  # fmt: skip
BATCH = json.dumps(
    {
        "operations": [
            {"op": "put", "key": "a2V5", "data": "YQ=="},
            {"op": "get", "key": "a2V5"},
        ]
    }
).encode()
NOWHERE = b"GET /nowhere" + H + b"\r\n"


@dataclass
class Case:
    """What one connection sends, and what is known about the answers."""

    data: bytes
    first: list[int]
    """The statuses of the first answers: to complete requests before any mutated one."""
    puts: list[bytes] = field(default_factory=list)
    """Keys of complete puts that only this connection writes."""


def put_of(key: bytes, value: bytes = b"hello", *fields: bytes) -> bytes:
    """A whole put."""
    lines = b"".join(line + b"\r\n" for line in fields)
    return b"PUT /v1/kv/%b%b%bContent-Length: %d\r\n\r\n%b" % (key, H, lines, len(value), value)


def client_requests(key: bytes) -> list[bytes]:
    """Of the client listener; they touch the key alone."""
    kv = b" /v1/kv/" + key
    return [
        b"GET" + kv + H + b"\r\n",
        b"GET" + kv + b"?r=1&strict=true&explain=true" + H + b"Accept: application/json\r\n\r\n",
        b"HEAD" + kv + H + b"Accept: multipart/mixed\r\n\r\n",
        put_of(key + b"?w=1", b"hello", b"Content-Type: text/plain"),
        put_of(key, b"hi", b"Dynamo-Context: AAAA"),
        b"PUT" + kv + H + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n"
        b"0\r\n\r\n",
        b"PUT" + kv + H + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: v\r\n\r\n",
        put_of(key, b"abc", b"Expect: 100-continue"),
        put_of(key, b"", b"Prefer: return=representation", b"Dynamo-Request-Id: r1"),
        put_of(key, b"up", b"Connection: Upgrade", b"Upgrade: h2c"),
        b"DELETE" + kv + H + b"\r\n",
        b"GET /v1/ring" + H + b'If-None-Match: "1-a"\r\n\r\n',
        b"POST /v1/batch"
        + H
        + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BATCH), BATCH),
        b"POST /v1/batch" + H + b"Content-Type: application/msgpack\r\nContent-Length: 33\r\n\r\n"
        b"\x81\xaaoperations\x91\x83\xa2op\xa3get\xa3key\xc4\x03abc\xa1z\x01",
        b"GET" + kv + b"%ff%00%2e%2e/../a;b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ]


def admin_requests(token: bytes) -> list[bytes]:
    """Of the admin listener; none of them changes the ring."""
    bearer = b"Authorization: Bearer " + token + b"\r\n"
    body = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    wish = b'{"leave": ["b"], "cluster_id": "c"}'
    return [
        b"GET /livez" + H + b"\r\n",
        b"GET /readyz?level=synced" + H + b"\r\n",
        b"GET /v1/status" + H + b"\r\n",
        b"GET /v1/status" + H + bearer + b"\r\n",
        b"GET /v1/ring" + H + bearer + b"\r\n",
        b"GET /v1/keys?partition=1&limit=10" + H + bearer + b"\r\n",
        b"GET /v1/preference-list/%ff%00a" + H + bearer + b"\r\n",
        b"GET /v1/repairs/7" + H + bearer + b"\r\n",
        b"POST /v1/ring/plan" + H + bearer + body % (len(wish), wish),
        b"POST /v1/ring/plan" + H + body % (len(wish), wish),
        b"POST /v1/ring/replace" + H + bearer + body % (len(wish), wish),
        b"POST /v1/ring/plan" + H + bearer + b"Transfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\n\r\n",
    ]


def mutated(random: Random, data: bytes) -> bytes:
    """The bytes with up to five changes."""
    for _ in range(random.choice([0, 1, 1, 1, 2, 2, 3, 5])):
        if not data:
            return b"\r\n"
        data = random.choices(CHANGES, WEIGHTS)[0](random, data, random.randrange(len(data)))
    return data


def _flip(random: Random, data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _token(random: Random, data: bytes, at: int) -> bytes:
    return data[:at] + random.choice(TOKENS) + data[at:]


def _cut_out(random: Random, data: bytes, at: int) -> bytes:
    return data[:at] + data[at + random.randrange(1, 6) :]


def _field(random: Random, data: bytes, at: int) -> bytes:
    at = data.find(b"\r\n") + 2
    return data[:at] + random.choice(FIELDS) + b"\r\n" + data[at:]


def _line_twice(random: Random, data: bytes, at: int) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(random.randrange(len(lines)), random.choice(lines))
    return b"\r\n".join(lines)


def _line_less(random: Random, data: bytes, at: int) -> bytes:
    lines = data.split(b"\r\n")
    lines.pop(random.randrange(len(lines)))
    return b"\r\n".join(lines)


def _line_ends(random: Random, data: bytes, at: int) -> bytes:
    end = random.choice([b"\n", b"\r", b"\r\n ", b"\r\r\n"])
    return data.replace(b"\r\n", end, random.randrange(1, 4))


def _short(random: Random, data: bytes, at: int) -> bytes:
    return data[:at]


def _number(random: Random, data: bytes, at: int) -> bytes:
    words = [b"0", b"9" * 20, b"-1", b"1e3"]
    return re.sub(
        rb"\d+", lambda found: random.choice([*words, found.group() + b"0"]), data, count=1
    )


def _long(random: Random, data: bytes, at: int) -> bytes:
    return data + b"X" * random.randrange(1, 3000)


CHANGES: list[Callable[[Random, bytes, int], bytes]] = [
    _flip, _token, _cut_out, _field, _line_twice, _line_less, _line_ends, _short, _number, _long,
]  # fmt: skip
WEIGHTS = [15, 20, 10, 30, 7, 6, 4, 3, 3, 2]


def client_case(random: Random, number: int) -> Case:
    """Whole requests, mutated ones, and whole ones again; the last one closes."""
    case = Case(b"", [])

    def put() -> bytes:
        key = b"c%d.%d" % (number, len(case.puts))
        case.puts.append(key)
        return put_of(key)

    for _ in range(random.choice([0, 1, 2, 3])):
        if random.random() < 0.5:
            case.data += put()
            case.first.append(204)
        else:
            case.data += NOWHERE
            case.first.append(404)
    requests = client_requests(b"m%d" % number)
    for _ in range(random.choice([1, 1, 2, 3])):
        case.data += mutated(random, random.choice(requests))
    if random.random() < 0.5:
        case.data += put()
    case.data += b"GET /nowhere" + H + b"Connection: close\r\n\r\n"
    return case


def admin_case(random: Random, token: bytes) -> Case:
    """The same of the admin listener."""
    case = Case(b"", [])
    for _ in range(random.choice([0, 1, 2])):
        case.data += b"GET /livez" + H + b"\r\n"
        case.first.append(200)
    for _ in range(random.choice([1, 1, 2])):
        case.data += mutated(random, random.choice(admin_requests(token)))
    case.data += b"GET /nowhere" + H + b"Connection: close\r\n\r\n"
    return case
