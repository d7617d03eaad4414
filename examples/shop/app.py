"""A web shop with carts and sessions: `uvicorn app:app`, then open http://127.0.0.1:8000/docs.

A cart may be changed at two tills at once, and no line is lost: `update` reads all siblings, merges
them with the change, and writes with their context. A session ends by its expiry, and each visit
makes it live longer. RING names the client listeners of some nodes, with commas.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_urlsafe
from typing import Annotated, Any

from fastapi import Cookie, FastAPI, HTTPException, Response
from pydantic import BaseModel, Field

from dynamo_client import AsyncDynamoClient, cart_union

ENDPOINTS = os.environ.get("RING", "http://127.0.0.1:7101,http://127.0.0.1:7102").split(",")
SESSION_S = 1800
ring: AsyncDynamoClient


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """One client for the whole process: it knows who owns which key."""
    global ring
    async with AsyncDynamoClient(*ENDPOINTS) as ring:
        yield


app = FastAPI(title="A shop on dynamo-ring", lifespan=lifespan)


class Line(BaseModel):
    """So many of one article."""

    article: str = Field(min_length=1, max_length=100)
    count: int = Field(ge=1, le=1000)


async def customer(session: str | None) -> str:
    """The customer of a session, which lives on from now."""
    found = await ring.get(f"session:{session}") if session else None
    if found is None or not found.exists:
        raise HTTPException(401, "log in first")
    value = found.values[0].data
    await ring.put(f"session:{session}", value, context=found.context, expires_in_s=SESSION_S)
    return str(json.loads(value)["customer"])


@app.post("/login/{name}", status_code=204)
async def login(name: str, response: Response) -> None:
    """A session that ends half an hour after its last use."""
    session = token_urlsafe()
    await ring.put(f"session:{session}", json.dumps({"customer": name}), expires_in_s=SESSION_S)
    response.set_cookie("session", session, max_age=SESSION_S, httponly=True, samesite="strict")


@app.post("/cart", status_code=204)
async def add(line: Line, session: Annotated[str | None, Cookie()] = None) -> None:
    """One more line; other tills may add theirs at the same time."""
    name = await customer(session)
    await ring.update(f"cart:{name}", cart_union(add={token_urlsafe(9): line.model_dump()}))


@app.get("/cart")
async def cart(session: Annotated[str | None, Cookie()] = None) -> list[dict[str, Any]]:
    """All lines. A reader sees the union of siblings, and the next `add` writes it."""
    found = await ring.get(f"cart:{await customer(session)}")
    lines: dict[str, Any] = {}
    for version in found.values:
        lines |= json.loads(version.data)
    return list(lines.values())


@app.delete("/login", status_code=204)
async def logout(session: Annotated[str | None, Cookie()] = None) -> None:
    """Ends the session at once."""
    if session:
        await ring.delete(f"session:{session}")
