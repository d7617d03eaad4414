"""The house rules that a test can keep: layers, bans, budgets (docs: CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import operator
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "dynamo_core": ROOT / "node/src/dynamo_core",
    "dynamo_node": ROOT / "node/src/dynamo_node",
    "dynamo_client": ROOT / "client/src/dynamo_client",
    "dynamoctl": ROOT / "client/src/dynamoctl",
    "dynamo_operator": ROOT / "operator/src/dynamo_operator",
}
LAYERS = [
    {"ids", "errors", "sense"},
    {"quorum", "versions", "merkle", "ring", "settings", "shares", "pace", "happenings"},
    {"codec", "operations", "ring_document", "background", "gate"},
    {"arrivals", "preference", "placement", "journal", "wishes", "holdings", "hedging"},
    {"change", "messages", "hints", "context", "tree", "round_numbers", "actors", "stored_ring"},
    {"ring_messages", "move_messages", "round_messages", "look_messages", "machine"},
    {"copies", "durability", "frames", "answers", "intake", "sizes", "tombstones", "chronicle"},
    {"replica", "replication", "frame_tags"},
    {"coordination"},
    {
        "get",
        "put",
        "delivery",
        "surrender",
        "exchange",
        "founding",
        "listing",
        "gathering",
        "sights",
        "local_replica",
        "gossip",
    },
    {"applying", "planner", "repair", "scrub", "consent", "emptying"},
    {
        "admin",
        "admission",
        "apart",
        "calls",
        "clients",
        "collection",
        "membership",
        "moves",
        "post",
        "promises",
        "inside",
        "settling",
        "whereabouts",
        "reception",
    },
    {"node"},
]
"""Lowest first; a module of dynamo_core imports only from lower layers."""
SAME_LAYER = {
    ("placement", "ring"), ("machine", "preference"), ("repair", "scrub"), ("planner", "applying"),
    ("intake", "answers"),
}  # fmt: skip
PURE = {
    *("__future__", "base64", "binascii", "bisect", "collections", "dataclasses", "enum"),
    "fractions",
    *("functools", "hashlib", "heapq", "hmac", "itertools", "json", "math", "msgspec", "re"),
    *("struct", "typing", "dynamo_core"),
}
ONLY_IN = {
    "rocksdict": {"storage", "salvage"},
    "fastapi": {"admin_api", "app", "look_api"},
    "starlette": {"admin_api", "app", "kv_asgi", "console_files"},
    "uvicorn": {"app", "guarded_protocol"},
    "kubernetes": {"kube"},
    "kopf": {"handlers"},
}
BANNED_NAMES = {"utils", "helpers", "manager", "service", "base", "common"}
LINES_MAX, FUNCTION_LINES_MAX, PARAMETERS_MAX = 400, 70, 6


def modules(package: str, testing: bool = False) -> list[Path]:
    found = sorted(PACKAGES[package].rglob("*.py"))
    return [p for p in found if testing or "testing" not in p.parts]


ALL = [path for package in PACKAGES for path in modules(package, testing=True)]
TESTS = sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports when it runs (not under TYPE_CHECKING)."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", ALL + TESTS, ids=name_of)
def test_budgets(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_MAX, "split the module"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
            arguments = node.args.posonlyargs + node.args.args
            count = len([a for a in arguments if a.arg not in ("self", "cls")])
            assert count <= PARAMETERS_MAX, f"{node.name} has {count} positional parameters"


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_every_module_and_public_name_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module says what is inside"
    assert path.stem not in BANNED_NAMES, "name the noun"
    assert path.stem not in sys.stdlib_module_names or path.stem == "__init__"
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_core_layers() -> None:
    rank = {name: level for level, names in enumerate(LAYERS) for name in names}
    for path in modules("dynamo_core"):
        if path.stem == "__init__":
            continue
        assert path.stem in rank, f"{path.stem}: give it a layer"
        for dotted in imports(path):
            if dotted.startswith("dynamo_core."):
                other = dotted.split(".")[1]
                lower = rank[other] < rank[path.stem] or (path.stem, other) in SAME_LAYER
                assert lower, f"{path.stem} imports {other}, which is not below it"


@pytest.mark.parametrize("path", modules("dynamo_core"), ids=name_of)
def test_core_is_pure(path: Path) -> None:
    assert {name.split(".")[0] for name in imports(path)} <= PURE


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    for dotted in imports(path):
        rooms = ONLY_IN.get(dotted.split(".")[0])
        assert rooms is None or path.stem in rooms, f"{dotted} may only be imported in {rooms}"


def test_packages_do_not_reach_into_each_other() -> None:
    for package, banned in (
        ("dynamo_core", {"dynamo_node", "dynamo_client", "dynamo_operator", "dynamoctl"}),
        ("dynamo_node", {"dynamo_client", "dynamo_operator", "dynamoctl"}),
        ("dynamo_client", {"dynamo_node", "dynamo_operator", "dynamoctl", "typer", "rich"}),
        ("dynamoctl", {"dynamo_core", "dynamo_node", "dynamo_operator"}),
        ("dynamo_operator", {"dynamo_node", "dynamo_client", "dynamo_core", "dynamoctl"}),
    ):
        for path in modules(package, testing=True):
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & banned, f"{name_of(path)} imports {roots & banned}"


def test_the_standard_operator_module_is_not_shadowed() -> None:
    assert str(ROOT) not in str(operator.__file__)
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert not list((ROOT / "operator").glob("*.py"))
    assert not [p for p in (ROOT / "operator").rglob("*.py") if p.name.startswith("test_")]
