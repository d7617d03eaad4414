"""The client listener as a plain ASGI application: slower than `kv_protocol`, the same answers."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from dynamo_node.access import Asker
from dynamo_node.client_api import ClientApi
from dynamo_node.problems import Answer


class KvApp:
    """Reads the whole request, passes it on, and waits for the answer."""

    def __init__(self, api: ClientApi) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        query = scope["query_string"]
        url = scope["raw_path"] + (b"?" + query if query else b"")
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answers, held = self._api.books.answers, 0
        asker: Asker = scope["dynamo_asker"]
        principal = asker.address

        def done(answer: Answer) -> None:
            nonlocal held
            if not answered.done():
                # Counted now: the next answer may be made before this task runs again (T-4).
                if held := len(answer.body):
                    answers.take(principal, held)
                answered.set_result(answer)

        headers = list(scope["headers"])
        self._api.answer(scope["method"], url, headers, bytes(body), done, asker)
        try:
            await self._say(await answered, send)
        finally:
            if held:
                answers.give(principal, held)

    async def _say(self, answer: Answer, send: Send) -> None:
        """Writes part by part, and waits while the client does not read what was sent."""
        status, head, content = answer
        lines: list[Any] = [line.split(b": ", 1) for line in head.split(b"\r\n")[:-1]]
        headers = [(name.lower(), value) for name, value in lines]
        if status not in (204, 304):
            headers.append((b"content-length", b"%d" % len(content)))
        if self._api.node.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})
