"""The file of rights: what it says, what is wrong with it, and the example of docs/security.md."""

from __future__ import annotations

import asyncio
from collections import Counter
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from dynamo_node.access import Access, may
from dynamo_node.audit import ADDRESSES_MAX, PROVEN_MAX, Audit
from dynamo_node.keyring import Keyring
from dynamo_node.problems import Problem
from dynamo_node.reload import Reload
from dynamo_node.rights import BadRights, Rights, read_rights
from dynamo_node.settings import BadSettings, NodeSettings, read

PAGE = Path(__file__).parents[3] / "docs/security.md"


def rights_of(directory: Path, text: str) -> Rights:
    path = directory / "access.toml"
    path.write_text(text)
    return read_rights(path)


def test_the_example_of_the_page_reads_and_means_what_it_says(tmp_path: Path) -> None:
    text = PAGE.read_text().split("```toml\n")[1].split("```")[0]
    rights = rights_of(tmp_path, text)
    checkout, anna = rights.of_account("shop/checkout"), rights.of_certificate(("x", "anna"))
    reports, on_call = rights.of_token(b"reports-token"), rights.of_account("ops/on-call")
    assert reports is not None
    assert [w.name for w in (checkout, anna, reports, on_call)] == [
        "sa:shop/checkout",
        "cert:anna",
        "token:reports",
        "sa:ops/on-call",
    ]
    assert may(checkout, "put", b"session:1") and not may(checkout, "put", b"report:1")
    assert may(anna, "get", b"\xff") and not may(anna, "put", b"a") and anna.list == (b"",)
    assert may(reports, "get", b"report:") and not may(reports, "get", b"report")
    assert on_call.admin and not on_call.data and not checkout.admin


def test_who_has_no_rule_may_nothing(tmp_path: Path) -> None:
    rights = rights_of(tmp_path, '[[rules]]\ncertificate = "shop/checkout"\nadmin = true\n')
    assert rights.of_token(b"") is None
    for who in (rights.of_account("shop/checkout"), rights.of_certificate(("bob",))):
        assert not who.anything
    assert rights.of_certificate(("shop/checkout",)).admin
    assert rights_of(tmp_path, "").rules == 0


def test_rules_of_one_name_add_up(tmp_path: Path) -> None:
    digest = sha256(b"t").hexdigest()
    rule = f'[[rules]]\ntoken_sha256 = "{digest}"\n'
    text = rule + 'prefixes = ["a"]\nverbs = ["get"]\n' + rule
    text += 'prefixes = ["b"]\nverbs = ["get", "put"]\nadmin = true\n'
    who = rights_of(tmp_path, text).of_token(b"t")
    assert who is not None and (who.get, who.put, who.admin) == ((b"a", b"b"), (b"b",), True)
    assert who.name == "token:" + digest[:8]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("", "rule 1: needs one of service_account, certificate, token_sha256"),
        ('certificate = "a"\nservice_account = "b/c"', "rule 1: needs one of"),
        ('certificate = "a"', "rule 1: allows nothing"),
        ('certificate = "a"\nverbs = ["get"]', "rule 1: prefixes and verbs: give both or none"),
        ('certificate = "a"\nprefixes = [""]', "rule 1: prefixes and verbs: give both or none"),
        ('certificate = "a"\nverbs = ["read"]\nprefixes = [""]', "Invalid enum value 'read'"),
        ('certificate = "a"\nadmin = 1', "Expected `bool`"),
        ('certificate = "a"\nadmn = true', "unknown field `admn`"),
        ('certificate = "a"\nname = "x"\nadmin = true', "rule 1: name: "),
        ('service_account = "checkout"\nadmin = true', "rule 1: service_account: "),
        ('service_account = "Shop/x"\nadmin = true', "rule 1: service_account: "),
        ('token_sha256 = "abc"\nadmin = true', "rule 1: token_sha256: "),
        (f'certificate = "a"\nverbs = ["get"]\nprefixes = ["{"€" * 400}"]', "rule 1: prefixes"),
        ("certificate = ", "Invalid value"),
        ("prefixes = " + "[" * 5000, "recursion"),
    ],
)
def test_what_is_wrong_is_told_with_its_rule(tmp_path: Path, rule: str, told: str) -> None:
    with pytest.raises(BadRights) as caught:
        rights_of(tmp_path, f"[[rules]]\n{rule}\n")
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_settings_name_the_file_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"access_file: .*No such file"):
        read([f"--access-file={tmp_path}/none"]).rights()
    with pytest.raises(BadSettings, match="jwks_file: needs token_issuer and access_file"):
        read([f"--jwks-file={tmp_path}/none"])
    assert read([]).rights() is None


