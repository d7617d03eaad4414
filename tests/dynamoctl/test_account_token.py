"""`kubectl dynamo` asks for a new token of a ServiceAccount before the last one ends."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from dynamoctl.account_token import AGAIN_S, LIFE_S, AccountToken
from dynamoctl.session import Failed


def token(life_s: float, number: int) -> str:
    """As the API server makes one, without a signature that anybody checks."""
    claims = json.dumps({"iat": 1000, "exp": 1000 + life_s, "n": number}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.sig"


class Server:
    """What kubectl answers, and a clock."""

    def __init__(self, path: Path, *answers: str | None) -> None:
        self.now, self.asked = 0.0, 0
        self.answers = list(answers)
        self.file = path / "token"
        first = self.answers.pop(0)
        assert first is not None
        self.file.write_text(first)
        self.token = AccountToken(self.file, self.ask, lambda: self.now)

    def ask(self) -> str | None:
        self.asked += 1
        answer = self.answers.pop(0)
        if answer == "refused":
            raise Failed("forbidden")
        return answer

    def sends(self, at: float) -> str:
        self.now = at
        return self.token.headers()["Authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("life_s", [600.0, 3600.0, 86_400.0])
def test_at_two_thirds_of_its_life(tmp_path: Path, life_s: float) -> None:
    """The API server may give a longer or a shorter life than the hour that is asked for."""
    first, second, third = (token(life_s, n) for n in range(3))
    server = Server(tmp_path, first, second, third)
    assert server.sends(0) == first and server.sends(life_s * 0.6) == first
    assert server.sends(life_s * 0.67) == second == server.token.token
    assert server.sends(life_s * 1.3) == second and server.asked == 1
    assert server.sends(life_s * 1.4) == third and server.asked == 2
    assert server.file.read_text() == third


@pytest.mark.parametrize("answer", [None, "refused", ""])
def test_while_none_is_given_the_last_one_is_sent(
    tmp_path: Path, answer: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = token(600, 1), token(600, 2)
    server = Server(tmp_path, first, answer, second)
    assert server.sends(450) == first and server.asked == 1
    assert ("forbidden" in capfd.readouterr().err) == (answer == "refused")
    assert server.sends(450 + AGAIN_S / 2) == first and server.asked == 1
    assert server.sends(451 + AGAIN_S) == second and server.asked == 2


@pytest.mark.parametrize("odd", ["opaque", "a.b.c", "e30.e30.x", "e30.bnVsbA.x", token(0, 0)])
def test_a_token_that_does_not_say_its_life_has_the_usual_one(tmp_path: Path, odd: str) -> None:
    server = Server(tmp_path, odd, token(600, 1))
    assert server.sends(LIFE_S * 0.6) == odd
    assert server.sends(LIFE_S * 0.67) != odd
