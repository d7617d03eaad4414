"""`import` and `export`: the whole store as NDJSON, a line a key, with a checkpoint to go on from.

    {"key_text": "cart-1", "values": [{"data": "<base64>", "content_type": "text/plain"}]}

`key`, base64 of a key, stands in the place of `key_text` for one that is not UTF-8.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, BinaryIO, Self, TypeVar

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dynamo_client import AdminClient, BadRequest, ClientError, DynamoClient, GetOp, PutOp
from dynamo_client.cli_session import USAGE, Failed, Session, text_of

BATCH_OPERATIONS = 32
BATCH_BYTES_MAX = 4 * 1024 * 1024
AT_ONCE = 4
"""Batches under way; with their size they bound memory."""
SAVE_S = 0.5
TAIL_BYTES = 4096
commands = typer.Typer()
Item = TypeVar("Item")
Result = TypeVar("Result")


class Value(msgspec.Struct, forbid_unknown_fields=True):
    """One version of a key; data is base64 in JSON."""

    data: bytes
    content_type: str = "application/octet-stream"


class Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One key with all its siblings, the key in one of two forms."""

    key: bytes | None = None
    key_text: str | None = None
    values: list[Value]


class Place(msgspec.Struct):
    """How far it came: all before `offset` of the file is done. `partition` is where an export
    goes on; `tail` is a digest of the bytes before the offset, `cluster` the ring's id."""

    cluster: str
    offset: int = 0
    lines: int = 0
    partition: int = 0
    tail: str = ""


class Run:
    """One import or export: its place, on the terminal and in a checkpoint beside the file, which
    is gone when all is done. Without a file (`data` None) nothing is kept."""

    def __init__(self, session: Session, what: str, data: Path | None, cluster: str) -> None:
        self._session = session
        self.data = data
        self.place = Place(cluster)
        if data is not None:
            self.checkpoint = data.with_name(data.name + ".checkpoint")
            if self.checkpoint.exists():
                self.place = self._kept(cluster)
        self.before = self.place.lines
        self._progress = Progress(
            TextColumn(what), BarColumn(), TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(), console=session.err, transient=True,
            disable=session.as_json or not session.err.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None, said="")
        self._began = self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        self._progress.stop()
        if self.data is not None and kind is None:
            self.checkpoint.unlink(missing_ok=True)
        elif self.data is not None:
            with suppress(OSError):  # a disk that is full: what stopped us is what is told
                self._save()
        if isinstance(error, KeyboardInterrupt) and self.data is not None:
            self._session.err.print(f"after line {self.place.lines}; run it again to go on")
        if isinstance(error, ClientError):
            again = "; run it again to go on" if self.data is not None else ""
            raise Failed(f"after line {self.place.lines}: {error}{again}") from None

    def at(self, done: int, total: int | None, lines: int) -> None:
        """So far; `place` is up to date."""
        now = time.monotonic()
        rate = (lines - self.before) / max(0.1, now - self._began)
        said = f"{lines:,} keys  {rate:,.0f}/s"
        self._progress.update(self._task, completed=done, total=total, said=said)
        if self.data is not None and now - self._saved_at > SAVE_S:
            self._save()

    def _kept(self, cluster: str) -> Place:
        try:
            place = msgspec.json.decode(self.checkpoint.read_bytes(), type=Place)
        except msgspec.MsgspecError as error:
            raise Failed(f"{self.checkpoint}: {error}; remove it to begin anew") from None
        if place.cluster != cluster or place.tail != self._tail(place.offset):
            raise Failed(f"{self.checkpoint}: of another file or ring; remove it to begin anew")
        return place

    def _save(self) -> None:
        self.place.tail = self._tail(self.place.offset)
        new = self.checkpoint.with_name(self.checkpoint.name + ".new")
        new.write_bytes(msgspec.json.encode(self.place))
        new.replace(self.checkpoint)
        self._saved_at = time.monotonic()

    def _tail(self, offset: int) -> str:
        assert self.data is not None
        with self.data.open("rb") as file:
            file.seek(max(0, offset - TAIL_BYTES))
            return blake2b(file.read(min(offset, TAIL_BYTES)), digest_size=16).hexdigest()


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    """Results in the order of the items, AT_ONCE of them under way."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > AT_ONCE:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


class Batch(msgspec.Struct):
    """Lines of an import that are sent together, and where they end; `numbers` has the line of
    each operation."""

    operations: list[PutOp]
    offset: int
    lines: int
    numbers: list[int] = []


def batches(file: BinaryIO, offset: int, lines: int) -> Iterator[Batch]:
    """The lines from here on. Raises Failed at one that is no line of ours."""
    batch, size = Batch([], offset, lines), 0
    for raw in file:
        batch.offset += len(raw)
        batch.lines += 1
        size += len(raw)
        batch.operations += (puts := _puts(raw.strip(), batch.lines))
        batch.numbers += [batch.lines] * len(puts)
        if len(batch.operations) >= BATCH_OPERATIONS or size >= BATCH_BYTES_MAX:
            yield batch
            batch, size = Batch([], batch.offset, batch.lines), 0
    yield batch


def _puts(raw: bytes, number: int) -> list[PutOp]:
    if not raw:
        return []
    try:
        line = msgspec.json.decode(raw, type=Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Failed(f"line {number}: {error}", USAGE, "FILE") from None
    key = line.key or (line.key_text or "").encode()
    if not key or (line.key and line.key_text):
        raise Failed(f"line {number}: wants one of key, key_text", USAGE, "FILE")
    made = blake2b(raw, digest_size=12).hexdigest()
    return [
        PutOp(key, value.data, content_type=value.content_type, request_id=f"import-{made}-{at}")
        for at, value in enumerate(line.values)
    ]


def _put_all(client: DynamoClient, batch: Batch) -> int:
    results = client.batch(batch.operations) if batch.operations else []
    for number, result in zip(batch.numbers, results, strict=True):
        if isinstance(result.error, BadRequest):
            raise Failed(f"line {number}: {result.error}", USAGE, "FILE")
        if result.error is not None:
            raise result.error
    return len(batch.operations)


@commands.command("import")
def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="NDJSON; - is standard input.")],
) -> None:
    """Write every value of an NDJSON file.

    Lines: {"key": base64, or "key_text": text, "values": [{"data": base64, "content_type": ...}]}.
    No value is lost or replaced: all values of a line become siblings, beside what the store has
    under that key already; merge them with `update` of the client library. The same line is one
    event when it is sent again within ten minutes. A run that was interrupted goes on from
    FILE.checkpoint.
    """
    session: Session = ctx.obj
    data = Path(file) if file != "-" else None
    values = 0
    with _io_told(file), ExitStack() as stack:
        source = stack.enter_context(_open(data, "rb")) if data else sys.stdin.buffer
        client = stack.enter_context(session.client())
        with session.admin() as admin:
            cluster = admin.ring()["cluster_id"]
        run = stack.enter_context(Run(session, "import", data, cluster))
        place = run.place
        if data:
            source.seek(place.offset)
        work = batches(source, place.offset, place.lines)
        for batch, count in in_order(lambda batch: _put_all(client, batch), work):
            place.offset, place.lines = batch.offset, batch.lines
            values += count
            run.at(place.offset, data.stat().st_size if data else None, place.lines)
    _end(session, "imported", run, place.lines, values)


@contextmanager
def _io_told(file: str) -> Iterator[None]:
    """A file or its disk that does not take what is written ends the command with one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or (file if file != "-" else "standard output")
        raise Failed(f"{where}: {error.strerror}", field="FILE") from None


