"""Who may do what: the file of rights as values (docs/security.md#rights).

A rule gives rights to one name: `get`, `put`, `delete` and `list` on keys that begin with one of
its prefixes, and, independent of keys, `admin`. Everything that no rule allows is refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from dynamo_core.keys import KEY_BYTES_MAX

RULES_MAX = 10_000
FILE_BYTES_MAX = 8 * 1024 * 1024
SERVICE_ACCOUNT, CERTIFICATE, TOKEN = "sa:", "cert:", "token:"
"""Prefixes of names, so that a name of one kind never equals a name of another kind."""
Verb = Literal["get", "put", "delete", "list"]
Word = Annotated[str, Meta(max_length=512)]
_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9.-]{0,252}/[a-z0-9][a-z0-9.-]{0,252}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BadRights(Exception):
    """One line for people that names the rule."""


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """One rule of the file. One of the first three fields says who; `name` is a token's name."""

    service_account: Word = ""
    certificate: Word = ""
    token_sha256: Word = ""
    name: Word = ""
    prefixes: Annotated[list[Word], Meta(max_length=1024)] = []
    verbs: list[Verb] = []
    admin: bool = False


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file."""

    rules: Annotated[list[Rule], Meta(max_length=RULES_MAX)] = []


class Who:
    """A name, and the prefixes of keys for each verb: `key.startswith(who.get)`."""

    __slots__ = ("admin", "delete", "get", "list", "name", "put")

    def __init__(self, name: str) -> None:
        self.name = name
        self.get: tuple[bytes, ...] = ()
        self.put: tuple[bytes, ...] = ()
        self.delete: tuple[bytes, ...] = ()
        self.list: tuple[bytes, ...] = ()
        self.admin = False

    @property
    def anything(self) -> bool:
        """Whether the name has any right."""
        return self.admin or self.data or bool(self.list)

    @property
    def data(self) -> bool:
        """Whether there is any key that the name may read, write or delete."""
        return bool(self.get or self.put or self.delete)

    def add(self, rule: Rule) -> None:
        """Adds the rights of one more rule."""
        prefixes = tuple(prefix.encode() for prefix in rule.prefixes)
        for verb in rule.verbs:
            setattr(self, verb, tuple(dict.fromkeys(getattr(self, verb) + prefixes)))
        self.admin |= rule.admin


class Rights:
    """The rules of one file, by name. They never change: another file is another object."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._named: dict[str, Who] = {}
        self._tokens: dict[bytes, Who] = {}
        self.rules = 0
        for rule in rules:
            self.rules += 1
            if rule.token_sha256:
                name = TOKEN + (rule.name or rule.token_sha256[:8])
                who = self._tokens.setdefault(bytes.fromhex(rule.token_sha256), Who(name))
            elif rule.certificate:
                name = CERTIFICATE + rule.certificate
                who = self._named.setdefault(name, Who(name))
            else:
                name = SERVICE_ACCOUNT + rule.service_account
                who = self._named.setdefault(name, Who(name))
            who.add(rule)

    def of_token(self, token: bytes) -> Who | None:
        """The owner of a token. The time of the look-up reveals nothing of other tokens, because
        the node looks a hash up."""
        return self._tokens.get(sha256(token).digest())

    def of_account(self, account: str) -> Who:
        """A ServiceAccount as `namespace/name`; without a rule it has no rights."""
        name = SERVICE_ACCOUNT + account
        return self._named.get(name) or Who(name)

    def of_certificate(self, names: tuple[str, ...]) -> Who:
        """The first of its names that has a rule; without a rule it has no rights."""
        named = (self._named.get(CERTIFICATE + name) for name in names)
        return next((who for who in named if who is not None), None) or Who(CERTIFICATE + names[0])


def read_rights(path: Path) -> Rights:
    """The rules of a TOML file. A file without rules allows nothing. Raises BadRights."""
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
        if len(text) > FILE_BYTES_MAX:
            raise BadRights(f"{path}: at most {FILE_BYTES_MAX} bytes")
        document = msgspec.convert(tomllib.loads(text.decode()), Document)
    except OSError as error:
        raise BadRights(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise BadRights(f"{path}: {error}") from None
    for index, rule in enumerate(document.rules, 1):
        if fault := _fault(rule):
            raise BadRights(f"{path}: rule {index}: {fault}")
    return Rights(document.rules)


def _fault(rule: Rule) -> str:
    """The fault of a rule, "" if there is none."""
    who = [rule.service_account, rule.certificate, rule.token_sha256]
    if sum(map(bool, who)) != 1:
        return "needs one of service_account, certificate, token_sha256"
    if rule.service_account and not _ACCOUNT.fullmatch(rule.service_account):
        return f"service_account: needs namespace/name, not {rule.service_account!r}"
    if rule.token_sha256 and not _DIGEST.fullmatch(rule.token_sha256):
        return "token_sha256: needs 64 digits of lower case hex, the SHA-256 of the token"
    if rule.name and not (rule.token_sha256 and rule.name.isprintable()):
        return "name: the printable name of a token; only for token_sha256"
    if bool(rule.prefixes) != bool(rule.verbs):
        return 'prefixes and verbs: give both or none; the prefix "" stands for every key'
    if any(len(prefix.encode()) > KEY_BYTES_MAX for prefix in rule.prefixes):
        return f"prefixes: a key has at most {KEY_BYTES_MAX} bytes"
    return "" if rule.verbs or rule.admin else "allows nothing: needs verbs and prefixes, or admin"
