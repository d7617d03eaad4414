"""The house rules that a test can keep: layers, bans, budgets (docs: CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import operator
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "dynamo_archive": ROOT / "node/src/dynamo_archive",
    "dynamo_core": ROOT / "node/src/dynamo_core",
    "dynamo_node": ROOT / "node/src/dynamo_node",
    "dynamo_client": ROOT / "client/src/dynamo_client",
    "dynamoctl": ROOT / "client/src/dynamoctl",
    "dynamo_operator": ROOT / "operator/src/dynamo_operator",
}
LAYERS = [
    ("errors", "every error of the core, one tree; the type says whose fault it is"),
    ("keys", "keys, their positions, the families of the store"),
    ("secret_keys", "the cluster secret becomes a key for each purpose"),
    ("bounds", "what single values from outside may be, and which peers have sent others"),
    ("settings", "every knob of the core, with what higher and lower cost"),
    ("ring", "who is a member, who owns what, what a change of the ring means"),
    ("causality", "what a replica knows of a key: dots, histories, merges, contexts"),
    ("protocol", "operations, messages, frames, and what is believed of them"),
    ("runtime", "how machines run: calls, answers, clocks, frames in and out"),
    ("replica", "the copy of one node: what it holds, changes and answers"),
    ("membership", "how a ring begins, who is in it, how a lost node comes back"),
    ("request", "one get or put of a client: whom to ask, when to answer"),
    ("repair", "how replicas become equal again: hints, exchanges, scrub"),
    ("forgetting", "how tombstones go by proof, and what a stale disk loses"),
    ("moves", "partitions on their way from one owner to another"),
    ("admin", "what administrators ask, and how a plan is carried out"),
    ("backup", "a whole ring into an archive and back: who saves what, how it is merged"),
    ("look", "what people may see of a node and of all nodes, side by side"),
    ("staleness", "how likely a read sees the last write: predicted, and measured by canaries"),
    ("parts", "the parts of one node, what each may reach, who hears of a new ring"),
    ("node", "drives the parts: one way in, one batch and its frames out"),
]
"""The rooms of dynamo_core, the lowest first: one imports only from itself and from lower ones."""
OTHERS = {"node", "view", "replica", "rings", "detector", "hints", "write_batch"}
OWN_VALUES = {
    "self.large.total",  # Budget sizes the shares that it made
    "self._write.no_slowdown",  # an option of RocksDB
    "self.cycle.waiting_for_100_continue",  # of a request of uvicorn
}
"""Fields of a value that belongs to who assigns them."""
PURE = {
    *("__future__", "base64", "binascii", "bisect", "collections", "dataclasses", "enum"),
    "fractions",
    *("functools", "hashlib", "heapq", "hmac", "itertools", "json", "math", "msgspec", "re"),
    *("struct", "typing", "dynamo_core"),
}
ONLY_IN = {
    "rocksdict": {"storage", "salvage"},
    "obstore": {"objects"},
    "zstandard": {"parts"},
    "pyrage": {"sealing"},
    "fastapi": {"admin_api", "app", "backup_api", "look_api", "openapi"},
    "starlette": {
        *("admin_answers", "admin_api", "admin_checks", "app", "console_files", "kv_asgi"),
        "viewer_files",
    },
    "cryptography": {"authority", "trial_ca"},
    "jwt": {"service_accounts"},
    "uvicorn": {"app", "guarded_protocol"},
    "kubernetes": {"kube"},
    "kopf": {"handlers"},
    "opentelemetry": {"spans"},
}
BANNED_NAMES = {"utils", "helpers", "manager", "service", "base", "common"}
WAITED = ("child.wait", "process.wait", "child.communicate", "process.communicate")
LINES_MAX, FUNCTION_LINES_MAX, PARAMETERS_MAX = 400, 70, 6


def modules(package: str, testing: bool = False) -> list[Path]:
    found = sorted(PACKAGES[package].rglob("*.py"))
    return [p for p in found if testing or "testing" not in p.parts]


ALL = [path for package in PACKAGES for path in modules(package, testing=True)]
TESTS = sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))


def for_types(tree: ast.Module) -> set[int]:
    """The ids of all nodes under `if TYPE_CHECKING`."""
    return {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }


def imports(path: Path, types: bool = False) -> set[str]:
    """Dotted names that a module imports when it runs; with `types` also under TYPE_CHECKING. Of
    `from a import b` both `a` and `a.b`, as b may be a module."""
    tree = ast.parse(path.read_text())
    skipped = set() if types else for_types(tree)
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def dotted_of(path: Path) -> str:
    """The name under which a module is imported; a package has that of its folder."""
    roots = [*(folder.parent for folder in PACKAGES.values()), ROOT]
    root = next(root for root in roots if path.is_relative_to(root))
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


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


@pytest.mark.parametrize("path", modules("dynamo_core"), ids=name_of)
def test_core_layers(path: Path) -> None:
    rank = {name: level for level, (name, _) in enumerate(LAYERS)}
    here = dotted_of(path)
    if here == "dynamo_core":
        return
    room = here.split(".")[1]
    assert room in rank, f"{room}: give it a layer"
    for dotted in imports(path, types=True):
        if not dotted.startswith("dynamo_core."):
            continue
        other = dotted.split(".")[1]
        assert rank[other] <= rank[room], f"{here} imports {dotted}, which is not below it"


def arrows() -> dict[str, set[str]]:
    """Which module imports which, for types too; the faces of packages are not walked through."""
    paths = {dotted_of(path): path for path in ALL + TESTS}
    inside = {name for name, path in paths.items() if path.stem != "__init__"}
    return {
        name: (imports(path, types=True) & inside) - {name}
        for name, path in paths.items()
        if name in inside
    }


def test_no_circle_of_files() -> None:
    below = arrows()
    while free := {name for name, others in below.items() if not others & below.keys()}:
        below = {name: others for name, others in below.items() if name not in free}
    assert {name: others & below.keys() for name, others in below.items()} == {}


@pytest.mark.parametrize("path", modules("dynamo_core") + modules("dynamo_node"), ids=name_of)
def test_a_part_assigns_no_field_of_another_part(path: Path) -> None:
    """`self.part.field = …` and `node.field = …`: the other part has a method for it."""
    for node in ast.walk(ast.parse(path.read_text())):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in [inner for outer in targets for inner in ast.walk(outer)]:
            if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store):
                owner = ast.unparse(target.value)
                parted = owner.startswith("self.") or owner in OTHERS
                known = ast.unparse(target) in OWN_VALUES
                assert known or not parted, f"line {target.lineno}: {ast.unparse(target)} = …"


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
        (
            "dynamo_core",
            {"dynamo_archive", "dynamo_node", "dynamo_client", "dynamo_operator", "dynamoctl"},
        ),
        ("dynamo_archive", {"dynamo_node", "dynamo_client", "dynamo_operator", "dynamoctl"}),
        ("dynamo_node", {"dynamo_client", "dynamo_operator", "dynamoctl"}),
        ("dynamo_client", {"dynamo_node", "dynamo_operator", "dynamoctl", "typer", "rich"}),
        ("dynamoctl", {"dynamo_core", "dynamo_node", "dynamo_operator"}),
        ("dynamo_operator", {"dynamo_node", "dynamo_client", "dynamo_core", "dynamoctl"}),
    ):
        for path in modules(package, testing=True):
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & banned, f"{name_of(path)} imports {roots & banned}"


@pytest.mark.parametrize(
    ("package", "named"),
    [("dynamo_core", ()), ("dynamo_archive", ("backup",)), ("dynamo_node", ("node", "otel")),
     ("dynamo_client", ()), ("dynamoctl", ("certs",)), ("dynamo_operator", ("operator",))],
)  # fmt: skip
def test_a_package_declares_what_it_imports(package: str, named: tuple[str, ...]) -> None:
    """deptry counts all extras as one: an import that another extra declares escapes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [line for extra in named for line in extras[extra]]
    declared = {distribution(line) for line in project["dependencies"] + wanted}
    known = packages_distributions()
    packages = {package, "dynamo_archive"} if package == "dynamo_node" else {package}
    paths = [path for name in packages for path in modules(name, testing=True)]
    roots = {n.split(".")[0] for path in paths for n in imports(path)}
    foreign = roots - set(sys.stdlib_module_names) - set(PACKAGES)
    used = set()
    for root in foreign:
        owners = {distribution(name) for name in known[root]}  # several share one name space
        assert owners & declared, f"{root}: add it to pyproject.toml, then run uv lock"
        used |= owners
    only_here = {distribution(line) for line in wanted}
    assert only_here <= used, "an extra names what its package does not import"


