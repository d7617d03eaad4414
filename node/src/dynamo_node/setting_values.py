"""What single settings may be: names, addresses, targets, counts."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dynamo_core.bounds import name_fault


def split_address(text: str) -> tuple[str, int]:
    """host and port of `host:port`, `[::1]:port` or `:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError("wants host:port, the port 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _address(text: str) -> str:
    split_address(text)
    return text


def _dialled(text: str) -> str:
    host, port = split_address(text)
    if not host or not port:
        raise ValueError("wants host:port that others can dial")
    return text


def _name(text: str) -> str:
    if fault := name_fault(text):
        raise ValueError(fault)
    return text


Name = Annotated[str, AfterValidator(_name)]
Address = Annotated[str, AfterValidator(_address)]
Dialled = Annotated[str, AfterValidator(_dialled)]
Count = Annotated[int, Field(ge=1)]
Listened = Literal["off", "allow", "on", "mutual"]


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a listener."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
