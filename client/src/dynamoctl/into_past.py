"""`restore --into-past`: the values of a backup become the newest (S-BAK-2).

The command reads each key of the backup and writes it with the context of what is there: the
values that it had, or a delete where it had none. These are new events, so every node and every
later merge takes them for the newest, and another restore undoes them. The command does not write a
key that reads as in the backup, so a run that was cut off may be run again. A write that comes
between the read and the put becomes a sibling. A key that is not in the backup stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from dynamo_client import BatchResult, DeleteOp, DynamoClient, GetOp, PutOp
from dynamo_client.batch import Op
from dynamo_client.operations import OCTETS

if TYPE_CHECKING:
    from dynamo_core.causality.records import Record, Sibling

KEYS_MAX = 64
BYTES_MAX = 4 * 1024 * 1024
Entry = tuple[bytes, "Record"]
Value = tuple[bytes, str, str, datetime | None]
"""Data, content type, content encoding, when it expires."""


class Written(msgspec.Struct):
    """What became of the keys of a backup."""

    keys: int = 0
    values: int = 0
    deleted: int = 0
    same: int = 0
    """Keys that read as in the backup already."""


def write_back(
    client: DynamoClient, found: Iterable[Entry], now: datetime, step: Callable[[int], None]
) -> Written:
    """Writes what the backup has of each key. `step` is told how many keys more. Raises
    ClientError."""
    done = Written()
    for some in _few(found):
        gets = client.batch([GetOp(key) for key, _ in some])
        operations: list[Op] = []
        for (key, record), result in zip(some, gets, strict=True):
            more = _operations(key, record, result, now)
            operations += more
            done.same += not more
            done.values += sum(isinstance(one, PutOp) for one in more)
            done.deleted += sum(isinstance(one, DeleteOp) for one in more)
        for result in client.batch(operations) if operations else ():
            if result.error is not None:
                raise result.error
        done.keys += len(some)
        step(len(some))
    return done


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


def _operations(key: bytes, record: Record, result: BatchResult, now: datetime) -> list[Op]:
    """What makes the key read as in the backup. Its puts have one context, that of what is there:
    so they supersede that, and stand beside each other. Raises ClientError."""
    if result.error is not None:
        raise result.error
    assert result.found is not None
    there = {
        (one.data, one.content_type, one.content_encoding, one.expires_at)
        for one in result.found.values
    }
    wanted = {_value(one) for one in record.values(int(now.timestamp() * 1000))}
    if wanted == there:
        return []
    context = result.found.context
    if not wanted:
        return [DeleteOp(key, context)]
    return [
        PutOp(key, data, context, kind, None, expires_at=ends, content_encoding=encoding)
        for data, kind, encoding, ends in sorted(wanted, key=lambda value: value[:3])
    ]


def _value(sibling: Sibling) -> Value:
    """As the client library has it. Behind a tab in the content type stands the content encoding
    (decision 14)."""
    kind, _, encoding = sibling.content_type.partition("\t")
    ends = None
    if sibling.expires_ms:
        ends = datetime.fromtimestamp(sibling.expires_ms / 1000, UTC)
    assert sibling.value is not None
    return sibling.value, kind or OCTETS, encoding, ends
