"""The sources of settings, and the messages for wrong ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dynamo_core.settings import Settings
from dynamo_node.setting_values import is_loopback, split_address
from dynamo_node.settings import (
    BadSettings,
    NodeSettings,
    load,
    unknown_variables,
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DYNAMO_"):
            monkeypatch.delenv(name)


def test_defaults_are_the_contract() -> None:
    settings = load([])
    assert (settings.client_listen, settings.admin_listen, settings.peer_listen) == (
        "127.0.0.1:8080",
        "127.0.0.1:8081",
        "127.0.0.1:8082",
    )
    assert (settings.data_dir, settings.seeds, settings.zone, settings.weight) == (
        Path("data"),
        (),
        "",
        1,
    )
    assert settings.of_core() == Settings()


def test_flags_win_over_variables_and_these_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "node.toml"
    file.write_text('zone = "file"\nweight = 2\nname = "file"\nseeds = ["a:1", "b:2"]\n')
    monkeypatch.setenv("DYNAMO_ZONE", "variable")
    monkeypatch.setenv("DYNAMO_WEIGHT", "3")
    settings = load(["--weight", "4", "--config", str(file)])
    assert (settings.name, settings.zone, settings.weight) == ("file", "variable", 4)
    assert settings.seeds == ("a:1", "b:2")
    assert load(["--weight=4"]).name != "file", "the file is of one call only"


def test_lists_and_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMO_SEEDS", "a:1, b:2,")
    monkeypatch.setenv("DYNAMO_ANTI_ENTROPY", "off")
    monkeypatch.setenv("DYNAMO_INSECURE", "true")
    settings = load(["--replace-lost", "false", "--hedge-ms", "25", "--fsync-stall-ms", "250"])
    assert (settings.seeds, settings.insecure) == (("a:1", "b:2"), True)
    core = settings.of_core()
    assert (core.anti_entropy, core.replace_lost, core.hedge_s) == (False, False, 0.025)
    assert core.fsync_stall_s == 0.25
    assert load(["--seeds", "c:3"]).seeds == ("c:3",)
    assert load(["--insecure"]).insecure


WRONG = {
    "no port": (["--client-listen", "here"], "client_listen: needs host:port"),
    "port too large": (["--peer-listen", "h:70000"], "peer_listen: needs host:port"),
    "no node can dial it": (["--advertise", "h:0"], "advertise: needs a host:port"),
    "one of the seeds": (["--seeds", "a:1,b"], "seeds.1: needs host:port"),
    "not a number": (["--weight", "much"], "weight: "),
    "out of range": (["--value-bytes-max", "0"], "value_bytes_max: "),
    "not a word of it": (["--engine", "paper"], "engine: "),
    "a name that is a sign": (["--name", "~n1"], "name: a name has 1 to 255 bytes, no ~"),
    "silent before it is heard": (["--suspect-ms", "1400"], "suspect_ms: needs at least three"),
    "no such flag": (["--bogus", "1"], "--bogus"),
    "stray": (["stray"], "stray"),
    "no file": (["--config", "/nowhere.toml"], "config: /nowhere.toml"),
    "no file given": (["--config"], "config: "),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG)
def test_wrong_settings_exit_2_with_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        load(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert (exit_.value.code, len(lines)) == (2, 1)
    assert said in lines[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"wieght = 1", "wieght: no such"), (b"weight = ", "config: "), (b"\xb8", "config: ")],
)
def test_wrong_files_exit_2(
    text: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "node.toml"
    file.write_bytes(text)
    with pytest.raises(SystemExit):
        load(["--config", str(file)])
    assert said in capsys.readouterr().err


def test_variables_that_mean_nothing_are_found() -> None:
    names = {"DYNAMO_WIEGHT": "1", "DYNAMO_WEIGHT": "1", "HOME": "/", "DYNAMO_DATA_DIR": "x"}
    assert unknown_variables(names) == ["DYNAMO_WIEGHT"]


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        load(["--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    for field in NodeSettings.model_fields:
        assert f"--{field.replace('_', '-')}" in text
    assert "--config" in text and "DYNAMO_" in text


@pytest.mark.parametrize(
    ("address", "parts"),
    [("h:1", ("h", 1)), ("[::1]:80", ("::1", 80)), (":0", ("", 0)), ("h.x:65535", ("h.x", 65535))],
)
def test_addresses(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts


@pytest.mark.parametrize(
    ("address", "inside"),
    [("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True), ("localhost:1", True),
     ("0.0.0.0:1", False), (":1", False), ("[::]:1", False), ("10.0.0.1:1", False),
     ("host.example:1", False)],
)  # fmt: skip
def test_who_reaches_a_listener(address: str, inside: bool) -> None:
    assert is_loopback(address) is inside


@pytest.mark.parametrize("field", ["client_listen", "admin_listen", "peer_listen"])
def test_without_a_secret_only_loopback(field: str) -> None:
    settings = NodeSettings(**{field: "0.0.0.0:0"})
    with pytest.raises(BadSettings, match=field):
        settings.check_exposure(())
    settings.check_exposure((b"secret",))
    NodeSettings(**{field: "0.0.0.0:0", "insecure": True}).check_exposure(())


LONG, OTHER = b"a secret of 32 characters or more", b"and another one of as many, or more"


def test_a_secret_is_a_line_and_the_first_makes(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    settings = NodeSettings(cluster_secret_file=file)
    for text, secrets in (
        (LONG + b"\n", (LONG,)),
        (LONG, (LONG,)),
        (LONG + b"\r\n" + OTHER, (LONG, OTHER)),
        (OTHER + b"\n\n" + LONG + b"\n\n", (OTHER, LONG)),
        (b"x" * 32, (b"x" * 32,)),
    ):
        file.write_bytes(text)
        assert settings.secrets() == secrets
    assert NodeSettings().secrets() == ()


def test_a_wrong_secret_is_refused_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    settings = NodeSettings(cluster_secret_file=file)
    for text, words in (
        (b"", "has 0"),
        (b"\n", "has 0"),
        (b"\xff" * 40 + b"\n", "line 1: needs printable ASCII"),
        (b"q" * 31, "line 1: has 31 characters, needs 32 to 4096"),
        (LONG + b"\nqqqq", "line 2: has 4 characters"),
        (b"q" * 5000, "has 5000"),
        (LONG + b"\n" + LONG, "line 2: the same secret twice"),
        (b"\n".join(b"%040d" % n for n in range(9)), "needs 1 to 8 secrets, has 9"),
    ):
        file.write_bytes(text)
        with pytest.raises(BadSettings, match="cluster_secret_file: ") as caught:
            settings.secrets()
        assert words in str(caught.value)
        assert "qqqq" not in str(caught.value)
    file.unlink()
    with pytest.raises(BadSettings, match=r"cluster_secret_file: .* No such file"):
        settings.secrets()
