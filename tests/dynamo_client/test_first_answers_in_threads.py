"""Threads that read their first answers at the same time.

msgspec looks at a Struct at its first use. Before version 0.23 a second thread could use what the
first one had not finished, and the process ended with a segmentation fault: `dynamoctl export`
did, and every program with threads and a new client could.
"""

from __future__ import annotations

import subprocess
import sys

ROUNDS = 1000
PROGRAM = f"""
import sys, threading, types
import msgspec

SOURCE = '''
import msgspec
class Sibling(msgspec.Struct):
    data: bytes = b""
    content_type: "str | None" = None
class Answer(msgspec.Struct, kw_only=True):
    status: int
    values: "list[Sibling]" = []
'''
BODY = b'{{"status": 200, "values": [{{"content_type": "text/plain"}}]}}'
sys.setswitchinterval(1e-6)
for number in range({ROUNDS}):  # a Struct has one first use
    module = sys.modules[f"m{{number}}"] = types.ModuleType(f"m{{number}}")
    exec(SOURCE, module.__dict__)
    ready = threading.Barrier(6)
    def read():
        ready.wait()
        msgspec.json.decode(BODY, type=module.Answer)
    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_the_first_answers_of_many_threads_end_no_process() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
