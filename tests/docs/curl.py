"""As much of curl as the pages use, for machines that have none: -s -i -I -o -X -d -H, one URL;
--json; and --retry of a 503 after the second that it asks for."""

from __future__ import annotations

import http.client
import sys
import time
from urllib.parse import urlsplit

WITH_VALUE = {"-X", "-d", "-H", "-o", "--json", "--retry"}
WAIT_S_MAX = 10.0
RETRY_S = 1.0


def understood(arguments: list[str]) -> tuple[str, str, dict[str, list[str]]]:
    """Flags of one letter, the URL, and what has a value."""
    given: dict[str, list[str]] = {}
    flags = url = ""
    rest = iter(arguments)
    for word in rest:
        if word in WITH_VALUE:
            given.setdefault(word, []).append(next(rest))
        elif word.startswith("-"):
            flags += word.lstrip("-")
        else:
            url = word
    return flags, url, given


def main(arguments: list[str]) -> int:
    """The command; 0 when there was an answer, of any status."""
    flags, url, given = understood(arguments)
    data = "&".join(given.get("-d", ())).encode() if "-d" in given else None
    headers = dict(line.split(": ", 1) for line in given.get("-H", ()))
    if "--json" in given:
        data = given["--json"][0].encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"} | headers
    if data is not None:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    method = given.get("-X", ["HEAD" if "I" in flags else "POST" if data else "GET"])[0]
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    for left in reversed(range(1 + int(given.get("--retry", ["0"])[0]))):
        connection = http.client.HTTPConnection(parts.netloc, timeout=WAIT_S_MAX)
        try:
            connection.request(method, target, data, headers)
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            print(f"curl: (7) {error}", file=sys.stderr)
            return 7
        finally:
            connection.close()
        if answer.status != 503 or not left:
            break
        time.sleep(RETRY_S)
    out = sys.stdout.buffer
    if "i" in flags or "I" in flags:
        out.write(f"HTTP/1.1 {answer.status} {answer.reason}\r\n".encode())
        out.writelines(f"{name}: {value}\r\n".encode() for name, value in answer.getheaders())
        out.write(b"\r\n")
    if "-o" not in given:
        out.write(body)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