def distribution(requirement: str) -> str:
    """The name in a requirement, spelt as package indexes spell it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_a_wait_for_a_thread_or_a_process_has_a_bound(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            bare = not node.args and not node.keywords
            endless = node.func.attr == "join" or ast.unparse(node.func).endswith(WAITED)
            assert not (bare and endless), f"line {node.lineno} may wait for ever: give it seconds"


def test_the_standard_operator_module_is_not_shadowed() -> None:
    assert str(ROOT) not in str(operator.__file__)
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert not list((ROOT / "operator").glob("*.py"))
    assert not [p for p in (ROOT / "operator").rglob("*.py") if p.name.startswith("test_")]


ONE_MEANING = {
    "stored": {"bytes", "StoreKey", "Cursor"},
    "seen": {"int", "int | None", "RoundNumber"},
    "number": {"int", "RoundNumber"},
    "sequence": {"int", "Count"},
    "entry": {"Entry", "Entry | None"},
    "entry_id": {"EntryId", "tuple[int, int]"},
    "call_id": {"int"},
    "durable": {"bool", "int"},
}
"""The types of fields and parameters of the core with these names (docs/data-model.md)."""
ROUNDS = {"coordinator", "round_messages", "round_numbers"}
"""Modules in which a field or parameter may be called `number`: that of a round."""


@pytest.mark.parametrize("path", modules("dynamo_core", testing=True), ids=name_of)
def test_a_word_has_one_meaning(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.arg) and node.annotation is not None:
            name, kind = node.arg, ast.unparse(node.annotation)
        elif isinstance(node, ast.AnnAssign):
            name, kind = (
                ast.unparse(node.target).removeprefix("self."),
                ast.unparse(node.annotation),
            )
        else:
            assert getattr(node, "name", "") != "found", "a ring is created, not found"
            continue
        assert kind in ONE_MEANING.get(name, {kind}), f"{name} is a {kind}"
        assert name != "number" or path.stem in ROUNDS, "number is that of a round"
