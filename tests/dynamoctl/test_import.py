"""Imports as people use them: repeated, over live data, from pipes and from other programs."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_client import BadParameter
from dynamo_client.local_nodes import LocalRing, free_base
from dynamoctl.rows import Fields, Row, rows, unpacked
from tests.dynamoctl.command_line import QUICK, document, ok, run

JOIN_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    home, before = tmp_path_factory.mktemp("home"), Path.cwd()
    os.chdir(home)
    try:
        port = str(free_base(4))
        ok("local", "up", "-d", "--nodes", "1", "--base-port", port, "--", *QUICK)
        yield
    finally:
        os.chdir(before)
        LocalRing(home / ".local").stop()


def line(key: str, *values: str) -> str:
    shown = [{"data": base64.b64encode(value.encode()).decode()} for value in values]
    return json.dumps({"key_text": key, "values": shown}) + "\n"


def values(key: str) -> list[str]:
    found = run("get", key, "-o", "json")
    if found.exit_code == 3:
        return []
    return sorted(base64.b64decode(v["data"]).decode() for v in json.loads(found.stdout)["values"])


def test_what_was_deleted_or_changed_since_is_loaded_again(tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_text(line("again-a", "a") + line("again-b", "b"))
    assert document("import", str(file))["values"] == 2
    ok("delete", "again-a")
    ok("get", "again-b", "--context-out", "seen")
    ok("put", "again-b", "changed", "--context", "@seen")
    assert document("import", str(file))["values"] == 2
    assert (values("again-a"), values("again-b")) == (["a"], ["b", "changed"])


def test_an_export_put_back_over_its_own_ring_doubles_nothing(tmp_path: Path) -> None:
    file, back = tmp_path / "in", tmp_path / "out"
    file.write_text(line("twice", "x", "y") + line("twice", "y", "z") + line("once", "1"))
    assert document("import", str(file)) == {
        "keys": 2,
        "values": 4,
        "values_there": 1,
        "values_expired": 0,
        "skipped": 0,
        "keys_before": 0,
    }
    ok("export", str(back))
    again = document("import", str(back))
    assert again["values"] == 0 and again["values_there"] >= 4
    assert values("twice") == ["x", "y", "z"]


SOON, LATER, PAST = "2130-01-01T00:00:00.250Z", "2130-06-01T00:00:00.000Z", "2020-01-01T00:00:00Z"


def expiring(key: str, *ends: str | None) -> str:
    """Values v0, v1 and so on of a key, each with its expiry or none."""
    shown: list[dict[str, str]] = [
        {"data": base64.b64encode(b"v%d" % at).decode()} | ({"expires_at": end} if end else {})
        for at, end in enumerate(ends)
    ]
    return json.dumps({"key_text": key, "values": shown}) + "\n"


def ends(key: str) -> dict[str, str | None]:
    """By value: when it expires."""
    found = json.loads(run("get", key, "-o", "json").stdout)["values"]
    return {base64.b64decode(v["data"]).decode(): v.get("expires_at") for v in found}


def test_an_export_carries_the_time_and_an_import_keeps_it(tmp_path: Path) -> None:
    """S-TTL-2: to the last millisecond, over a delete; into its own ring nothing is duplicated."""
    file, back = tmp_path / "in", tmp_path / "out"
    file.write_text(expiring("ttl", SOON, None, LATER))
    assert document("import", str(file))["values"] == 3
    assert ends("ttl") == {"v0": SOON, "v1": None, "v2": LATER}
    ok("export", str(back))
    (exported,) = (line for line in back.read_text().splitlines() if '"ttl"' in line)
    assert [v.get("expires_at") for v in json.loads(exported)["values"]] == [SOON, None, LATER]
    assert document("import", str(back))["values"] == 0
    ok("delete", "ttl")
    assert document("import", str(back))["values"] == 3
    assert ends("ttl") == {"v0": SOON, "v1": None, "v2": LATER}


def test_what_has_expired_does_not_come_back(tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_text(expiring("gone", PAST, PAST) + expiring("half", PAST, SOON))
    said = ok("import", str(file)).stdout
    assert said == "1 keys imported, 1 values written, 3 values had expired\n"
    assert run("get", "gone").exit_code == 3
    assert ends("half") == {"v1": SOON}
    assert document("import", str(file))["values_expired"] == 3


def test_a_value_that_ends_before_that_of_the_file_is_not_taken_for_it(tmp_path: Path) -> None:
    """No value expires too early: a value exists already only if the present one lives as long."""
    file = tmp_path / "in"
    for there, given, written in (
        (SOON, SOON, 0), (SOON, LATER, 1), (LATER, SOON, 0), (None, SOON, 0), (SOON, None, 1)
    ):  # fmt: skip
        file.write_text(expiring("lives", there))
        ok("delete", "lives")
        assert document("import", str(file))["values"] == 1
        file.write_text(expiring("lives", given))
        assert document("import", str(file))["values"] == written
        assert len(values("lives")) == 1 + written


def test_a_time_that_is_none_is_a_wrong_line(tmp_path: Path) -> None:
    file = tmp_path / "in"
    for wrong in ("2130-01-01", "soon", "2130-01-01T00:00:00"):
        file.write_text(expiring("wrong", wrong))
        ended = run("import", str(file))
        assert ended.exit_code == 2 and "line 1: " in ended.stderr
        assert "expires_at" in ended.stderr or "$.values[0]" in ended.stderr
    assert values("wrong") == []


def test_a_field_of_other_programs_files_may_say_when_a_value_expires(tmp_path: Path) -> None:
    table = tmp_path / "sessions.csv"
    table.write_text(f"id,user,until\ns1,ann,{SOON}\ns2,bob,\ns3,cid,{PAST}\n")
    options = ("--key", "id", "--value", "user", "--expires-at", "until")
    done = document("import", str(table), *options)
    assert (done["keys"], done["values"], done["values_expired"]) == (2, 2, 1)
    assert (ends("s1"), ends("s2")) == ({"ann": SOON}, {"bob": None})
    (row,) = read('{"k": "a", "until": null}', Fields("jsonl", "k", "", "until"))
    assert row.values[0].expires_at is None and not row.wrong
    for held in ("7", "true", '"soon"', "[]", "0"):
        (row,) = read(f'{{"k": "a", "until": {held}}}', Fields("jsonl", "k", "", "until"))
        assert row.wrong.startswith("until: ")
    (row,) = read('{"k": "a"}', Fields("jsonl", "k", "", "until"))
    assert row.wrong == "until: no such field"


def test_put_takes_the_time_and_siblings_show_theirs() -> None:
    ok("put", "when", "a", "--expires-at", "2130-01-01T02:00:00.25+02:00")
    ok("put", "when", "b", "--expires-in-s", "3600")
    ok("put", "when", "c")
    assert {"a": SOON, "c": None}.items() <= ends("when").items()
    shown = run("get", "when")
    assert shown.exit_code == 4 and "expires" in shown.stdout and "never" in shown.stdout
    ended = run("put", "when", "d", "--expires-at", "tomorrow")
    assert ended.exit_code == 2 and ended.stderr.startswith("dynamoctl: --expires-at: ")


def test_blank_lines_and_a_byte_order_mark_are_no_keys(tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"\xef\xbb\xbf" + (line("b-1", "a") + "\n\n  \n" + line("b-2", "a")).encode())
    assert ok("import", str(file)).stdout == "2 keys imported, 2 values written\n"


def test_pipes_and_gzip_are_read_and_written(tmp_path: Path) -> None:
    pipe, packed = tmp_path / "pipe", tmp_path / "in.gz"
    os.mkfifo(pipe)
    for key, content in (
        ("pipe-1", line("pipe-1", "v").encode()),
        ("pipe-2", gzip.compress(line("pipe-2", "v").encode())),
    ):
        writer = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
        writer.start()
        assert document("import", str(pipe))["values"] == 1
        writer.join(JOIN_S)
        assert not writer.is_alive(), f"the import did not read the pipe in {JOIN_S:g} s"
        assert values(key) == ["v"]
    packed.write_bytes(gzip.compress(line("packed", "v").encode()))
    assert document("import", str(packed))["values"] == 1
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    ok("export", str(pipe))
    reader.join(JOIN_S)
    assert not reader.is_alive(), f"the export did not end the pipe in {JOIN_S:g} s"
    assert b'"packed"' in read[0]
    ok("export", "/dev/null")


def test_an_import_goes_on_where_no_checkpoint_can_be_written(tmp_path: Path) -> None:
    """A directory in the checkpoint's place stands for a disk that takes no file: root may write
    anywhere else."""
    file = tmp_path / "in"
    file.write_text("".join(line(f"ro-{n}", "v") for n in range(200)) + "bad\n")
    (tmp_path / "in.checkpoint.new").mkdir()
    ended = run("import", str(file))
    assert ended.exit_code == 2 and "line 201" in ended.stderr
    assert "in.checkpoint: Is a directory; if interrupted, the run starts again" in ended.stderr
    assert values("ro-199") == ["v"]


def test_bad_lines_are_set_aside_where_that_is_asked(tmp_path: Path) -> None:
    file, bad = tmp_path / "in", tmp_path / "bad"
    wrong = ["{", '{"key_text":"k"}', line("k" * 1025, "v").strip()]
    file.write_text("\n".join([line("good-1", "v"), *wrong, line("good-2", "v")]))
    said = ok("import", str(file), "--skip-bad", str(bad)).stdout
    assert said == "2 keys imported, 2 values written, 3 lines skipped\n"
    assert bad.read_text().splitlines() == wrong
    assert (values("good-1"), values("good-2")) == (["v"], ["v"])


def test_files_of_other_programs(tmp_path: Path) -> None:
    table = tmp_path / "airports.csv"
    table.write_text('code,name,height\nZRH,"Zürich, Kloten",1416\nGVA,Genève,1411\n')
    assert document("import", str(table), "--key", "code", "--value", "name")["keys"] == 2
    assert values("ZRH") == ["Zürich, Kloten"]
    objects = tmp_path / "movies.json"
    objects.write_text('[{"id": 7, "title": "Alien"},\n {"id": 8, "title": "Brazil"}]')
    ok("import", str(objects), "--key", "id")
    assert values("7") == ['{"id":7,"title":"Alien"}']
    lines = tmp_path / "events"
    lines.write_text('{"k": "e1", "v": [1, 2]}\n{"k": "e2", "v": "text"}\n')
    ok("import", str(lines), "--key", "k", "--value", "v", "--format", "jsonl")
    assert (values("e1"), values("e2")) == (["[1,2]"], ["text"])
    for options, words in (
        (["--format", "xml"], "--format: one of ndjson, jsonl, json, csv"),
        (["--format", "csv"], "--key: csv needs the field with the key"),
        (["--format", "ndjson", "--key", "k"], "--key: ndjson has fixed fields"),
        (["--key", "none"], "line 1: none: no such field"),
    ):
        ended = run("import", str(lines), *options)
        assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1) and words in ended.stderr


# ---------------------------------------------------------------- rows, without nodes


def read(text: str | bytes, how: Fields, skipped: int = 0) -> list[Row]:
    data = text.encode() if isinstance(text, str) else text
    return list(rows(io.BufferedReader(io.BytesIO(data)), how, 0, skipped))


def test_rows_know_their_number_and_where_the_next_one_begins() -> None:
    first, blank, last = read(line("a", "1") + "\n" + line("b", "2"), Fields())
    assert [first.line, blank.line, last.line] == [1, 2, 3]
    assert first.offset == len(line("a", "1")) and not blank.key and not blank.wrong
    assert last.key == b"b" and last.offset == len(line("a", "1") + "\n" + line("b", "2"))


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_run_that_goes_on_skips_the_rows_that_are_done(form: str) -> None:
    text = {"csv": "k,v\na,1\nb,2\n", "json": '[{"k":"a"},{"k":"b"}]'}[form]
    (row,) = read(text, Fields(form, "k"), skipped=1)
    assert (row.line, row.key) == (2, b"b")


@pytest.mark.parametrize(
    ("text", "words"),
    [("k\n\xff", "UTF-8"), ("x\n1\n", "no column k"), ('k\n"open', "not CSV")],
)
def test_a_file_that_is_no_csv_is_told(text: str, words: str) -> None:
    with pytest.raises(BadParameter, match=words):
        read(text.encode("latin-1"), Fields("csv", "k"))


def test_a_row_that_is_wrong_says_why_and_the_next_one_is_read() -> None:
    found = read("k,v\na\nb,1,2\nc,3\n", Fields("csv", "k"))
    assert [bool(row.wrong) for row in found] == [True, True, False]
    for text in ('{"k": null}', '{"k": true}', '{"k": ""}', '{"k": [1]}', "[]", "7"):
        (row,) = read(text, Fields("jsonl", "k"))
        assert row.wrong and not row.key
    with pytest.raises(BadParameter, match="not a JSON array"):
        read('{"k": 1}', Fields("json", "k"))


def test_gzip_is_told_by_its_first_bytes() -> None:
    packed = io.BufferedReader(io.BytesIO(gzip.compress(b"text")))
    assert unpacked(packed).read() == b"text"
    assert unpacked(io.BufferedReader(io.BytesIO(b"text"))).read() == b"text"
