"""The entry point of `dynamo-operator`, before anything of the extra [operator] is loaded."""

import sys


def main() -> None:
    """Runs it; where the extra is not installed, says so in one line."""
    try:
        from dynamo_operator.app import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dynamo_"):
            raise
        print(
            f"dynamo-operator: needs the package's extra [operator] ({error.name} is not"
            " installed): pip install 'dynamo-ring[operator]'",
            file=sys.stderr,
        )
        sys.exit(2)
    run()
