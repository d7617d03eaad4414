"""`dynamoctl`: the command line, also `kubectl dynamo`. Exit: 0 done, 1 failed, 2 usage, 3 not
found, 4 siblings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from enum import StrEnum
from importlib import import_module
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from dynamo_client import (
    BadContext,
    BadKey,
    BadParameter,
    ClientError,
    NotFound,
)
from dynamo_client.local_nodes import EXTRA, LocalFault
from dynamoctl.session import FAILED, NOT_FOUND, USAGE, Failed, session_of

UsageError: Any = typer.BadParameter.__mro__[1]
ClickException: Any = typer.BadParameter.__mro__[2]
"""Of the click that typer brings along, wherever it keeps it."""
WHERE = {
    **dict.fromkeys(("get", "put", "delete"), "data"),
    "import": "importing",
    "export": "transfer",
    **dict.fromkeys(("ring", "status", "repair", "keys", "preference-list", "explain"), "ring"),
    **dict.fromkeys(
        ("plan", "join", "leave", "move", "weights", "defaults", "cancel", "replace", "remove"),
        "change",
    ),
    **dict.fromkeys(("records", "history", "trees", "hints", "events", "console"), "inside"),
    "create": "create",
    "top": "top",
    "local": "local",
}
"""The room of each command, in the order of the help. A room is loaded when a command of it is
wanted: loading all of them takes longer than most commands."""
ANYWHERE = ("--endpoint", "--admin", "--token-file", "--output", "-o")


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Global options may stand anywhere: they are taken to the front. After `--` nothing is. One
    that lacks its value is last, so that it does not take the command for it."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in ANYWHERE:
            if not (value := list(islice(left, 1))):
                return [*front, argument]
            front += [argument, *value]
        elif argument.startswith("--") and argument.partition("=")[0] in ANYWHERE:
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def line_of(error: BaseException) -> tuple[int, str, str]:
    """Exit code, field and words of an error."""
    if isinstance(error, Failed):
        return error.code, error.field, str(error)
    if isinstance(error, LocalFault):
        return USAGE if error.field in ("NAME", EXTRA) else FAILED, error.field, str(error)
    if isinstance(error, UsageError):
        parameter = getattr(error, "param", None)
        names = [] if parameter is None else [*parameter.opts, parameter.metavar or ""]
        field = next((name for name in names if name[:1] in ("-", name[:1].upper())), "")
        return USAGE, field, error.format_message()
    if isinstance(error, ClickException):
        return error.exit_code, "", error.format_message()
    if isinstance(error, NotFound):
        return NOT_FOUND, "", str(error)
    if isinstance(error, BadKey | BadContext | BadParameter):
        fields = {BadKey: "KEY", BadContext: "--context"}
        return USAGE, fields.get(type(error), error.field), str(error)
    if isinstance(error, OSError):
        return FAILED, "", f"{error.filename or 'standard output'}: {error.strerror}"
    return FAILED, "", str(error)


def end(error: BaseException, program: str, as_json: bool) -> NoReturn:
    """One line on standard error, then the end."""
    code, field, words = line_of(error)
    words = " ".join(words.split())
    if as_json:
        print(json.dumps({"error": words, "field": field, "code": code}), file=sys.stderr)
    else:
        prefix = f"{field}: " if field and field not in words else ""
        print(f"{program}: {prefix}{words}", file=sys.stderr)
    sys.exit(code)


class Dynamoctl(TyperGroup):
    """Global options anywhere, errors as one line, and commands that are loaded when wanted."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the help."""
        return list(WHERE)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by its name, None when there is none."""
        if cmd_name not in self.commands and cmd_name in WHERE:
            room = import_module(f"dynamoctl.{WHERE[cmd_name]}")
            group = get_group(room.commands)
            group.name = cmd_name
            whole = WHERE[cmd_name] == "local"
            self.commands.update({cmd_name: group} if whole else group.commands)
        return self.commands.get(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """With global options in front."""
        return super().parse_args(ctx, hoisted(args))

    def main(
        self, args: Sequence[str] | None = None, *_: Any, obj: Any = None, **__: Any
    ) -> NoReturn:
        """Runs a command and ends the process; `obj` makes its session instead of the options."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # a letter that it lacks ends no command
                stream.reconfigure(errors="backslashreplace")
        args = list(sys.argv[1:] if args is None else args)
        plugin = Path(sys.argv[0]).name.startswith("kubectl-")
        program = "kubectl dynamo" if plugin else "dynamoctl"
        wanted = hoisted(args)
        as_json = any(
            word == "--output=json"
            or (word in ("--output", "-o") and wanted[at + 1 :][:1] == ["json"])
            for at, word in enumerate(wanted)
        )
        try:
            sys.exit(super().main(args, program, standalone_mode=False, obj=obj) or 0)
        except (ClickException, Failed, ClientError, LocalFault, RuntimeError) as error:
            end(error, program, as_json)
        except (typer.Abort, KeyboardInterrupt):
            sys.exit(130)
        except OSError as error:
            # Nothing more can be said there, not even by the flush at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):  # who reads us has seen enough
                sys.exit(FAILED)
            end(error, program, as_json)


class Output(StrEnum):
    """For people or for programs."""

    table = "table"
    json = "json"


app = typer.Typer(
    cls=Dynamoctl, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("dynamo-ring"))
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DYNAMO_ENDPOINT", metavar="URL",
            help="Client HTTP of a node; several may be given. Default: the ring of .local/ where"
            " one runs, else http://127.0.0.1:8080.",
        ),
    ] = None,
    *,
    admin: Annotated[
        list[str] | None,
        typer.Option(
            envvar="DYNAMO_ADMIN", metavar="URL",
            help="Admin HTTP of a node. Default: of the local ring, else port 8081 of the"
            " endpoint's host.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(envvar="DYNAMO_TOKEN_FILE", metavar="FILE",
                     help="The cluster secret, which the admin HTTP asks for."),
    ] = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="For people, or for programs.")
    ] = Output.table,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and end.")
    ] = False,
) -> None:  # fmt: skip
    """dynamo-ring from a terminal: data, the ring, and nodes on this machine.

    Options before a command may also stand after it. Exit codes: 0 done, 1 failed, 2 usage,
    3 not found, 4 siblings where one value was asked for.
    """
    as_json = output is Output.json
    made = ctx.obj
    ctx.obj = (
        made(as_json) if made else session_of(endpoint or [], admin or [], token_file, as_json)
    )


def main() -> None:
    """The entry point of `dynamoctl`."""
    app()
