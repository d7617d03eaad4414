"""Every call ends within its deadline: slow nodes, a broken network, cancelled calls."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from dynamo_client import (
    AsyncDynamoClient,
    ClientError,
    ConnectionFailed,
    DynamoClient,
    PutOp,
    WrongUse,
    set_union,
)
from dynamo_client.async_pool import INTERRUPTED_MAX
from dynamo_client.batch import batch
from dynamo_client.pool import CONNECTIONS_MAX
from dynamo_client.steps import Ask, Failure, Reply, Steps
from tests.dynamo_client.stepping import LOST, REFUSED, World, absent, record, refused, ring, stored

SCHEDULES = 10_000
BOUND_S = 30.0
JOIN_S = 60.0
"""Time limit of a test that waits for an event; much longer than the event takes."""


def leaves_connections_to_the_collector(test: Callable[..., None]) -> Callable[..., None]:
    """httpcore leaves a connection that was cut while it was made to the collector: that it does
    is why the pool is made anew."""
    for warning in ("pytest.PytestUnraisableExceptionWarning", "ResourceWarning"):
        test = pytest.mark.filterwarnings(f"ignore::{warning}")(test)
    return test


def erratic(world: World, draw: random.Random) -> Callable[[Ask], Reply | Failure]:
    """A network and nodes that do anything: each request takes any time up to its own timeout, and
    may wait for a connection before."""
    kinds = draw.choices(range(7), k=draw.randint(1, 4))
    crowded = draw.random() < 0.3

    def answer(ask: Ask) -> Reply | Failure:
        kind = draw.choice(kinds)
        waited_s = draw.random() ** 2 * ask.whole_s if crowded else 0.0
        took_s = 1.0 if kind == 0 else draw.random() ** 3
        world.now += waited_s + took_s * min(ask.timeout_s, ask.whole_s - waited_s)
        if kind == 0:
            return Failure(True, "silent")
        if kind == 1:
            return draw.choice((REFUSED, LOST))
        if kind in (2, 3):
            slug = draw.choice(("quorum-not-met", "overloaded", "draining"))
            applied = draw.choice(("no", "unknown"))
            pause = draw.choice(("0", "1", "9", "60"))
            return refused(503, slug, {"dynamo-applied": applied, "retry-after": pause})
        if ask.url.endswith("/v1/ring"):
            return ring()
        if ask.method == "GET":
            return draw.choice((record(b"[1]"), absent()))
        return refused(409, "too-many-siblings") if kind == 4 else stored()

    return answer


def some_call(world: World, draw: random.Random) -> Steps[Any]:
    client = world.client
    return draw.choice(
        (
            lambda: client.get("k", deadline_s=1),
            lambda: client.put("k", "v", deadline_s=1),
            lambda: client.delete("k", deadline_s=1),
            lambda: client.update("k", set_union(add=[2]), deadline_s=1),
            lambda: client.update("k", set_union(add=[2]), always_write=True, deadline_s=1),
            lambda: batch(client, [PutOp("k", "v")] * draw.choice((1, 300)), deadline_s=1),
        )
    )()


def test_a_deadline_holds_over_all_attempts_pauses_and_schedules() -> None:
    longest = 0.0
    for seed in range(SCHEDULES):
        draw = random.Random(seed)
        world = World(
            *draw.sample(("http://e1", "http://e2", "http://e3"), draw.randint(1, 3)),
            routing=draw.random() < 0.5,
            attempts_max=draw.randint(1, 8),
        )
        began = world.now
        with suppress(ClientError):
            world.run(some_call(world, draw), erratic(world, draw))
        longest = max(longest, world.now - began)
        assert world.now - began <= 1.2, f"schedule {seed}"
    assert longest > 0.9, "no schedule came near its deadline: they show nothing"


def test_the_first_attempt_leaves_time_for_another_one() -> None:
    world = World("http://e1", "http://e2")

    def one_is_silent(ask: Ask) -> Reply | Failure:
        if ask.url.startswith("http://e1"):
            world.now += ask.timeout_s
            return LOST
        return record(b"v")

    assert world.run(world.client.get("k", deadline_s=1), one_is_silent).value == b"v"
    assert [ask.timeout_s for ask in world.asked] == [0.5, pytest.approx(0.25, abs=0.05)]
    assert "timeout_ms=450" in world.asked[0].url


# ---------------------------------------------------------------- real sockets


class Server:
    """Answers gets of the key `k`, byte by byte or not at all if told so; each answer takes
    `pace_s`."""

    def __init__(self) -> None:
        self.silent = False
        self.pace_s = 0.0
        self.drop_by_drop = False
        self.asked = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(0.05)
        heard = b""
        with connection:
            while not self._stop.is_set():
                try:
                    more = connection.recv(65536)
                except TimeoutError:
                    continue
                except OSError:
                    return
                if not more:
                    return
                heard += more
                while b"\r\n\r\n" in heard:
                    head, _, heard = heard.partition(b"\r\n\r\n")
                    self.asked += 1
                    if not self._answer(connection, head):
                        return

    def _answer(self, connection: socket.socket, head: bytes) -> bool:
        key = head.split(b"/v1/kv/")[1].split(b"?")[0].decode()
        reply = record(b"v", key=key.encode())
        body = reply.body
        text = b"HTTP/1.1 200 OK\r\nDynamo-Node: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        if self._stop.wait(self.pace_s):
            return False
        try:
            if self.drop_by_drop:
                connection.sendall(text)
                for at in range(len(body)):
                    if self._stop.wait(0.1):
                        return False
                    connection.sendall(body[at : at + 1])
            elif not self.silent:
                connection.sendall(text + body)
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self._stop.set()
        # A thread in accept() wakes when the listener is shut down, not when it is closed.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(JOIN_S)
            assert not thread.is_alive(), f"the server did not end in {JOIN_S:g} s"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize("how", ["silent", "drop_by_drop"])
def test_a_node_that_does_not_end_its_answer_costs_no_more_than_the_deadline(
    server: Server, how: str
) -> None:
    setattr(server, how, True)

    async def ask() -> None:
        async with AsyncDynamoClient(server.url, routing=False) as client:
            with pytest.raises(ConnectionFailed):
                await client.get("k", deadline_s=0.5)

    with within(BOUND_S / 2):
        asyncio.run(ask())
        with (
            DynamoClient(server.url, routing=False) as client,
            pytest.raises(ConnectionFailed, match=r"in time|Timeout"),
        ):
            client.get("k", deadline_s=0.5)


@leaves_connections_to_the_collector
def test_after_many_cancelled_calls_the_client_still_answers(server: Server) -> None:
    """httpcore loses connections of cancelled calls; our client must go on working."""

    async def web_handlers() -> None:
        async with AsyncDynamoClient(server.url, routing=False) as client:
            draw = random.Random(1)
            cut = done = 0
            for _ in range(12):
                calls = [
                    asyncio.wait_for(client.get("k"), draw.random() * 0.02)
                    for _ in range(2 * CONNECTIONS_MAX)
                ]
                for outcome in await asyncio.gather(*calls, return_exceptions=True):
                    cut += isinstance(outcome, TimeoutError)
                    done += not isinstance(outcome, BaseException)
            assert cut > INTERRUPTED_MAX, "too few calls were cut: this shows nothing"
            after = await asyncio.gather(*[client.get("k") for _ in range(2 * CONNECTIONS_MAX)])
            assert {found.value for found in after} == {b"v"}

    asyncio.run(asyncio.wait_for(web_handlers(), BOUND_S))
    gc.collect()


def test_calls_that_wait_for_a_connection_end_at_their_deadline(server: Server) -> None:
    server.silent = True

    async def crowd() -> list[Any]:
        async with AsyncDynamoClient(server.url, routing=False, attempts_max=1) as client:
            calls = [client.get("k", deadline_s=0.3) for _ in range(3 * CONNECTIONS_MAX)]
            return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = asyncio.run(asyncio.wait_for(crowd(), BOUND_S))
    assert {type(outcome) for outcome in outcomes} == {ConnectionFailed}


def test_more_calls_than_connections_take_turns(server: Server) -> None:
    """The wait for a connection is no part of an attempt. Else the calls that have waited longest
    are cut off on the connection for which they have waited, and the others wait longer for it."""
    server.pace_s = 3.5
    calls = CONNECTIONS_MAX + 1
    how: dict[str, Any] = {"routing": False, "attempts_max": 1, "timeout_s": 6.5}
    assert server.pace_s < how["timeout_s"] < 2 * server.pace_s

    async def tasks() -> list[bytes]:
        async with AsyncDynamoClient(server.url, **how, deadline_s=BOUND_S) as client:
            found = await asyncio.gather(*[client.get("k") for _ in range(calls)])
        return [each.value for each in found]

    def threads() -> list[bytes]:
        with (
            DynamoClient(server.url, **how, deadline_s=BOUND_S) as client,
            ThreadPoolExecutor(calls) as pool,
        ):
            return list(pool.map(lambda _: client.get("k").value, range(calls)))

    async def both() -> list[list[bytes]]:
        return await asyncio.gather(tasks(), asyncio.to_thread(threads))

    assert asyncio.run(both()) == [[b"v"] * calls] * 2
    assert server.asked == 2 * calls


class Interrupted(Exception):
    """Raised by a signal handler."""


@leaves_connections_to_the_collector
def test_an_exception_out_of_a_signal_handler_leaves_a_client_that_works(server: Server) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with DynamoClient(server.url, routing=False) as client:
            assert client.get("k").value == b"v"
            for _ in range(CONNECTIONS_MAX + 1):
                server.silent = True
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                with pytest.raises(Interrupted):
                    client.get("k")
            server.silent = False
            assert client.get("k").value == b"v"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()


def test_a_client_goes_on_after_a_fork_on_connections_of_its_own(server: Server) -> None:
    """Both sides of one connection would read each other's answers."""
    with DynamoClient(server.url, routing=False) as client:
        client.get("k")
        children = []
        for child in range(3):
            process = os.fork()
            if not process:
                right = all(
                    client.get(f"k{child}{n}").key == f"k{child}{n}".encode() for n in range(50)
                )
                os._exit(0 if right else 1)
            children.append(process)
        assert all(client.get(f"p{n}").key == f"p{n}".encode() for n in range(50))
        assert [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in children] == [0, 0, 0]


# The first loops end with connections open: that is what is tried here.
@leaves_connections_to_the_collector
def test_a_second_event_loop_is_wrong_while_the_first_lives_and_right_after(
    server: Server,
) -> None:
    client = AsyncDynamoClient(server.url, routing=False)

    async def ask() -> bytes:
        return (await client.get("k")).value

    for _ in range(3):
        assert asyncio.run(ask()) == b"v"

    async def in_two() -> None:
        await client.get("k")
        with pytest.raises(WrongUse, match="another event loop"):
            await asyncio.to_thread(asyncio.run, ask())
        await client.aclose()
        with pytest.raises(WrongUse, match="closed"):
            await client.get("k")

    asyncio.run(in_two())
    gc.collect()  # warnings about open connections come here, not in another test
