"""`python -m dynamo_operator.crds`, run at the root of the repository, writes the files that come
from the definition: the CRDs, for kubectl and for the chart, and their documentation page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dynamo_operator.definition import every_crd

MADE = "Made by `python -m dynamo_operator.crds`; edit operator/src/dynamo_operator/spec.py."
PLACES = ("manifests/crds", "charts/dynamo-ring/files/crds")
PAGE = "docs/kubernetes/spec.md"
SHOWN_MAX = 40
"""A longer default is an object; its fields have separate rows."""


def files() -> dict[str, str]:
    """Text of every file, by path."""
    made = {PAGE: page()}
    for crd in every_crd():
        text = yaml.safe_dump(crd, sort_keys=False, width=100, allow_unicode=True)
        for place in PLACES:
            made[f"{place}/{crd['spec']['names']['plural']}.yaml"] = f"# {MADE}\n{text}"
    return made


def page() -> str:
    """Every field of every resource as Markdown."""
    parts = [
        "# Fields of the resources\n",
        f"<!-- {MADE} -->\n",
        "The same as `kubectl explain dring.spec --recursive`. The API server checks the rules.\n",
    ]
    for crd in every_crd():
        names = crd["spec"]["names"]
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        short = names["shortNames"][0]
        parts.append(f"## {names['kind']} (`{short}`)\n\n{schema['description']}\n")
        for part in ("spec", "status"):
            rows = ["| field | type | default | meaning |", "| --- | --- | --- | --- |"]
            rows += _rows(schema["properties"][part], part)
            parts.append("\n".join([f"### {part} of {names['kind']}\n", *rows, ""]))
        rules = [f"- {message}" for message in dict.fromkeys(_messages(schema))]
        parts.append("\n".join([f"### Rules of {names['kind']}\n", *rules, ""]))
    return "\n".join(parts)


def _rows(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        here, inner = f"{path}.{name}", field
        kind = str(field["type"])
        if kind == "array":
            inner = field["items"]
            here, kind = f"{here}[]", f"list of {inner.get('type', 'object')}s"
        if "enum" in inner:
            kind = " \\| ".join(str(word) for word in inner["enum"])
        default = (
            yaml.safe_dump(field["default"], default_flow_style=True) if "default" in field else ""
        )
        default = default.removesuffix("...\n").strip()
        shown = f"`{default}`" if default and len(default) <= SHOWN_MAX else ""
        yield f"| `{here}` | {kind} | {shown} | {field['description']} |"
        yield from _rows(inner, here)


def _messages(schema: dict[str, Any]) -> Iterator[str]:
    yield from (rule["message"] for rule in schema.get("x-kubernetes-validations", ()))
    for inner in schema.get("properties", {}).values():
        yield from _messages(inner)
    if "items" in schema:
        yield from _messages(schema["items"])


def main() -> None:
    """Writes them."""
    for name, text in files().items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
