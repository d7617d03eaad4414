"""Merges for `update`: they make one value from siblings [P 4.4] and apply a change.

A merge takes the data of all siblings and returns the new value, or None for "nothing to write".
Each factory here first merges the siblings with a function that is commutative, associative and
idempotent, so that the order and the number of merges do not matter; then it applies its change.
The merges:

    cart_union   lines of all siblings; of two contents of one line, the larger in canonical JSON.
                 An added line is never lost; a removed line may return after a concurrent write
                 (the paper's cart).
    set_union    elements of all siblings; the same holds.
    counter      by actor, the larger of its plus and of its minus. It counts nothing twice.
    last_writer  the newest stamp; the others are deleted: **lossy**, on purpose.

Values are canonical JSON: equal contents have equal bytes. What JSON cannot hold (NaN, bytes, keys
that are not text) is refused before anything is read or written, and the result of a merge is
decoded again before it is written.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from dynamo_client.errors import BadParameter, NotMergeable

Merge = Callable[[list[bytes]], bytes | None]
_encode = msgspec.json.Encoder(order="deterministic").encode
_NOT_JSON = (TypeError, ValueError, RecursionError, msgspec.MsgspecError)
T = TypeVar("T")


class _Stamped(msgspec.Struct, frozen=True, order=True):
    at_ms: int
    data: str


def _decoded(values: list[bytes], kind: type[T], what: str) -> list[T]:
    try:
        return [msgspec.json.decode(value, type=kind) for value in values]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotMergeable(f"a stored value is not {what}: {error}") from error


def _held(value: Any, field: str) -> Any:
    """The value as JSON gives it back. Raises BadParameter if that differs from the given one."""
    try:
        back = msgspec.json.decode(_encode(value))
        same = back == _listed(value)
    except _NOT_JSON as error:
        raise BadParameter(f"{field}: {error}") from None
    if not same:
        raise BadParameter(f"{field}: JSON cannot hold {value!r}"[:200])
    return back


def _listed(value: Any) -> Any:
    """Tuples as lists, at every depth: JSON has only lists."""
    if isinstance(value, list | tuple):
        return [_listed(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _listed(each) for key, each in value.items()}
    return value


def _sealed(value: Any, kind: type[T], what: str) -> bytes:
    """Bytes that the next merge can read. Raises NotMergeable before anything is written."""
    data = _encode(value)
    _decoded([data], kind, what)
    return data


def cart_union(add: Mapping[str, Any] | None = None, remove: Iterable[str] = ()) -> Merge:
    """A cart: JSON object of line id to any value. Removes the lines of `remove`, then sets the
    lines of `add`. Raises BadParameter, and NotMergeable in use."""
    added, removed = _held(dict(add or {}), "add"), frozenset(_texts(remove, "remove"))

    def merge(values: list[bytes]) -> bytes | None:
        lines: dict[str, Any] = {}
        for cart in _decoded(values, dict[str, Any], "a cart"):
            for line, content in cart.items():
                if line not in lines or _encode(lines[line]) < _encode(content):
                    lines[line] = content
        kept = {line: content for line, content in lines.items() if line not in removed}
        return _sealed(kept | added, dict[str, Any], "a cart") if values or added else None

    return merge


def _texts(given: Iterable[str], field: str) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    for text in texts:
        if not isinstance(text, str):
            raise BadParameter(f"{field}: ids of lines must be text, not {type(text).__name__}")
    return texts


def set_union(add: Iterable[Any] = (), remove: Iterable[Any] = ()) -> Merge:
    """A set: sorted JSON array of anything. Raises BadParameter, and NotMergeable in use."""
    added = {_encode(held := _held(e, "add")): held for e in add}
    removed = frozenset(_encode(_held(e, "remove")) for e in remove)

    def merge(values: list[bytes]) -> bytes | None:
        united = {_encode(e): e for each in _decoded(values, list[Any], "a set") for e in each}
        kept = {key: e for key, e in united.items() if key not in removed} | added
        elements = [kept[key] for key in sorted(kept)]
        return _sealed(elements, list[Any], "a set") if values or added else None

    return merge


def counter(by: int, actor: str) -> Merge:
    """A counter that goes up and down: JSON object of actor to [plus, minus].

    An actor is one writer whose updates follow one after another: two concurrent updates under one
    name count as one. An actor must also read its own last write; it always does if R + W > N and
    both are strict (C9). Raises BadParameter, and NotMergeable in use.
    """
    if type(by) is not int:
        raise BadParameter(f"by: must be a whole number, not {by!r}")
    _held(actor, "actor")
    if not isinstance(actor, str):
        raise BadParameter(f"actor: must be text, not {type(actor).__name__}")

    def merge(values: list[bytes]) -> bytes | None:
        actors: dict[str, tuple[int, int]] = {}
        for each in _decoded(values, dict[str, tuple[int, int]], "a counter"):
            for name, (plus, minus) in each.items():
                known = actors.get(name, (0, 0))
                actors[name] = max(known[0], plus), max(known[1], minus)
        if by:
            plus, minus = actors.get(actor, (0, 0))
            actors[actor] = plus + max(by, 0), minus + max(-by, 0)
        kind = dict[str, tuple[int, int]]
        return _sealed(actors, kind, "a counter") if values or by else None

    return merge


def counter_value(data: bytes) -> int:
    """The value of a counter. Raises NotMergeable."""
    (actors,) = _decoded([data], dict[str, tuple[int, int]], "a counter")
    return sum(plus - minus for plus, minus in actors.values())


def last_writer(data: bytes, now_ms: int | None = None) -> Merge:
    """A register in which the newest stamp wins: `data` is written unless a newer value exists.

    **Lossy**: of concurrent writes, all but one are deleted, and the clocks of the writers decide
    which one stays [P 6]; a writer whose clock is slow may never win. `now_ms` is the stamp; None
    means the clock of this machine. Raises BadParameter, and NotMergeable in use.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise BadParameter(f"data: must be bytes, not {type(data).__name__}")
    if now_ms is not None and type(now_ms) is not int:
        raise BadParameter(f"now_ms: must be a whole number, not {now_ms!r}")
    at_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    mine = _Stamped(at_ms, b64encode(data).decode())

    def merge(values: list[bytes]) -> bytes | None:
        newest = max([mine, *_decoded(values, _Stamped, "a stamped value")])
        return _sealed(newest, _Stamped, "a stamped value")

    return merge


def last_value(data: bytes) -> bytes:
    """The data of a value that `last_writer` wrote. Raises NotMergeable."""
    (stamped,) = _decoded([data], _Stamped, "a stamped value")
    try:
        return b64decode(stamped.data, validate=True)
    except ValueError as error:
        raise NotMergeable(f"a stored value is not a stamped value: {error}") from error
