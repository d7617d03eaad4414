"""Client library of dynamo-ring. Needs dynamo_core, never dynamo_node.

    from dynamo_client import DynamoClient, cart_union

    with DynamoClient("http://127.0.0.1:7101", "http://127.0.0.1:7102") as client:
        client.update("cart/7", cart_union(add={"line-1": {"article": "tea", "count": 2}}))
        found = client.get("cart/7")
        client.put("cart/7", b"{}", context=found.context)

`errors` has the tree of errors; `merges` has functions that merge siblings; AsyncDynamoClient has
the same methods.
"""

from typing import TYPE_CHECKING, Any

from dynamo_client.admin import AdminClient
from dynamo_client.answers import BatchResult, Found, Stored
from dynamo_client.batch import DeleteOp, GetOp, PutOp
from dynamo_client.client import DynamoClient
from dynamo_client.errors import (
    BadAnswer,
    BadContext,
    BadKey,
    BadParameter,
    BadRequest,
    ClientError,
    Conflict,
    ConnectionFailed,
    Draining,
    Forbidden,
    InsufficientOwners,
    NotAMember,
    NotFound,
    NotMergeable,
    Overloaded,
    QuorumNotMet,
    RequestIdReused,
    SiblingsFound,
    TooManySiblings,
    Unauthorized,
    Unavailable,
    ValueTooLarge,
    WrongUse,
)
from dynamo_client.merges import (
    Merge,
    cart_union,
    counter,
    counter_value,
    last_value,
    last_writer,
    set_union,
)
from dynamo_client.tls import Tls
from dynamo_client.token_file import TokenFile
from dynamo_client.versions import Acks, Version

if TYPE_CHECKING:
    from dynamo_client.async_client import AsyncDynamoClient

# fmt: off
__all__ = [
    "Acks", "AdminClient", "AsyncDynamoClient", "BadAnswer", "BadContext", "BadKey",
    "BadParameter", "BadRequest", "BatchResult", "ClientError", "Conflict", "ConnectionFailed",
    "DeleteOp", "Draining", "DynamoClient", "Forbidden", "Found", "GetOp",
    "InsufficientOwners", "Merge",
    "NotAMember", "NotFound", "NotMergeable", "Overloaded", "PutOp", "QuorumNotMet",
    "RequestIdReused", "SiblingsFound", "Stored", "Tls", "TokenFile", "TooManySiblings",
    "Unauthorized",
    "Unavailable", "ValueTooLarge", "Version", "WrongUse", "cart_union", "counter", "counter_value",
    "last_value", "last_writer", "set_union",
]
# fmt: on


def __getattr__(name: str) -> Any:
    """Loads the asyncio client when a program first uses it."""
    if name != "AsyncDynamoClient":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dynamo_client.async_client import AsyncDynamoClient

    return AsyncDynamoClient