def _open(file: Path, mode: str) -> BinaryIO:
    try:
        return file.open(mode)  # type: ignore[return-value]
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}", USAGE, "FILE") from None


def _end(session: Session, done: str, run: Run, lines: int, values: int) -> None:
    words = f"{lines:,} keys {done}, {values:,} values"
    document = {"keys": lines, "values": values, "keys_before": run.before}
    session.show(document, words + f" after the {run.before:,} keys of before" * bool(run.before))


def _get_all(client: DynamoClient, keys: list[bytes]) -> list[Line]:
    """A key that was deleted since it was listed has no line."""
    lines = []
    for key, result in zip(keys, client.batch(list(map(GetOp, keys))) if keys else [], strict=True):
        if result.error is not None:
            raise result.error
        assert result.found is not None
        if values := [Value(one.data, one.content_type) for one in result.found.values]:
            text = text_of(key)
            lines.append(Line(key=key if text is None else None, key_text=text, values=values))
    return lines


def _chunks(admin: AdminClient, partitions: range) -> Iterator[tuple[int, list[bytes]]]:
    for partition in partitions:
        chunk: list[bytes] = []
        for key in admin.keys(partition=partition):
            chunk.append(key)
            if len(chunk) == BATCH_OPERATIONS:
                yield partition, chunk
                chunk = []
        yield partition, chunk


@commands.command()
def export(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="Default: standard output.")
    ] = "-",
) -> None:
    """Write every live key with all its siblings as NDJSON, partition by partition.

    Not a snapshot: a key that changes meanwhile is there as it was before or after. A run that was
    interrupted goes on from FILE.checkpoint; without one, FILE is written anew.
    """
    session: Session = ctx.obj
    data = Path(file) if file != "-" else None
    with _io_told(file), ExitStack() as stack:
        sink = stack.enter_context(_open(data, "ab")) if data else sys.stdout.buffer
        client = stack.enter_context(session.client())
        admin = stack.enter_context(session.admin())
        ring = admin.ring()
        run = stack.enter_context(Run(session, "export", data, ring["cluster_id"]))
        place, values = run.place, 0
        if data:
            sink.truncate(place.offset)
        lines = place.lines
        work = _chunks(admin, range(place.partition, ring["partitions"]))
        for (partition, _), found in in_order(lambda chunk: _get_all(client, chunk[1]), work):
            if data and partition > place.partition:
                sink.flush()
                place.partition, place.offset, place.lines = partition, sink.tell(), lines
            sink.writelines(msgspec.json.encode(line) + b"\n" for line in found)
            lines += len(found)
            values += sum(len(line.values) for line in found)
            run.at(partition, ring["partitions"], lines)
        sink.flush()
    if data:
        _end(session, "exported", run, lines, values)