def test_refusals_of_an_address_are_forgiven_and_addresses_are_bounded() -> None:
    now = 0.0
    audit = Audit(Counter(), lambda: now)

    def slow(address: str) -> int:
        """What the refusal says: seconds to wait; 0 if the credential is checked."""
        try:
            audit.check_pace(address, b"shown")
        except Problem as problem:
            assert problem.status == 429
            assert b"Retry-After: %d\r\n" % problem.retry_after_s in problem.answer().head
            return problem.retry_after_s
        return 0

    for _ in range(10):
        assert not slow("a")
        audit.credential_refused("GET /v1/kv", "a", "not known")
    assert slow("a") == 6 and not slow("b")
    now = 0.5
    assert slow("a") == 6, "rounded up: who waits as long as the answer says may try again"
    now = 5.9
    assert slow("a") == 1
    now = 6.0
    assert not slow("a")
    for n in range(2 * ADDRESSES_MAX):
        audit.credential_refused("GET /v1/kv", str(n), "not known")
    assert len(audit._guessers) == ADDRESSES_MAX
    for n in range(2 * PROVEN_MAX):
        audit.proven("a", b"%d" % n)
    assert len(audit._proven) == PROVEN_MAX
    counters = audit.counters
    assert counters["credentials_refused"] == 2 * ADDRESSES_MAX + 10
    assert counters["audit_lines_left_out"] >= 2 * ADDRESSES_MAX - 60
    assert counters["guessers_slowed"] == 1


def test_who_shows_nothing_leaves_lines_for_other_refusals() -> None:
    now = 0.0
    audit = Audit(Counter(), lambda: now)
    with structlog.testing.capture_logs() as lines:
        for then in (0.0, 0.5, 60.0):
            now = then
            for n in range(1000):
                told = audit.nothing_shown if n % 2 else audit.of_another_site
                told("GET /v1/kv", "a")
            for n in range(5):
                audit.credential_refused("GET /v1/kv", f"b{n}", "not known")
    outcomes = Counter(line["outcome"] for line in lines)
    assert outcomes["refused: not known"] == 15
    others = outcomes["refused: no credential"] + outcomes["refused: a page of another site"]
    assert others == 25 + 20 + 25, "half of what may be written"
    assert audit.counters["requests_without_credential"] == 1500
    assert audit.counters["requests_of_other_sites"] == 1500
    assert audit.counters["audit_lines_left_out"] == 3015 - len(lines)


def test_a_file_that_cannot_be_read_ends_no_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every error, an unknown one too, the node looks at the next file."""
    path = tmp_path / "access.toml"
    path.write_text("")
    settings = read([f"--access-file={path}"])
    access = Access(Rights(), None, Audit(Counter()))
    driver: Any = SimpleNamespace(access=access)

    async def body() -> None:
        reload = Reload([], settings, Keyring(), driver)
        monkeypatch.setattr(NodeSettings, "rights", lambda _: 1 // 0)
        path.write_text("# another")
        with pytest.raises(ZeroDivisionError):
            reload._look()
        monkeypatch.undo()
        path.write_text('[[rules]]\ncertificate = "anna"\nadmin = true\n')
        assert reload._timer is not None and not reload._timer.cancelled()
        reload._timer._run()
        assert access.rights.rules == 1
        reload.watch_no_more()

    asyncio.run(body())
