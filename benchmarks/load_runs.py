"""Load generators for the stores: wrk, h2load, or our own `loadgen.py`, and their results.

Every load is a separate process, so that this process does not pay for the generator.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

CONNECTIONS = 48
BATCH = 32
KEYS = 20_000
VALUE_BYTES = 1024
REST_S_MAX = 30.0
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Sample:
    """One measurement; latencies in ms of a request."""

    operations: int
    seconds: float
    failed: int
    p50: float
    p99: float
    p999: float
    generator: str = ""
    said: str = ""

    @property
    def rate(self) -> float:
        """Successful operations a second."""
        return self.operations / self.seconds


def _nothing(operations: int) -> None:
    """Ignores the number."""


@dataclass
class Load:
    """Commands that run at once, and how to read their output."""

    generator: str
    commands: Callable[[float], list[list[str]]]
    read: Callable[[list[str], float], Sample]
    told: Callable[[int], None] = field(default=_nothing)

    def run(self, seconds: float) -> Sample:
        """Loads for this time. Raises RuntimeError if a generator fails."""
        running = [
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                stdin=subprocess.DEVNULL,
            )
            for command in self.commands(seconds)
        ]
        try:
            said = [process.communicate(timeout=seconds + REST_S_MAX)[0] for process in running]
        finally:
            for process in running:
                process.kill()
                process.wait(REST_S_MAX)
        for process, text in zip(running, said, strict=True):
            if process.returncode:
                raise RuntimeError(f"{self.generator} failed: {text[-500:]}")
        sample = self.read(said, seconds)
        self.told(sample.operations)
        return sample


def _last_line(said: list[str], generator: str) -> Sample:
    *rest, line = said[0].strip().splitlines()
    measured = json.loads(line)
    return Sample(**measured, generator=generator, said=rest[-1] if rest else "")


def own(
    mode: str, addresses: list[str], *, prefix: str = "new-", query: str = "", keys: int = KEYS,
    connections: int = CONNECTIONS, aware: bool = False,
) -> Load:  # fmt: skip
    """`loadgen.py`; `aware`: each get and put goes to an owner of its key."""

    def commands(seconds: float) -> list[list[str]]:
        return [[
            sys.executable, str(HERE / "loadgen.py"), mode, f"--seconds={seconds}",
            f"--connections={connections}", f"--keys={keys}", f"--bytes={VALUE_BYTES}",
            f"--prefix={prefix}", f"--query={query}", *["--aware"] * aware, *addresses,
        ]]  # fmt: skip

    return Load("own", commands, lambda said, _: _last_line(said, "own"))


def wrk(
    kind: str, addresses: list[str], *, prefix: str = "", query: str = "", cpu: int | None = None,
    connections: int = CONNECTIONS,
    scheme: str = "http",
) -> Load:  # fmt: skip
    """wrk with `wrk/load.lua`, one thread for each address; if it is missing, `loadgen.py`, which
    knows no TLS."""
    if shutil.which("wrk") is None:
        new = prefix or "new-"
        return own(kind, addresses, prefix=new, query=query, connections=connections)

    def commands(seconds: float) -> list[list[str]]:
        pinned = ["taskset", "-c", str(cpu)] if cpu is not None and shutil.which("taskset") else []
        # wrk counts whole seconds.
        return [[
            *pinned, "wrk", f"-t{min(len(addresses), connections)}", f"-c{connections}",
            f"-d{max(1, round(seconds))}", "-s", str(HERE / "wrk/load.lua"),
            f"{scheme}://{addresses[0]}", "--", kind, str(KEYS), str(VALUE_BYTES), prefix or "-",
            query or "-", *addresses,
        ]]  # fmt: skip

    def read(said: list[str], _: float) -> Sample:
        sample = _last_line(said, "wrk")
        good = sample.operations - sample.failed
        return Sample(
            good,
            sample.seconds,
            sample.failed,
            sample.p50,
            sample.p99,
            sample.p999,
            "wrk",
            sample.said,
        )

    return Load("wrk", commands, read)


def _varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of protocol buffers."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def etcd_message(kind: str, key: bytes, value: bytes) -> bytes:
    """PutRequest, RangeRequest, or a TxnRequest of 32 puts, behind gRPC's five bytes."""
    if kind == "get":
        message = _field(1, key)
    elif kind == "put":
        message = _field(1, key) + _field(2, value)
    else:
        puts = [_field(1, key + b"-%d" % i) + _field(2, value) for i in range(BATCH)]
        message = b"".join(_field(2, _field(2, put)) for put in puts)
    return b"\0" + len(message).to_bytes(4, "big") + message


def h2load(
    kind: str,
    addresses: list[str],
    directory: Path,
    value_bytes: int,
    connections: int = CONNECTIONS,
) -> Load:
    """gRPC to etcd: each process sends one message again and again to one member."""
    addresses = addresses[:connections]
    method = {"get": "Range", "put": "Put", "txn": "Txn"}[kind]
    logs = [directory / f"h2load-{index}" for index in range(len(addresses))]
    per_request = BATCH if kind == "txn" else 1

    def commands(seconds: float) -> list[list[str]]:
        made = []
        for index, address in enumerate(addresses):
            message = directory / f"message-{kind}-{index}"
            message.write_bytes(etcd_message(kind, b"key-%d" % index, b"v" * value_bytes))
            logs[index].unlink(missing_ok=True)
            made.append(
                [
                    "h2load",
                    "-t1",
                    "-m1",
                    f"-c{connections // len(addresses)}",
                    f"-D{seconds * 1000:.0f}ms",
                    f"--data={message}",
                    f"--log-file={logs[index]}",
                    "-H",
                    "content-type: application/grpc",
                    "-H",
                    "te: trailers",
                    f"http://{address}/etcdserverpb.KV/{method}",
                ]
            )
        return made

    def read(said: list[str], seconds: float) -> Sample:
        rows = [
            line.split("\t") for log in logs if log.exists() for line in log.open() if line.strip()
        ]
        good = sorted(int(row[2]) / 1000 for row in rows if row[1] == "200") or [0.0]
        p50, p99, p999 = (good[int(p * (len(good) - 1))] for p in (0.5, 0.99, 0.999))
        done = sum(row[1] == "200" for row in rows)
        failed = (len(rows) - done) * per_request
        return Sample(done * per_request, seconds, failed, p50, p99, p999, "h2load")

    return Load("h2load", commands, read)
