"""The command line: `dynamoctl` and `kubectl dynamo`. This module holds the entry points alone:
loading the rest takes a moment, and an interrupt in it ends with the exit code of an interrupted
command and without a traceback."""

import sys


def main() -> None:
    """The entry point of `dynamoctl`."""
    try:
        from dynamoctl.app import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


def plugin() -> None:
    """The entry point of `kubectl-dynamo`."""
    try:
        from dynamoctl.kubectl import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)
