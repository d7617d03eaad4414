"""A client's token is what its file has now, against a node that asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from client_listener import Listener

from dynamo_client import AsyncDynamoClient, BadParameter, DynamoClient, Forbidden, Unauthorized
from dynamo_client.token_file import TokenFile
from dynamo_node.http_limits import Limits
from dynamo_node.rights import Rights, Rule


def rights(*tokens: str) -> Rights:
    return Rights([
        Rule(token_sha256=sha256(token.encode()).hexdigest(), prefixes=["a"], verbs=["get", "put"])
        for token in tokens
    ])  # fmt: skip


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


@pytest.mark.parametrize("text", ["", "\n", "a\nb", "\u00fc", "x" * 20_000])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(BadParameter, match="token_file: "):
        TokenFile(file)
    with pytest.raises(BadParameter, match="No such file"):
        TokenFile(tmp_path / "none")
