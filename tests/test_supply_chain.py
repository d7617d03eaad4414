"""What images and releases are made of is named by digest or hash (SECURITY.md, "Supply chain")."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from release.sbom import files_in, whole

ROOT = Path(__file__).parents[1]
PARTS = ("node", "operator")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
UV = Path(sys.executable).with_name("uv")
LOCK: dict[str, Any] = tomllib.loads((ROOT / "uv.lock").read_text())
DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*")


def lines_of(part: str) -> list[list[str]]:
    """The instructions of a Dockerfile as words, continued lines joined."""
    text = (ROOT / part / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def arguments_of(part: str) -> dict[str, str]:
    """The defaults of the build's arguments."""
    said = [" ".join(words[1:]) for words in lines_of(part) if words[0] == "ARG"]
    return {name: value.strip('"') for name, _, value in (text.partition("=") for text in said)}


def commands_of(part: str) -> list[str]:
    """Each command of each RUN, with the defaults of the build's arguments."""
    text = " && ".join(" ".join(words[1:]) for words in lines_of(part) if words[0] == "RUN")
    for name, value in arguments_of(part).items():
        text = text.replace(f"${{{name}}}", value)
    return [command.strip() for command in text.split("&&")]


def exported(*words: str) -> str:
    """What uv makes of the lock; nothing is fetched."""
    asked = [str(UV), "export", "--quiet", "--frozen", "--offline", *words]
    return subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def sbom_of(part: str) -> dict[str, Any]:
    words = ("--no-dev", "--extra", part, "--preview-features", "sbom-export")
    return whole(json.loads(exported(*words, "--format", "cyclonedx1.5")))


