"""What the console is made of: small, whole, from nowhere else."""

from __future__ import annotations

import gzip
import re
from hashlib import sha256
from json import loads
from pathlib import Path

from dynamo_node.console_files import HEADERS, ROOT, ConsoleFiles

REPOSITORY = Path(__file__).parents[2]
PACKED_BYTES_MAX = 150 * 1024


def test_all_of_it_is_small() -> None:
    files = [p for p in ROOT.rglob("*") if p.suffix in (".html", ".js", ".css", ".svg")]
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in files) <= PACKED_BYTES_MAX


def test_what_is_vendored_is_what_make_vendor_made() -> None:
    lines = (ROOT / "vendor/SHA256SUMS").read_text().splitlines()
    sums = {name.strip().removeprefix("./"): digest for digest, name in (x.split() for x in lines)}
    there = {path.name for path in (ROOT / "vendor").iterdir()} - {"SHA256SUMS"}
    assert sums.keys() == there and {"htm.LICENSE.txt", "preact.LICENSE.txt"} <= there
    for name, digest in sums.items():
        assert sha256((ROOT / "vendor" / name).read_bytes()).hexdigest() == digest, name


def test_the_lock_has_checksums_and_no_host() -> None:
    lock = loads((REPOSITORY / "node/console/package-lock.json").read_text())
    packages = {name: line for name, line in lock["packages"].items() if name}
    assert packages and all(line["integrity"].startswith("sha512-") for line in packages.values())
    assert not any("resolved" in line for line in packages.values())


def test_nothing_is_loaded_from_elsewhere_or_made_of_markup() -> None:
    for path in ROOT.glob("*.*"):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|dangerouslySetInnerHTML|eval\(", text), path.name
    assert "default-src 'self'" in HEADERS["Content-Security-Policy"]
    assert "<script>" not in (ROOT / "index.html").read_text()


def test_every_import_is_of_a_file_that_is_served() -> None:
    files = ConsoleFiles()
    for path in ROOT.rglob("*.js"):
        for name in re.findall(r'from\s*"([^"]+)"', path.read_text()):
            target = (path.parent / name).resolve().relative_to(ROOT).as_posix()
            assert files.answer(f"/console/{target}", "GET", b"") is not None, (path.name, name)
    assert files.answer("/console/../secret", "GET", b"") is None
    assert files.answer("/console", "POST", b"") is None
