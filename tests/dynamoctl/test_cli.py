"""`dynamoctl` against real nodes that it started itself."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.processes import until

from dynamo_client.local_nodes import LocalRing, free_base
from tests.dynamoctl.command_line import QUICK, document, ok, run

LINES = 6000
MANY = [f'{{"data":"{base64.b64encode(b"%d" % n).decode()}"}}' for n in range(101)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("home")
    port = str(free_base(4))
    before = Path.cwd()
    os.chdir(home)
    try:
        said = ok("local", "up", "--detach", "--base-port", port, "--", *QUICK).stdout
        assert f"U=http://127.0.0.1:{port}/v1/kv/cart-1" in said and "curl -X DELETE" in said
        yield home
    finally:
        os.chdir(before)
        LocalRing(home / ".local").stop()


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    for name in [name for name in os.environ if name.startswith("DYNAMO_")]:
        monkeypatch.delenv(name)


def test_put_get_delete_with_contexts() -> None:
    ok("put", "cart", "tea", "--context-out", "seen", "--content-type", "text/plain")
    assert ok("get", "cart").stdout_bytes == b"tea"
    ok("put", "cart", "-", "--context", "@seen", given=b"\x00\xff")
    assert ok("get", "cart").stdout_bytes == b"\x00\xff"
    Path("value").write_bytes(b"from a file")
    put = document("put", "cart", "@value", "--w", "all")
    assert put["acks"]["total"] == 3
    siblings = run("get", "cart", "--context-out", "both")
    assert siblings.exit_code == 4 and "from a file" in siblings.stdout
    assert "2 siblings" in siblings.stderr
    shown = run("get", "cart", "--output", "json")
    assert shown.exit_code == 4 and json.loads(shown.stderr)["code"] == 4
    assert len(json.loads(shown.stdout)["values"]) == 2
    ok("delete", "cart", "--context", "@both")
    gone = run("get", "cart")
    assert gone.exit_code == 3 and gone.stdout == ""
    assert gone.stderr == "dynamoctl: KEY: no value at cart\n"


@pytest.mark.parametrize("key", [b"\xff\xfe", b"a/../b %", "käse".encode(), b"."])
def test_any_bytes_are_a_key(key: bytes) -> None:
    text, coded = os.fsdecode(key), base64.b64encode(key).decode()
    ok("put", text, "x")
    assert ok("get", "--base64", coded).stdout == "x"
    assert coded in ok("keys", "--base64").stdout.split()
    ok("delete", "-b", coded)
    assert run("get", text).exit_code == 3


def test_errors_are_one_line_with_the_field_and_the_exit_code() -> None:
    Path("bytes").write_bytes(b"k\xe4se\n")
    for arguments, code, words in (
        (["get", "a", "--r", "9"], 2, "r: 1 to 3"),
        (["get"], 2, "KEY"),
        (["nonsense"], 2, "No such command"),
        (["ring", "--output", "yaml"], 2, "--output"),
        (["get", "a", "--endpoint", "ftp://x"], 2, "--endpoint"),
        (["get", "a", "--endpoint", "http://[::1:x"], 2, "--endpoint"),
        (["ring", "--admin", "127.0.0.1:7201"], 2, "--admin"),
        (["get", "a", "--endpoint", "http://127.0.0.1:1"], 1, "http://127.0.0.1:1"),
        (["ring", "--admin", "http://127.0.0.1:1"], 1, "--admin"),
        (["put", "a", "@none"], 2, "VALUE: none"),
        (["put", "a", "b", "--context", "bogus"], 2, "context"),
        (["put", "a", "b", "--context", "@bytes"], 2, "Dynamo-Context: printable ASCII"),
        (["ring", "--token-file", "none"], 2, "--token-file"),
        (["ring", "--token-file", "."], 2, "--token-file: .: Is a directory"),
        (["ring", "--token-file", "bytes"], 2, "one line of printable ASCII"),
        (["get", "a", "--endpoint"], 2, "--endpoint"),
        (["repair", "--partitions", "5-2"], 2, "--partitions: '5-2'"),
        (["repair", "--nodes", "n9"], 2, "nodes"),
        (["import", "none"], 2, "FILE"),
        (["local", "kill", "n9"], 2, "NAME"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.output
        assert result.stderr.startswith("dynamoctl: ") and words in result.stderr
        said = run(*arguments, "--output=json") if "yaml" not in arguments else None
        if said is not None:
            assert json.loads(said.stderr)["code"] == code


def test_programs_get_json() -> None:
    ok("put", "k", "v")
    ring = document("ring")
    assert [member["name"] for member in ring["members"]] == ["n1", "n2", "n3"]
    assert [row["up"] for row in document("status")] == [True] * 3
    assert set(document("preference-list", "k")["owners"]) == {"n1", "n2", "n3"}
    assert document("explain", "k")["decided"] == "200"
    assert document("repair", "--partitions", "0-7")["partitions_done"] == 8
    staleness = document("staleness")
    assert staleness["n"] == 3 and staleness["nodes"] == ["n1", "n2", "n3"]
    two = document("staleness", "--n", "2")
    assert (two["n"], two["ring_n"], len(two["settings"])) == (2, 3, 4)
    assert "n: 1 to 3 copies" in run("staleness", "--n", "4").stderr
    top = document("top", "--once")
    assert {row["name"] for row in top} == {"n1", "n2", "n3"} and "get_p99_ms" in top[0]
    assert [row["running"] for row in document("local", "status")] == [True] * 3
    lines = ok("keys", "-o", "json").stdout.splitlines()
    assert base64.b64encode(b"k").decode() in [json.loads(line)["key"] for line in lines]


def test_an_encoding_goes_out_and_comes_in_with_its_value(tmp_path: Path) -> None:
    packed = gzip.compress(b"tea")
    Path("packed").write_bytes(packed)
    ok("put", "packed", "@packed", "--content-encoding", "gzip")
    assert ok("get", "packed").stdout_bytes == packed
    assert document("get", "packed")["values"][0]["content_encoding"] == "gzip"
    out = tmp_path / "out.ndjson"
    ok("export", str(out))
    line = next(line for line in lines_of(out) if '"packed"' in line)
    assert json.loads(line)["values"][0]["content_encoding"] == "gzip"
    (tmp_path / "one.ndjson").write_text(line.replace("packed", "again") + "\n")
    for written in (1, 0):  # the second time it is there, with its encoding
        assert document("import", str(tmp_path / "one.ndjson"))["values"] == written
    plain = line.replace("packed", "again").replace(',"content_encoding":"gzip"', "")
    (tmp_path / "one.ndjson").write_text(plain + "\n")
    assert document("import", str(tmp_path / "one.ndjson"))["values"] == 1
    assert "gzip" in run("get", "again").stdout


def test_people_get_pictures_of_eighty_columns() -> None:
    for command in (["ring"], ["status"], ["preference-list", "k"], ["explain", "k"],
                    ["top", "--once"], ["local", "status"]):  # fmt: skip
        said = ok(*command).stdout
        assert "n2" in said and max(map(len, said.splitlines())) <= 80
    said = ok("staleness", "--delays").stdout
    assert "N=2 instead of 3" in ok("staleness", "--n", "2").stdout
    assert "R=2, W=2, as now" in said and "100%" in said and "n3" in said
    assert max(map(len, said.splitlines())) <= 80
    assert "256 partitions" in ok("ring").stdout and "MEMBER" in ok("status").stdout


def lines_of(file: Path) -> list[str]:
    return sorted(file.read_text().splitlines())


def test_an_interrupted_import_goes_on_and_an_export_gives_the_same(tmp_path: Path) -> None:
    source, out = tmp_path / "in.ndjson", tmp_path / "out.ndjson"
    rows = [
        {
            "key_text": f"line-{n}",
            "values": [
                {"data": base64.b64encode(b"%d" % n).decode(), "content_type": "text/plain"}
            ],
        }
        for n in range(LINES)
    ]
    octets = "application/octet-stream"
    values = [{"data": data, "content_type": octets} for data in ("YQ==", "Yg==")]
    rows.append({"key": "//4A", "values": values})
    source.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    mark = tmp_path / "in.ndjson.checkpoint"
    # It writes a checkpoint after each batch, so that it is interrupted long before its end.
    program = "from dynamoctl import app, transfer; transfer.SAVE_S = 0.0; app.main()"
    command = [sys.executable, "-c", program, "import", str(source)]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: mark.exists() or first.poll() is not None, "no checkpoint is written")
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=20)
    assert first.returncode == 130 and mark.exists() and "run it again to go on" in said
    second = document("import", str(source))
    assert second["keys"] == LINES + 1 and 0 < second["keys_before"] < LINES
    assert not mark.exists()

    names = {row.get("key_text", "") for row in rows}
    assert document("export", str(out))["keys"] >= LINES + 1
    ours = [
        line
        for line in out.read_text().splitlines()
        if (row := json.loads(line)).get("key_text", "") in names or "key" in row
    ]
    assert sorted(ours) == lines_of(source)
    other = tmp_path / "other"
    port = str(free_base(4))
    ok(
        "local",
        "up",
        "-d",
        "--dir",
        str(other),
        "--nodes",
        "1",
        "--base-port",
        port,
        "--",
        "--engine=memory",
    )
    there = ["--endpoint", f"http://127.0.0.1:{port}",
             "--admin", f"http://127.0.0.1:{int(port) + 100}"]  # fmt: skip
    try:
        ok("import", str(out), *there)
        again = ok("export", *there).stdout
    finally:
        ok("local", "down", "--dir", str(other))
    assert sorted(again.splitlines()) == lines_of(out)


def test_an_import_names_the_line_that_is_wrong_and_goes_on_from_there(tmp_path: Path) -> None:
    source = tmp_path / "in.ndjson"
    good = [f'{{"key_text":"row-{n}","values":[{{"data":"YQ=="}}]}}\n' for n in range(400)]
    source.write_text("".join(good[:300]) + '{"key_text":"row"}\n' + "".join(good[300:]))
    wrong = run("import", str(source))
    assert wrong.exit_code == 2 and "FILE: line 301" in wrong.stderr and "values" in wrong.stderr
    source.write_text("".join(good))
    assert 0 < document("import", str(source))["keys_before"] <= 300
    assert document("get", "row-399")["values"][0]["data"] == "YQ=="
    (tmp_path / "in.ndjson.checkpoint").write_text('{"cluster": "another"}')
    assert "of another file or ring" in run("import", str(source)).stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"key_text":"half","values":[{"da', "truncated"),
        (f'{{"key_text":"{"k" * 1025}","values":[{{"data":"YQ=="}}]}}', "key: 1025 bytes"),
        ('{"key_text":"t","values":[{"data":"YQ==","content_type":"\\n"}]}', "content_type"),
        ('{"key_text":"many","values":[' + ",".join(MANY) + "]}", "siblings"),
    ],
)
def test_an_import_names_the_line_that_the_store_refuses(
    tmp_path: Path, line: str, words: str
) -> None:
    (tmp_path / "in").write_text(f'{{"key_text":"first","values":[{{"data":"YQ=="}}]}}\n\n{line}\n')
    refused = run("import", str(tmp_path / "in"))
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1), refused.output
    assert refused.stderr.startswith("dynamoctl: FILE: line 3: ") and words in refused.stderr


def test_a_full_disk_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    ok("put", "something", "x")
    command = "from dynamoctl.app import main; main()"
    for words, field in (("export", "FILE: "), ("keys", "")):
        with open("/dev/full", "wb") as full:
            ended = subprocess.run(
                [sys.executable, "-c", command, words],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert ended.returncode == 1
        assert ended.stderr == f"dynamoctl: {field}standard output: No space left on device\n"
    (tmp_path / "out.checkpoint").mkdir()
    wrong = run("export", str(tmp_path / "out"))
    assert wrong.exit_code == 1 and "out.checkpoint: Is a directory" in wrong.stderr


def test_a_node_is_killed_and_comes_back_and_one_is_added() -> None:
    killed = document("local", "status")[2]["pid"]
    ok("local", "kill", "n3")
    assert run("local", "kill", "n3").exit_code == 2
    down = run("status")
    assert down.exit_code == 1 and "n3: no answer" in down.stderr
    ok("put", "meanwhile", "v", "--w", "2")
    assert "run already" in run("local", "up").stderr
    ok("local", "start", "n3")
    row = document("local", "status")[2]
    assert row["running"] and row["pid"] != killed
    until(lambda: run("status").exit_code == 0, "n3 is not up")
    ring = LocalRing(Path(".local"))
    with socket.create_server(("127.0.0.1", ring.nodes["n1"].ports["client"] + 3)):
        assert "cannot be used" in run("local", "add").stderr
    assert len(document("local", "status")) == 3
    said = ok("local", "add", "--unjoined").stdout
    assert "n4" in said and "not joined" in said
    assert len(document("local", "status")) == 4 and len(document("status")) == 3


def test_up_says_clearly_why_it_cannot(tmp_path: Path) -> None:
    port = str(next(iter(LocalRing(Path(".local")).nodes.values())).ports["client"])
    taken = run("local", "up", "-d", "--dir", str(tmp_path / "a"), "--base-port", port)
    assert taken.exit_code == 1 and f"--base-port: 127.0.0.1:{port}" in taken.stderr
    wrong = ["local", "up", "-d", "--dir", str(tmp_path / "a"), "--base-port", str(free_base(4))]
    dies = run(*wrong, "--nodes", "1", "--", "--colour=red")
    assert dies.exit_code == 1 and "n1 has ended" in dies.stderr and "colour" in dies.stderr
    assert document("local", "status", "--dir", str(tmp_path / "a")) == []


def test_a_ring_with_a_secret_is_administered_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("between us, and of nobody else's concern\n")
    alone = ["local", "up", "-d", "--nodes", "1", "--base-port", str(free_base(4)), "--"]
    try:
        ok(*alone, *QUICK, f"--cluster-secret-file={secret}")
        assert [row["state"] for row in document("status")] == ["MEMBER"]
        url = LocalRing(tmp_path / ".local").nodes["n1"].admin
        named = ["--admin", url, "--endpoint", url]
        token = ok("token", str(secret)).stdout.strip()
        assert token == ok("token", "--secret-file", str(secret)).stdout.strip()
        assert len(token) == 64 and "between" not in token
        (tmp_path / "token").write_text(token)
        for shown in (["--secret-file", str(secret)], ["--token-file", str(tmp_path / "token")]):
            assert ok("status", *named, *shown)
        assert "Authorization" in run("repair", *named).stderr
        both = run("status", "--secret-file", str(secret), "--token-file", str(secret))
        assert both.exit_code == 2 and "--token-file" in both.stderr
    finally:
        LocalRing(tmp_path / ".local").stop()


@contextmanager
def foreground(*words: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """`local up` when it is ready, and its later output; it is ended in any case."""
    program = "from dynamoctl.app import main; main()"
    command = [sys.executable, "-c", program, "local", "up", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout is not None
        said = iter(front.stdout)
        try:
            assert any("Ctrl-C stops" in line for line in said), "it does not get ready"
            yield front, said
        finally:
            front.terminate()


def exists(pid: int) -> bool:
    """Also of a process that has ended and whose parent, or init, has not asked for its status."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_foreground_takes_the_data_up_again_and_stops_all_at_the_end() -> None:
    ok("put", "kept", "through")
    if len(document("local", "status")) < 4:
        ok("local", "add", "--unjoined")
    ok("local", "down")
    assert not any(row["running"] for row in document("local", "status"))
    with foreground() as (front, said):
        assert ok("get", "kept").stdout == "through"
        pids = [row["pid"] for row in document("local", "status")]
        ok("local", "kill", "n2")
        assert any("n2   has ended" in line for line in said), "it does not see the end"
        ok("local", "leave", "n4")
        assert any("n4   has " in line for line in said), "it does not see it leave"
        front.send_signal(signal.SIGTERM)
        rest, _ = front.communicate(timeout=20)
    assert front.returncode == 0 and "stopped; their data stays in .local/" in rest
    assert not LocalRing(Path(".local")).running
    assert len(pids) == 4
    for pid in pids:
        until(lambda pid=pid: not exists(pid), f"process {pid} has not gone")  # type: ignore[misc]


def test_the_foreground_stops_nodes_whose_files_are_removed(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_base(4)
    alone = [f"--dir={home}", "--nodes=1", f"--base-port={port}", "--", "--engine=memory"]
    with foreground(*alone) as (front, _):
        (pid,) = [row["pid"] for row in document("local", "status", "--dir", str(home))]
        (home / "n1.pid").unlink()  # what rm -r comes to first is not ours to say
        (home / "nodes.json").rename(tmp_path / "nodes.json")
        rest, _ = front.communicate(timeout=30)
    assert front.returncode == 0 and "n1   has stopped" in rest
    until(lambda: not exists(pid), f"process {pid} has not gone")