def distribution(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


@pytest.mark.parametrize("part", PARTS)
def test_each_base_of_an_image_has_a_digest(part: str) -> None:
    arguments = arguments_of(part)
    stages: set[str] = set()
    for first, *words in lines_of(part):
        if first == "FROM":
            base = re.sub(r"\$\{(\w+)\}", lambda found: arguments[found[1]], words[0])
            assert base in stages or DIGEST.fullmatch(base), base
            stages |= set(words[2:])
        elif first == "COPY" and words[0].startswith("--from="):
            base = words[0].removeprefix("--from=")
            assert base in stages or DIGEST.fullmatch(base), base
    assert stages


def test_both_images_have_one_base() -> None:
    assert len({arguments_of(part)["PYTHON"] for part in PARTS}) == 1


@pytest.mark.parametrize("part", PARTS)
def test_an_image_installs_nothing_by_its_name(part: str) -> None:
    built = set()
    for command in commands_of(part):
        tool = re.search(r"\b(pip install|uv pip install|uv sync|uv build|uv export)\b", command)
        wanted = {
            "pip install": ["--require-hashes", "-r build-requirements.txt"],
            "uv pip install": ["--no-deps", "--offline", "/opt/wheel/*.whl"],
            "uv sync": ["--frozen", "--no-dev", f"--extra {part}", "--no-install-project"],
            "uv build": ["--no-build-isolation", "--offline"],
            "uv export": ["--frozen", "--no-dev", f"--extra {part}", "cyclonedx1.5"],
        }
        if tool is not None:
            found = re.search(r"uv (pip install|sync|build|export)", command)
            name = tool[0] if found is None else found[0]
            built.add(name)
            assert [word for word in wanted[name] if word not in command] == [], command
        assert not re.search(r"\b(apt|apt-get|apk|curl|wget)\b", command), command
    assert built == wanted.keys()


@pytest.mark.parametrize("part", PARTS)
def test_an_image_gets_its_files_and_runs_as_no_root(part: str) -> None:
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    for first, *words in lines_of(part):
        if first == "COPY" and not words[0].startswith("--from="):
            assert {f"!{source}" for source in words[:-1]} <= set(let_in), words
    (user,) = [words[1] for words in lines_of(part) if words[0] == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_what_builds_is_what_the_lock_says() -> None:
    words = ("--only-group", "build", "--no-emit-project", "--no-annotate", "--no-header")
    assert (ROOT / "build-requirements.txt").read_text() == exported(*words), (
        f"uv export --frozen {' '.join(words)} --output-file build-requirements.txt"
    )
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    text = (ROOT / "build-requirements.txt").read_text()
    assert {f"{distribution(line)}==" for line in [*wanted, "uv"]} <= set(
        re.findall(r"^[\w-]+==", text, re.M)
    )


def test_each_file_of_the_lock_has_a_hash_and_comes_from_the_index() -> None:
    for package in LOCK["package"]:
        if package["name"] == "dynamo-ring":
            continue
        assert package["source"] == {"registry": "https://pypi.org/simple"}, package["name"]
        files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
        assert files and all(re.fullmatch(r"sha256:[0-9a-f]{64}", f["hash"]) for f in files)


@pytest.mark.parametrize("part", PARTS)
def test_the_sbom_has_what_an_image_installs(part: str) -> None:
    document = sbom_of(part)
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == (
        "CycloneDX",
        "dynamo-ring",
    )
    found = {component["name"]: component for component in document["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"][part]
    assert {distribution(line) for line in wanted} <= found.keys()
    assert not {"pytest", "ruff", "uv"} & found.keys()
    for name, component in found.items():
        if component["purl"].startswith("pkg:npm/"):
            continue
        assert component["purl"] == f"pkg:pypi/{name}@{component['version']}"
        hashes = [file["hashes"] for file in component["externalReferences"]]
        assert hashes and all(one["alg"] == "SHA-256" for each in hashes for one in each)


@pytest.mark.parametrize("part", PARTS)
def test_the_sbom_has_each_file_that_the_package_takes_from_npm(part: str) -> None:
    """Both images have the whole package, so also the pages of the nodes."""
    document = sbom_of(part)
    packages = [each for each in document["components"] if each["purl"].startswith("pkg:npm/")]
    files = {file["name"]: file for package in packages for file in package["components"]}
    source = ROOT / "node/src"
    vendored = {
        str(file.relative_to(source)): hashlib.sha256(file.read_bytes()).hexdigest()
        for pattern in ("console/vendor/*", "viewer/swagger-ui*")
        for file in (source / "dynamo_node").glob(pattern)
        if file.name != "SHA256SUMS"
    }
    assert {name: file["hashes"] for name, file in files.items()} == {
        name: [{"alg": "SHA-256", "content": digest}] for name, digest in vendored.items()
    }
    named: dict[str, str] = {}
    for place in ("console", "viewer"):
        project = json.loads((ROOT / "node" / place / "package.json").read_text())
        named |= project["dependencies"]
    assert {each["name"]: each["version"] for each in packages} == named
    for each in packages:
        assert each["purl"] == f"pkg:npm/{each['name']}@{each['version']}"
        assert each["licenses"] and each["externalReferences"][0]["hashes"][0]["alg"] == "SHA-512"
    whole_refs = [each["bom-ref"] for each in document["components"] + list(files.values())]
    assert len(set(whole_refs)) == len(whole_refs)
    root = document["metadata"]["component"]["bom-ref"]
    (mine,) = [each for each in document["dependencies"] if each["ref"] == root]
    assert {each["bom-ref"] for each in packages} <= set(mine["dependsOn"])


def test_what_is_made_and_what_is_in_the_images_is_the_whole_sbom() -> None:
    made = (ROOT / "Makefile").read_text().split("\nsbom:")[1].split("\n\n")[0]
    assert "$(SBOM)" in made and "-m release.sbom dist/" in made
    for part in PARTS:
        commands = commands_of(part)
        exports = next(n for n, command in enumerate(commands) if "uv export" in command)
        assert commands[exports + 1].endswith("python -m release.sbom /opt/dynamo/sbom.cdx.json")


def test_a_file_of_no_package_ends_the_sbom(tmp_path: Path) -> None:
    (tmp_path / "left-pad.js").write_text("")
    with pytest.raises(SystemExit, match=r"left-pad\.js: of no package"):
        list(files_in(tmp_path, tmp_path))


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_no_code_by_a_name_that_can_move(workflow: Path) -> None:
    used = re.findall(r"uses: *(.*)", workflow.read_text())
    assert len(used) == len([step for step in steps(workflow) if "uses" in step]) > 0
    assert [line for line in used if not PINNED.fullmatch(line)] == []
    document = yaml.safe_load(workflow.read_text())
    assert document["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in document[True], "it would run strangers' code with secrets"
    for step in steps(workflow):
        assert not re.search(r"\bpip3? install (?!.*--require-hashes)", step.get("run", ""))


def test_a_release_is_signed_and_says_what_it_is_made_of() -> None:
    release = ROOT / ".github/workflows/release.yml"
    told = "\n".join(step.get("run", "") for step in steps(release))
    for word in ("--provenance=mode=max", "--sbom=true", "cosign sign --yes",
                 "cosign attest --yes --type cyclonedx", "make package sbom krew",
                 "cosign sign-blob --yes --bundle", "make release-check"):  # fmt: skip
        assert word in told, word
    jobs = yaml.safe_load(release.read_text())["jobs"]
    pushes = {"contents": "read", "packages": "write"}
    assert [job["strategy"]["matrix"]["part"] for job in (jobs["image"], jobs["join"])] == [
        list(PARTS)
    ] * 2
    assert jobs["image"]["permissions"] == pushes, "what builds has no identity to sign with"
    assert (
        jobs["join"]["permissions"]
        == jobs["chart"]["permissions"]
        == pushes | {"id-token": "write"}
    )
    assert jobs["package"]["permissions"] == {"contents": "write", "id-token": "write"}
    order = ("check", "image", "join", "chart", "package")
    assert list(jobs) == list(order)
    assert [jobs[name].get("needs", "") for name in order] == ["", *order[:-1]]
