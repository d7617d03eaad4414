"""The commands of dynamo_client before it is loaded. That takes a moment, and whoever interrupts it
gets the exit code of an interrupted command, and no traceback."""

import sys


def main() -> None:
    """The entry point of `dynamoctl`."""
    try:
        from dynamo_client.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


def plugin() -> None:
    """The entry point of `kubectl-dynamo`."""
    try:
        from dynamo_client.cli_kubernetes import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)
