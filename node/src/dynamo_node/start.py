"""The entry point of `dynamo-node`, before anything of the extra [node] is loaded."""

import sys


def main() -> None:
    """Runs it; where the extra is not installed, says so in one line."""
    try:
        from dynamo_node.app import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dynamo_"):
            raise
        print(
            f"dynamo-node: needs the package's extra [node] ({error.name} is not installed):"
            " pip install 'dynamo-ring[node]'",
            file=sys.stderr,
        )
        sys.exit(2)
    run()
