"""`import`: writes a file of keys and values to the store.

It first reads the present values, so that a file that is loaded again, or an export that is put
back into its own ring, duplicates nothing. Missing values are added beside the present ones.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex
from typing import Annotated, BinaryIO

import msgspec
import typer

from dynamo_client import BadRequest, BatchResult, DynamoClient, GetOp, PutOp, Version
from dynamo_client.batch import Op
from dynamo_client.expiry import outlives, time_text
from dynamoctl.room import either, room
from dynamoctl.rows import Fields, Row, Value, rows, unpacked
from dynamoctl.session import USAGE, Failed, Session
from dynamoctl.transfer import Run, in_order, io_told, opened, regular

BATCH_VALUES = 32
BATCH_BYTES_MAX = 4 * 1024 * 1024
KEYS_REMEMBERED_MAX = 1_000_000
"""About 100 bytes each, to count keys instead of lines."""
commands = room()
Name = tuple[bytes, str, str]
"""Values with the same data, content type and content encoding are the same value here."""
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="ndjson, jsonl, json or csv. Default: from"
        " the file's name if --key is given, else ndjson.",
        autocompletion=either("ndjson", "jsonl", "json", "csv"),
    ),
]


class Loaded(msgspec.Struct):
    """The result of a batch: values written, values that existed, values that have expired, and
    wrong rows."""

    written: int = 0
    there: int = 0
    expired: int = 0
    gone: set[int] = set()
    """Numbers of rows whose values have all expired."""
    wrong: list[Row] = []


def batches(found: Iterable[Row]) -> Iterator[list[Row]]:
    """All rows, in order, in small batches."""
    batch: list[Row] = []
    values = size = 0
    for row in found:
        batch.append(row)
        values += len(row.values) or 1
        size += len(row.raw)
        if values >= BATCH_VALUES or size >= BATCH_BYTES_MAX:
            yield batch
            batch, values, size = [], 0, 0
    if batch:
        yield batch


def load(client: DynamoClient, batch: list[Row], run_id: str, now: datetime) -> Loaded:
    """Puts values that do not exist yet and have not expired by `now` (S-TTL-2). A value exists if
    the key has one with its data and content type that lives as long. The id of a put comes from
    the run, the key and the value: a value that the file has twice, or a batch that is sent again,
    is one event (S-REQ-1)."""
    done = Loaded(wrong=[row for row in batch if row.wrong])
    keys = list(dict.fromkeys(row.key for row in batch if row.key))
    there: dict[bytes, dict[Name, datetime | None]] = {}
    for key, result in zip(keys, _asked(client, list(map(GetOp, keys))), strict=True):
        if isinstance(result.error, BadRequest):
            wrong = (row for row in batch if row.key == key)
            done.wrong += [row._replace(wrong=str(result.error)) for row in wrong]
        elif result.error is not None:
            raise result.error
        else:
            assert result.found is not None
            there[key] = {}
            for one in result.found.values:
                _longest(there[key], _name(one), one.expires_at)
    puts: list[tuple[Row, PutOp]] = []
    for row in batch:
        expired = done.expired
        for value in row.values if row.key in there else ():
            name, ends = _name(value), value.ends
            if ends is not None and ends <= now:
                done.expired += 1
            elif not _longest(there[row.key], name, ends):
                done.there += 1
            else:
                request_id = f"import-{run_id}-{_digest(row.key, name, ends)}"
                put = PutOp(
                    row.key,
                    value.data,
                    None,
                    value.content_type,
                    request_id,
                    expires_at=ends,
                    content_encoding=value.content_encoding,
                )
                puts.append((row, put))
        if row.values and done.expired - expired == len(row.values):
            done.gone.add(row.line)
    refused: dict[int, Row] = {}
    for (row, _), result in zip(puts, _asked(client, [put for _, put in puts]), strict=True):
        if isinstance(result.error, BadRequest):
            refused[row.line] = row._replace(wrong=str(result.error))
        elif result.error is not None:
            raise result.error
        else:
            done.written += 1
    done.wrong += refused.values()
    return done


def _asked(client: DynamoClient, operations: Sequence[Op]) -> list[BatchResult]:
    return client.batch(operations) if operations else []


def _longest(lives: dict[Name, datetime | None], name: Name, ends: datetime | None) -> bool:
    """Notes that such a value lives until then; False if another lives as long already."""
    if name in lives and outlives(lives[name], ends):
        return False
    lives[name] = ends
    return True


def _name(value: Version | Value) -> Name:
    return value.data, value.content_type, value.content_encoding


def _digest(key: bytes, name: Name, ends: datetime | None) -> str:
    data, *words = name
    said = "\t".join(filter(None, words)).encode()
    until = b"" if ends is None else time_text(ends).encode()
    parts = (len(key).to_bytes(2, "big"), key, said, b"\0", until, b"\0", data)
    return blake2b(b"".join(parts), digest_size=12).hexdigest()


def _fields(file: str, form: str, key: str, value: str, expires_at: str) -> Fields:
    """The options; if only a key is given, the format comes from the file's name."""
    kind = Path(file.removesuffix(".gz")).suffix.removeprefix(".")
    guessed = {"csv": "csv", "json": "json"}.get(kind, "jsonl") if key else "ndjson"
    return Fields(form or guessed, key, value, expires_at).checked()


