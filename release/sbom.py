"""Completes the list of what an image installs: `python -m release.sbom FILE`, run in the root.

uv writes the list of Python packages (CycloneDX 1.5). The package brings files from npm along, for
the console and for `/docs`, which no lock of Python names. This adds each npm package with the
checksum of what npm has, and in it each of its files with the checksum that it has here. It needs
only the standard library, because the images are built with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "node/src"
Object = dict[str, Any]
PLACES = {
    "console": SOURCE / "dynamo_node/console/vendor",
    "viewer": SOURCE / "dynamo_node/viewer",
}
"""By the folder of the lock: where `make vendor` puts the files."""
OWN = ("SHA256SUMS", "index.html", "page.css", "page.js")
"""Files there that are ours."""
PACKAGES = {
    "hooks": "preact", "htm": "htm", "preact": "preact", "swagger-ui": "swagger-ui-dist",
    "swagger-ui-bundle": "swagger-ui-dist", "uplot": "uplot",
}  # fmt: skip
"""By the first word of a file's name: the package that it is from."""


def whole(document: Object) -> Object:
    """The list of uv, with what comes from npm."""
    added = [each for folder in PLACES for each in _packages(folder)]
    root = document["metadata"]["component"]["bom-ref"]
    refs = [each["bom-ref"] for each in added]
    depends = [
        each | {"dependsOn": sorted([*each.get("dependsOn", ()), *refs])}
        if each["ref"] == root
        else each
        for each in document["dependencies"]
    ]
    return document | {
        "components": [*document["components"], *added],
        "dependencies": [*depends, *({"ref": ref} for ref in refs)],
    }


def _packages(folder: str) -> Iterator[Object]:
    """The packages of one lock, of which files are here."""
    lock = json.loads((ROOT / "node" / folder / "package-lock.json").read_text())["packages"]
    files: dict[str, list[Object]] = {}
    for package, file in files_in(PLACES[folder], SOURCE):
        files.setdefault(package, []).append(file)
    for name, found in sorted(files.items()):
        of = lock[f"node_modules/{name}"]
        version, purl = of["version"], f"pkg:npm/{name}@{of['version']}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "licenses": [{"license": {"id": of["license"]}}],
            "purl": purl,
            "externalReferences": [
                {
                    "type": "distribution",
                    "url": f"https://registry.npmjs.org/{name}/-/{name}-{version}.tgz",
                    "hashes": [_integrity(of["integrity"])],
                }
            ],
            "components": found,
        }


def files_in(place: Path, base: Path) -> Iterator[tuple[str, Object]]:
    """Each file of a folder with its package. Raises SystemExit for a file of no package."""
    for path in sorted(place.iterdir()):
        if path.name in OWN or not path.is_file():
            continue
        package = PACKAGES.get(path.name.partition(".")[0])
        if package is None:
            raise SystemExit(f"{path.name}: of no package that release/sbom.py knows")
        name = path.relative_to(base).as_posix()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        hashes = [{"alg": "SHA-256", "content": digest}]
        yield package, {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": hashes}


def _integrity(text: str) -> Object:
    """npm's checksum of a package, as CycloneDX writes it."""
    kind, _, digest = text.partition("-")
    assert kind == "sha512", text
    return {"alg": "SHA-512", "content": base64.b64decode(digest).hex()}


def main(file: Path) -> None:
    """Completes the file in place."""
    file.write_text(json.dumps(whole(json.loads(file.read_text())), indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
