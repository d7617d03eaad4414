"""`export`: the whole store as NDJSON, one key in each line; and the part shared with `import`: a
run that shows its progress and keeps a checkpoint.

    {"key_text": "cart-1", "values": [{"data": "<base64>", "content_type": "text/plain"}]}

`key`, base64 of the key, replaces `key_text` if the key is not UTF-8. A value with an expiry has
`expires_at`, the time in RFC 3339 (S-TTL-2).
"""

from __future__ import annotations

import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, BinaryIO, Self, TypeVar

import msgspec
import typer

from dynamo_client import AdminClient, ClientError, DynamoClient, GetOp, Version
from dynamo_client.expiry import time_text
from dynamoctl.room import room
from dynamoctl.rows import Line, Value
from dynamoctl.session import USAGE, Failed, Session, text_of

BATCH_OPERATIONS = 32
AT_ONCE = 4
"""Batches under way; this number and their size bound the memory."""
SAVE_S = 0.5
TAIL_BYTES = 4096
commands = room()
Item = TypeVar("Item")
Result = TypeVar("Result")


class Place(msgspec.Struct):
    """The progress: everything before `offset` of the file is done. `partition` is where an export
    goes on; `tail` is a digest of the bytes before the offset, `cluster` the ring's id."""

    cluster: str
    offset: int = 0
    lines: int = 0
    partition: int = 0
    tail: str = ""
    keys: int = 0
    run: str = ""
    """Tells the puts of this import from those of other imports."""


class Run:
    """One import or export: its progress, shown on the terminal and stored in a checkpoint beside
    the file, which is removed at the end. Without a file (`data` None) there is no checkpoint."""

    def __init__(self, session: Session, what: str, data: Path | None, cluster: str) -> None:
        self._session = session
        self.data = data
        self.place = Place(cluster)
        if data is not None:
            self.checkpoint = data.with_name(data.name + ".checkpoint")
            if self.checkpoint.exists():
                self.place = self._kept(cluster)
        self.before = self.place.lines
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn(what),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(),
            console=session.err,
            transient=True,
            disable=session.as_json or not session.err.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, said="")
        self._began = self._saved_at = time.monotonic()
        self._told = False

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        self._progress.stop()
        if self.data is not None and kind is None:
            if self.checkpoint.exists():  # on a read-only disk even this unlink would fail
                self.checkpoint.unlink()
        elif self.data is not None:
            self._save()
        if isinstance(error, KeyboardInterrupt) and self.data is not None:
            self._session.err.print(f"after line {self.place.lines}; run it again to go on")
        if isinstance(error, ClientError):
            again = "; run it again to go on" if self.data is not None else ""
            raise Failed(f"after line {self.place.lines}: {error}{again}") from None

    def at(self, done: int, total: int | None, lines: int) -> None:
        """Shows the progress; `place` is up to date."""
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
            raise Failed(f"{self.checkpoint}: {error}; remove it to start again") from None
        if place.cluster != cluster or place.tail != self._tail(place.offset):
            raise Failed(f"{self.checkpoint}: of another file or ring; remove it to start again")
        return place

    def _save(self) -> None:
        """If the directory accepts no file, the run goes on without a checkpoint, and says so."""
        self.place.tail = self._tail(self.place.offset)
        new = self.checkpoint.with_name(self.checkpoint.name + ".new")
        self._saved_at = time.monotonic()
        try:
            new.write_bytes(msgspec.json.encode(self.place))
            new.replace(self.checkpoint)
        except OSError as error:
            if not self._told:
                self._told = True
                words = f"{self.checkpoint}: {error.strerror}; if interrupted, the run starts again"
                self._session.err.print(words, soft_wrap=True)

    def _tail(self, offset: int) -> str:
        assert self.data is not None
        with self.data.open("rb") as file:
            file.seek(max(0, offset - TAIL_BYTES))
            return blake2b(file.read(min(offset, TAIL_BYTES)), digest_size=16).hexdigest()


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    """Results in the order of the items; AT_ONCE of them are under way."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > AT_ONCE:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


@contextmanager
def io_told(file: str) -> Iterator[None]:
    """An error while a file is written ends the command with one line."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = error.filename or (file if file != "-" else "standard output")
        raise Failed(f"{where}: {error.strerror}", field="FILE") from None


def regular(file: str) -> bool:
    """Whether an interrupted run can go on in the file: it is not a pipe or a device. Raises Failed
    if it does not exist."""
    try:
        return stat.S_ISREG(Path(file).stat().st_mode)
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}", USAGE, "FILE") from None


def opened(file: Path, mode: str) -> BinaryIO:
    """A file, open. Raises Failed."""
    try:
        return file.open(mode)  # type: ignore[return-value]
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}", USAGE, "FILE") from None


def _end(session: Session, run: Run, lines: int, values: int) -> None:
    words = f"{lines:,} keys exported, {values:,} values"
    document = {"keys": lines, "values": values, "keys_before": run.before}
    session.show(document, words + f" after {run.before:,} earlier keys" * bool(run.before))


def _value_of(version: Version) -> Value:
    until = None if version.expires_at is None else time_text(version.expires_at)
    return Value(version.data, version.content_type, until, version.content_encoding)


def lines_of(client: DynamoClient, keys: list[bytes]) -> list[Line]:
    """The lines of these keys; a key that was deleted since the listing has no line."""
    lines = []
    for key, result in zip(keys, client.batch(list(map(GetOp, keys))) if keys else [], strict=True):
        if result.error is not None:
            raise result.error
        assert result.found is not None
        if values := list(map(_value_of, result.found.values)):
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

    Not a snapshot: a key that changes meanwhile has its old or its new values. An interrupted run
    goes on from FILE.checkpoint; without a checkpoint, FILE is overwritten.
    """
    session: Session = ctx.obj
    data = Path(file) if file != "-" and (not Path(file).exists() or regular(file)) else None
    with io_told(file), ExitStack() as stack:
        sink = stack.enter_context(opened(Path(file), "ab")) if file != "-" else sys.stdout.buffer
        client = stack.enter_context(session.client())
        admin = stack.enter_context(session.admin())
        ring = admin.ring()
        run = stack.enter_context(Run(session, "export", data, ring["cluster_id"]))
        place, values = run.place, 0
        if data:
            sink.truncate(place.offset)
        lines = place.lines
        work = _chunks(admin, range(place.partition, ring["partitions"]))
        for (partition, _), found in in_order(lambda chunk: lines_of(client, chunk[1]), work):
            if data and partition > place.partition:
                sink.flush()
                place.partition, place.offset, place.lines = partition, sink.tell(), lines
            sink.writelines(msgspec.json.encode(line) + b"\n" for line in found)
            lines += len(found)
            values += sum(len(line.values) for line in found)
            run.at(partition, ring["partitions"], lines)
        sink.flush()
    if data:
        _end(session, run, lines, values)