class Tally:
    """Counts the rows in the store; a wrong row ends the run or is set aside."""

    def __init__(self, aside: BinaryIO | None, keys: int) -> None:
        self._aside = aside
        self._keys: set[int] = set()
        self.keys = keys
        self.values = self.there = self.expired = self.skipped = 0

    def add(self, batch: list[Row], done: Loaded) -> None:
        """Adds one batch. Raises Failed at a wrong row, unless `--skip-bad` sets it aside."""
        for row in sorted(done.wrong, key=lambda row: row.line):
            if self._aside is None:
                again = "; --skip-bad sets such lines aside"
                raise Failed(f"line {row.line}: {row.wrong}{again}", USAGE, "FILE")
            self._aside.write(row.raw if row.raw.endswith(b"\n") else row.raw + b"\n")
            self.skipped += 1
        none = {row.line for row in done.wrong} | done.gone
        for row in batch:
            if row.key and row.line not in none:
                self._count(row.key)
        self.values += done.written
        self.there += done.there
        self.expired += done.expired

    def _count(self, key: bytes) -> None:
        """Counts a key once even if the file has it twice, if this process still remembers it."""
        name = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
        if name in self._keys:
            return
        if len(self._keys) < KEYS_REMEMBERED_MAX:
            self._keys.add(name)
        self.keys += 1


@commands.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="- is standard input; a gzip file is unpacked.")
    ],
    form: FormatOption = "",
    *,
    key: Annotated[str, typer.Option(metavar="FIELD", help="The field with the key.")] = "",
    value: Annotated[
        str,
        typer.Option(
            metavar="FIELD", help="The field with the value. Default: the whole object, as JSON."
        ),
    ] = "",
    expires_at: Annotated[
        str,
        typer.Option(
            metavar="FIELD", help="The field with the time at which the value expires, in RFC 3339."
        ),
    ] = "",
    skip_bad: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Wrong lines are written to this file, and the import goes on."
        ),
    ] = None,
) -> None:
    """Write every value of a file.

    ndjson, as export writes it: {"key": base64, or "key_text": text, "values": [{"data": base64,
    "content_type": ..., "content_encoding": ..., "expires_at": time}]}. jsonl: one JSON object in
    each line. json: an array of objects. csv: a header, then rows. A value that exists already with
    the same content type and encoding is not written; other values become siblings of the present
    ones, and nothing is replaced; merge them with `update` of the client library. A value keeps its
    time of expiry; a value that has expired, by the clock of this machine, is counted and not
    written. An interrupted run goes on from FILE.checkpoint.
    """
    session: Session = ctx.obj
    fields = _fields(file, form, key, value, expires_at)
    data = Path(file) if file != "-" and regular(file) else None
    with io_told(file), ExitStack() as stack:
        source = stack.enter_context(opened(Path(file), "rb")) if file != "-" else sys.stdin.buffer
        aside = stack.enter_context(opened(skip_bad, "ab")) if skip_bad else None
        client = stack.enter_context(session.client())
        with session.admin() as admin:
            cluster = admin.ring()["cluster_id"]
        run = stack.enter_context(Run(session, "import", data, cluster))
        place, tally = run.place, Tally(aside, run.place.keys)
        place.run = run_id = place.run or token_hex(8)
        lines = unpacked(source)
        if place.offset:
            lines.seek(place.offset)
        plain = lines is source and fields.format in ("ndjson", "jsonl")
        total = data.stat().st_size if data and plain else None

        def loaded(batch: list[Row]) -> Loaded:
            return load(client, batch, run_id, datetime.now(UTC))

        work = batches(rows(lines, fields, place.offset, place.lines))
        for batch, done in in_order(loaded, work):
            tally.add(batch, done)
            place.offset, place.lines = batch[-1].offset, batch[-1].line
            place.keys = tally.keys
            run.at(place.offset, total, place.lines)
    _end(session, run, tally)


def _end(session: Session, run: Run, tally: Tally) -> None:
    words = f"{tally.keys:,} keys imported, {tally.values:,} values written"
    if tally.there:
        words += f", {tally.there:,} values existed already"
    if tally.expired:
        words += f", {tally.expired:,} values had expired"
    if tally.skipped:
        words += f", {tally.skipped:,} lines skipped"
    document = {
        "keys": tally.keys, "values": tally.values, "values_there": tally.there,
        "values_expired": tally.expired, "skipped": tally.skipped, "keys_before": run.before,
    }  # fmt: skip
    session.show(document, words + f" after {run.before:,} earlier lines" * bool(run.before))
