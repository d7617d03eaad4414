"""Valid values of single settings: names, addresses, targets, counts."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from dynamo_archive.sealing import BadKey, Sealing
from dynamo_archive.targets import url_fault
from dynamo_core.bounds import name_fault
from dynamo_core.keys import KEY_BYTES_MAX


def split_address(text: str) -> tuple[str, int]:
    """host and port of `host:port`, `[::1]:port` or `:port`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ValueError("needs host:port, with a port from 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _address(text: str) -> str:
    split_address(text)
    return text


def _dialled(text: str) -> str:
    host, port = split_address(text)
    if not host or not port:
        raise ValueError("needs a host:port that other machines can dial")
    return text


def _url_begin(text: str) -> str:
    if fault := url_fault(text):
        raise ValueError(fault)
    return text


def _prefix(text: str) -> str:
    if len(text.encode()) > KEY_BYTES_MAX:
        raise ValueError(f"a key has at most {KEY_BYTES_MAX} bytes")
    return text


def _recipient(text: str) -> str:
    try:
        Sealing((text,))
    except BadKey as error:
        raise ValueError(str(error)) from None
    return text


def _receiver(text: str) -> str:
    parts = urlsplit(text)
    if text and not (parts.scheme in ("http", "https") and parts.hostname):
        raise ValueError("needs a URL like http://host:4318")
    return text


def _name(text: str) -> str:
    if fault := name_fault(text):
        raise ValueError(fault)
    return text


def _copy_source(text: str) -> str:
    if text and not re.fullmatch(r"[^ ]+ [^ ]+", text):
        raise ValueError(
            "needs the cluster of the copied disks, a space, and an id of the new ring"
        )
    return text


Name = Annotated[str, AfterValidator(_name)]
CopySource = Annotated[str, AfterValidator(_copy_source)]
Address = Annotated[str, AfterValidator(_address)]
Dialled = Annotated[str, AfterValidator(_dialled)]
UrlBegin = Annotated[str, AfterValidator(_url_begin)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Recipient = Annotated[str, AfterValidator(_recipient)]
Receiver = Annotated[str, AfterValidator(_receiver)]
Count = Annotated[int, Field(ge=1)]
Listened = Literal["off", "allow", "on", "mutual"]


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a listener at the address."""
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def take_config(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Takes `--config FILE` out: it says where settings are and is no setting itself.
    Raises ValueError."""
    for at, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return arguments[:at] + arguments[at + 1 :], Path(argument.partition("=")[2])
        if argument == "--config":
            if at + 1 == len(arguments):
                raise ValueError("config: needs a file")
            return arguments[:at] + arguments[at + 2 :], Path(arguments[at + 1])
    return arguments, None
