"""`restore --into-past`: the values of a backup become the newest (S-BAK-2).

The command reads each key of the backup and writes it with the context of what is there: the
values that it had, or a delete where it had none. These are new events, so every node and every
later merge takes them for the newest, and another restore undoes them. The command does not write a
key that reads as in the backup. A write that comes between the read and the put becomes a sibling.
A key that is not in the backup stays as it is.

A mark in the archive says how far a run is. A run that was cut off goes on there, and what clients
have written meanwhile stays. A run that is over is not made once more by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from dynamo_client import BatchResult, DeleteOp, DynamoClient, GetOp, PutOp
from dynamo_client.batch import Op
from dynamo_client.operations import OCTETS
from dynamoctl.session import Failed

if TYPE_CHECKING:
    from dynamo_core.causality.records import Record, Sibling

KEYS_MAX = 64
ID_CHARS = 32
BYTES_MAX = 4 * 1024 * 1024
Entry = tuple[bytes, "Record"]
Value = tuple[bytes, str, str, datetime | None]
"""Data, content type, content encoding, when it expires."""


class Written(msgspec.Struct):
    """Counts of the keys of a backup, by what was done with each."""

    keys: int = 0
    values: int = 0
    deleted: int = 0
    same: int = 0
    """Keys that read as in the backup already."""


class Was(msgspec.Struct):
    """A key before it is written: its context, and a hash of the values that were there."""

    context: str | None
    values: str


class Mark(msgspec.Struct):
    """How far a run is, as it stands in the archive: `keys` are written, and of the next ones `was`
    says what was there, None for a key that is not to be written. No key and no value is in it, for
    the archive may be encrypted."""

    backup: str
    prefix: str
    cluster_id: str
    run: str
    """A random number, so that a run that is made again makes other events."""
    state: str = "running"
    keys: int = 0
    was: list[Was | None] = []
    written: Written = msgspec.field(default_factory=Written)


def marked(data: bytes | None, fresh: Mark, name: str, again: bool) -> Mark:
    """The mark to begin with: that of a run that was cut off, or a fresh one. Raises Failed for one
    that is over, unless it is to be made `again`."""
    if data is None:
        return fresh
    try:
        mark = msgspec.json.decode(data, type=Mark)
    except msgspec.MsgspecError as error:
        raise Failed(f"{name}: not the mark of such a restore: {error}") from None
    if mark.state != "done":
        return mark
    if again:
        return fresh
    raise Failed(
        f"{name}: this was done. Once more would supersede what clients have written since then:"
        " give --again if that is wanted",
        field="--into-past",
    )


class WritingBack:
    """One run. `keep` writes the mark into the archive; `lww`: the last writer wins there."""

    def __init__(
        self, client: DynamoClient, mark: Mark, keep: Callable[[Mark], None], *, lww: bool = False
    ) -> None:
        self.mark = mark
        self._client, self._keep, self._lww = client, keep, lww

    def run(self, found: Iterable[Entry], now: datetime, step: Callable[[int], None]) -> Written:
        """Writes what the backup has of each key. `step` is told how many keys more. Raises
        ClientError, ArchiveError."""
        mark, done = self.mark, self.mark.written
        entries = iter(found)
        step(sum(1 for _ in islice(entries, mark.keys)))  # written by an earlier run
        for some in _few(entries):
            self._write(some, now)
            done.keys += len(some)
            mark.keys, mark.was = done.keys, []
            step(len(some))
        mark.state = "done"
        self._keep(mark)
        return done

    def _write(self, some: list[Entry], now: datetime) -> None:
        """The mark has what was there before anything is written. So a run that goes on later
        supersedes that, and nothing that clients have written since."""
        mark, done = self.mark, self.mark.written
        there = [_there(result) for result in self._client.batch([GetOp(key) for key, _ in some])]
        wanted = [_wanted(record, now) for _, record in some]
        resumed = bool(mark.was)
        if not resumed:
            mark.was = [
                None if values == wish else Was(context, _hash(values))
                for (values, context), wish in zip(there, wanted, strict=True)
            ]
            self._keep(mark)
        if len(mark.was) != len(some):
            raise Failed(f"{mark.backup}: its mark is of other keys; give --again to begin anew")
        operations: list[Op] = []
        for (key, _), was, (values, _), wish in zip(some, mark.was, there, wanted, strict=True):
            later = resumed and self._lww and was is not None and _hash(values) != was.values
            if was is None or values == wish or later:
                done.same += 1
                continue
            more = _operations(mark.run, key, wish, was.context)
            done.values += sum(isinstance(one, PutOp) for one in more)
            done.deleted += sum(isinstance(one, DeleteOp) for one in more)
            operations += more
        for result in self._client.batch(operations) if operations else ():
            if result.error is not None:
                raise result.error


def _few(found: Iterable[Entry]) -> Iterator[list[Entry]]:
    some: list[Entry] = []
    size = 0
    for key, record in found:
        some.append((key, record))
        size += sum(len(one.value or b"") for one in record.siblings)
        if len(some) == KEYS_MAX or size >= BYTES_MAX:
            yield some
            some, size = [], 0
    if some:
        yield some


def _there(result: BatchResult) -> tuple[set[Value], str | None]:
    """The values that are there, and their context. Raises ClientError."""
    if result.error is not None:
        raise result.error
    assert result.found is not None
    values = {
        (one.data, one.content_type, one.content_encoding, one.expires_at)
        for one in result.found.values
    }
    return values, result.found.context


def _wanted(record: Record, now: datetime) -> set[Value]:
    return {_value(one) for one in record.values(int(now.timestamp() * 1000))}


def _hash(values: set[Value]) -> str:
    return sha256(repr(sorted(values, key=repr)).encode()).hexdigest()


def _operations(run: str, key: bytes, wanted: set[Value], context: str | None) -> list[Op]:
    """What makes the key read as in the backup. Its puts have one context, that of what was there:
    so they supersede that, and stand beside each other. A request that comes again soon is applied
    once (S-REQ-1)."""

    def request(*what: object) -> str:
        return sha256(repr((run, key, *what)).encode()).hexdigest()[:ID_CHARS]

    if not wanted:
        return [DeleteOp(key, context, request())]
    return [
        PutOp(
            key, data, context, kind, request(data, kind, encoding, ends), expires_at=ends,
            content_encoding=encoding,
        )
        for data, kind, encoding, ends in sorted(wanted, key=lambda value: value[:3])
    ]  # fmt: skip


def _value(sibling: Sibling) -> Value:
    """As the client library has it. Behind a tab in the content type stands the content encoding
    (decision 14)."""
    kind, _, encoding = sibling.content_type.partition("\t")
    ends = None
    if sibling.expires_ms:
        ends = datetime.fromtimestamp(sibling.expires_ms / 1000, UTC)
    assert sibling.value is not None
    return sibling.value, kind or OCTETS, encoding, ends
