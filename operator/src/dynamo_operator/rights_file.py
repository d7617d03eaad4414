"""`spec.access` as the file of rights that nodes read (docs/security.md#rights)."""

from __future__ import annotations

import json
from collections.abc import Iterable

from dynamo_operator.spec_access import AccessRule, AccessSpec

HEAD = "# Made from spec.access of the DynamoCluster; change it there.\n"


def access_toml(spec: AccessSpec) -> str:
    """The whole file. One without rules allows nothing."""
    tables = [_table(_lines(rule)) for rule in spec.rules]
    tables += [
        _table((f"service_account = {_text(account)}", "admin = true"))
        for account in spec.administrators
    ]
    return HEAD + "".join(tables)


def _table(lines: Iterable[str]) -> str:
    return "\n[[rules]]\n" + "".join(f"{line}\n" for line in lines)


def _lines(rule: AccessRule) -> Iterable[str]:
    for field in ("service_account", "certificate", "token_sha256", "name"):
        value = getattr(rule, field)
        if value is not None:
            yield f"{field} = {_text(value)}"
    for field in ("prefixes", "verbs"):
        yield f"{field} = [{', '.join(_text(each) for each in getattr(rule, field))}]"


def _text(value: str) -> str:
    """A basic string of TOML: one of JSON, but that DEL is escaped and other letters are not."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
