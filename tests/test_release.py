"""All parts of a release agree: versions, images, chart, plugin of kubectl, health for Argo CD."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from lupa import lua51
from release import pack

from dynamo_operator.spec import VERSION

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts/dynamo-ring"
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK: dict[str, Any] = tomllib.loads((ROOT / "uv.lock").read_text())
NODE, OPERATOR = (f"sha256:{digit * 64}" for digit in "ab")


def test_every_part_has_the_version_of_the_package() -> None:
    assert pack.version() == PROJECT["version"] == VERSION
    plugin = (ROOT / "release/kubectl-dynamo").read_text()
    assert re.findall(r"^version=(.*)$", plugin, re.M) == [VERSION]
    notes = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    for image in yaml.safe_load(notes["artifacthub.io/images"]):
        assert image["image"] == f"ghcr.io/dynamo-ring/dynamo-ring-{image['name']}:{VERSION}"


def test_images_are_made_for_every_architecture_that_is_told() -> None:
    notes = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    made = {f"linux/{arch}" for arch in WORKFLOW["image"]["strategy"]["matrix"]["arch"]}
    images = yaml.safe_load(notes["artifacthub.io/images"])
    assert {each["name"] for each in images} == {"node", "operator"}
    assert all(set(each["platforms"]) == made for each in images)
    joined = "\n".join(step.get("run", "") for step in WORKFLOW["join"]["steps"])
    assert all(f'"$IMAGE:$version-{name.partition("/")[2]}"' in joined for name in made)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_nothing_is_compiled_for_an_image(machine: str) -> None:
    """The base has no compiler: every package has a wheel for Python 3.13 on this machine."""
    words = ["export", "--quiet", "--frozen", "--offline", "--no-dev", "--no-emit-project"]
    words += ["--extra", "node", "--extra", "operator", "--no-hashes", "--no-annotate"]
    uv = Path(os.sys.executable).with_name("uv")  # type: ignore[attr-defined]
    told = subprocess.run([uv, *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    packages = {each["name"]: each for each in LOCK["package"] if "version" in each}
    for line in told.splitlines():
        found = re.match(r"([\w.-]+)==(\S+)( ; .*)?", line)
        if found is None or (found[3] and ("win32" in found[3] or "python_full" in found[3])):
            continue
        names = [wheel["url"].rsplit("/")[-1] for wheel in packages[found[1]].get("wheels", ())]
        fits = re.compile(
            rf"-(py3|py2\.py3|cp3\d+)-(none|abi3|cp313)[\w.]*-(any|manylinux\S*_{machine}\S*)\.whl"
        )
        assert any(fits.search(name) for name in names), (found[1], names)


def test_the_plugin_is_packed_alike_each_time(tmp_path: Path) -> None:
    wheel, requirements = tmp_path / "dynamo_ring-0.1.0-py3-none-any.whl", tmp_path / "r.txt"
    wheel.write_bytes(b"wheel")
    requirements.write_text("msgspec==1 --hash=sha256:0\n")
    first = pack.archive(wheel, requirements)
    os.utime(wheel, (1, 1))
    assert pack.archive(wheel, requirements) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        modes = {member.name: member.mode for member in tar.getmembers()}
        assert {(member.uid, member.uname, member.mtime) for member in tar.getmembers()} == {
            (0, "", 0)
        }
    assert modes["kubectl-dynamo"] == 0o755
    assert modes.keys() == {"LICENSE", wheel.name, "kubectl-dynamo", "requirements.txt"}
    manifest = yaml.safe_load(pack.krew_manifest(hashlib.sha256(first).hexdigest()))
    spec = manifest["spec"]
    assert (manifest["kind"], manifest["metadata"]["name"]) == ("Plugin", "dynamo")
    assert spec["version"] == f"v{VERSION}"
    assert len(spec["shortDescription"]) <= 50  # a rule of krew's index
    for platform in spec["platforms"]:
        assert platform["sha256"] == hashlib.sha256(first).hexdigest()
        assert platform["uri"].startswith(f"{PROJECT['urls']['Source']}/releases/download/v")
        assert platform["bin"] in modes


def test_the_plugin_says_which_python_it_needs(tmp_path: Path) -> None:
    plugin = ROOT / "release/kubectl-dynamo"
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHON": "false"}
    done = subprocess.run([plugin, "ring"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "kubectl dynamo needs Python 3.11 or newer; set PYTHON=...\n"
    assert subprocess.run(["sh", "-n", plugin], check=False).returncode == 0


def test_the_released_chart_names_its_images_by_digest(tmp_path: Path) -> None:
    pack.released_chart(tmp_path / "chart", "ghcr.io/shop", NODE, OPERATOR)
    values = yaml.safe_load((tmp_path / "chart/values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator(schema).validate(values)
    assert values["image"]["repository"] == "ghcr.io/shop/dynamo-ring-operator"
    assert values["image"]["digest"] == OPERATOR
    assert values["nodeImage"] == f"ghcr.io/shop/dynamo-ring-node:{VERSION}@{NODE}"
    notes = yaml.safe_load((tmp_path / "chart/Chart.yaml").read_text())["annotations"]
    images = [each["image"] for each in yaml.safe_load(notes["artifacthub.io/images"])]
    assert images == [f"ghcr.io/shop/dynamo-ring-{part}:{VERSION}" for part in ("operator", "node")]
    changed = {
        path.name
        for path in (tmp_path / "chart").rglob("*")
        if path.is_file()
        and path.read_bytes() != (CHART / path.relative_to(tmp_path / "chart")).read_bytes()
    }
    assert changed == {"values.yaml", "Chart.yaml"}
    with pytest.raises(ValueError, match="needs sha256:"):
        pack.released_chart(tmp_path / "chart", "ghcr.io/shop", "latest", OPERATOR)


# ------------------------------------------------------------ Argo CD

CONFIG = yaml.safe_load((ROOT / "manifests/argocd/argocd-cm.yaml").read_text())["data"]


def health(kind: str, resource: dict[str, Any]) -> str:
    """What Argo CD calls the resource: its script gets `obj` in Lua 5.1 and no libraries."""
    script = CONFIG[f"resource.customizations.health.dynamo-ring.dev_{kind}"]
    runtime = lua51.LuaRuntime(register_eval=False, register_builtins=False)
    runtime.execute("os, io, require, dofile, loadfile = nil, nil, nil, nil, nil")
    runtime.globals().obj = runtime.table_from(resource, recursive=True)
    found = runtime.execute(script)
    assert found.message
    return str(found.status)


def ring(generation: int = 2, **conditions: str) -> dict[str, Any]:
    told = [
        {"type": kind, "status": text.partition(":")[0], "reason": text.partition(":")[2] or "X",
         "message": "because"}
        for kind, text in conditions.items()
    ]  # fmt: skip
    status = {"observedGeneration": 2, "conditions": told}
    return {"metadata": {"generation": generation}, "status": status}


WELL = {
    "SpecValid": "True",
    "Paused": "False",
    "Degraded": "False",
    "Progressing": "False:AsWanted",
}
RINGS = {
    "just made": ({"metadata": {"generation": 1}}, "Progressing"),
    "another spec": (ring(3, **WELL, Ready="True"), "Progressing"),
    "well": (ring(**WELL, Ready="True"), "Healthy"),
    "grows": (ring(**WELL | {"Progressing": "True:ScalingUp"}, Ready="False"), "Progressing"),
    "a node is down": (ring(**WELL | {"Degraded": "True"}, Ready="False"), "Degraded"),
    "unreadable": (ring(**WELL | {"Degraded": "Unknown"}, Ready="False"), "Degraded"),
    "a bad spec": (ring(**WELL | {"SpecValid": "False"}, Ready="True"), "Degraded"),
    "paused": (ring(**WELL | {"Paused": "True"}, Ready="False"), "Suspended"),
    "stopped": (ring(**WELL | {"Progressing": "False:Stopped"}, Ready="False"), "Suspended"),
}


@pytest.mark.parametrize("name", RINGS)
def test_argo_cd_sees_a_ring_as_its_conditions_say(name: str) -> None:
    resource, wanted = RINGS[name]
    assert health("DynamoCluster", resource) == wanted


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ({}, "Progressing"),
        ({"conditions": [{"type": "Complete", "status": "True", "message": "x"}]}, "Healthy"),
        ({"conditions": [{"type": "Failed", "status": "True", "message": "x"}]}, "Degraded"),
    ],
)
def test_argo_cd_sees_the_end_of_a_repair(status: dict[str, Any], wanted: str) -> None:
    assert health("DynamoRepair", {"status": status}) == wanted
