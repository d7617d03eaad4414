"""The command line: `dynamoctl` and `kubectl dynamo`. This module has only the entry points: the
rest takes long to load, and an interrupt while it loads ends with the exit code of an interrupted
command and without a traceback."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def main() -> None:
    """The entry point of `dynamoctl`."""
    try:
        with _loading():
            from dynamoctl.app import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


def plugin() -> None:
    """The entry point of `kubectl-dynamo`."""
    try:
        with _loading():
            from dynamoctl.kubectl import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def _loading() -> Iterator[None]:
    """Modules are kept until the end: to look among them for garbage takes a tenth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
