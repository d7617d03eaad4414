"""A client's token is the present content of its file, tested with a node that asks for one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from threading import Thread

import pytest

from dynamo_client import (
    AdminClient,
    AsyncDynamoClient,
    BadParameter,
    DynamoClient,
    Forbidden,
    Unauthorized,
)
from dynamo_client.token_file import TokenFile
from dynamo_node.http_limits import Limits
from dynamo_node.rights import Rights, Rule
from dynamoctl.credentials import Credentials
from dynamoctl.inside import streamed
from dynamoctl.session import Session
from tests.dynamo_node.http.client_listener import Listener


def rights(*tokens: str) -> Rights:
    return Rights(
        [
            Rule(
                token_sha256=sha256(token.encode()).hexdigest(),
                prefixes=["a"],
                verbs=["get", "put"],
            )
            for token in tokens
        ]
    )


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener("protocol", Limits(1 << 20), rights=rights("one", "two"))
    yield listener
    listener.stop()


def put(file: Path, token: str) -> None:
    """As Kubernetes does: a new file in the place of the old one."""
    new = file.with_suffix(".new")
    new.write_text(token + "\n")
    new.rename(file)


def test_a_token_that_changes_is_followed(listener: Listener, tmp_path: Path) -> None:
    file = tmp_path / "token"
    put(file, "one")
    with DynamoClient(listener.url, token_file=file, routing=False) as client:
        client.put("a", b"1")
        put(file, "two")
        access = listener.driver.access
        assert access is not None
        listener.call(lambda: access.take(rights("two")))
        assert client.get("a").value == b"1"
        file.unlink()
        assert client.get("a").value == b"1", "the last good one"
        with pytest.raises(Forbidden):
            client.get("b")
        listener.call(lambda: access.take(rights("one")))
        with pytest.raises(Unauthorized):
            client.get("a")


def test_the_same_under_asyncio(listener: Listener, tmp_path: Path) -> None:
    file = tmp_path / "token"
    put(file, "one")

    async def body() -> None:
        async with AsyncDynamoClient(listener.url, token_file=file, routing=False) as client:
            await client.put("a", b"1")
            put(file, "none")
            with pytest.raises(Unauthorized):
                await client.get("a")

    asyncio.run(body())


def test_an_administrator_follows_the_file_as_well(tmp_path: Path) -> None:
    """A program in a pod whose ServiceAccount is an administrator, and `dynamoctl --token-file`."""
    one, two = (sha256(token).hexdigest() for token in (b"one", b"two"))
    rules = {token: Rights([Rule(token_sha256=token, admin=True)]) for token in (one, two)}
    listener = Listener("admin", Limits(1 << 20), rights=rules[one])
    access, file = listener.driver.access, tmp_path / "token"
    assert access is not None
    put(file, "one")
    try:
        credentials = Credentials(token_file=file)
        session = Session([], [listener.url], credentials.token(), as_json=True)
        with (
            AdminClient(listener.url, TokenFile(file)) as program,
            AdminClient(listener.url, session.token) as command,
        ):
            assert program.status()["name"] == command.status()["name"] == "a"
            put(file, "two")
            listener.call(lambda: access.take(rules[two]))
            assert program.status()["name"] == command.status()["name"] == "a"
            stream = streamed(session, listener.url + "/v1/events")
            assert next(stream)[0] > 0
            stream.close()
    finally:
        listener.stop()


def test_a_token_that_is_written_into_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=lambda: pipe.write_text("one\n"))
    writer.start()
    assert Credentials(token_file=pipe).token() == "one"
    writer.join(10)


@pytest.mark.parametrize("text", ["", "\n", "a\nb", "\u00fc", "x" * 20_000])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(BadParameter, match="token_file: "):
        TokenFile(file)
    with pytest.raises(BadParameter, match="No such file"):
        TokenFile(tmp_path / "none")
