"""As much of curl as the pages use, for machines that have none: -s -i -I -o -X -d -H, one URL."""

from __future__ import annotations

import http.client
import sys
from urllib.parse import urlsplit

WITH_VALUE = {"-X", "-d", "--data-binary", "-H", "-o"}
WAIT_S_MAX = 10.0


def main(arguments: list[str]) -> int:
    """The command; 0 when there was an answer, whatever its status."""
    given: dict[str, list[str]] = {}
    flags = ""
    url = ""
    rest = iter(arguments)
    for word in rest:
        if word in WITH_VALUE:
            given.setdefault(word, []).append(next(rest))
        elif word.startswith("-"):
            flags += word.lstrip("-")
        else:
            url = word
    data = [text.encode() for name in ("-d", "--data-binary") for text in given.get(name, ())]
    headers = dict(line.split(": ", 1) for line in given.get("-H", ()))
    if data:
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    method = given.get("-X", ["HEAD" if "I" in flags else "POST" if data else "GET"])[0]
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=WAIT_S_MAX)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, b"&".join(data) if data else None, headers)
        answer = connection.getresponse()
        body = answer.read()
    except OSError as error:
        print(f"curl: (7) {error}", file=sys.stderr)
        return 7
    finally:
        connection.close()
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
