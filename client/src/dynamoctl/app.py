"""`dynamoctl`: the command line, also `kubectl dynamo`. Exit: 0 done, 1 failed, 2 usage, 3 not
found, 4 siblings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from enum import StrEnum
from importlib import import_module
from io import BytesIO, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from dynamo_client import (
    BadContext,
    BadKey,
    BadParameter,
    ClientError,
    NotFound,
)
from dynamo_client.local_fault import EXTRA, LocalFault
from dynamo_client.operations import sendable
from dynamoctl.credentials import Credentials
from dynamoctl.global_options import (
    Admin,
    CaFile,
    CertFile,
    ClientTokenFile,
    Endpoint,
    KeyFile,
    SecretFile,
    TokenFile,
)
from dynamoctl.session import FAILED, NOT_FOUND, USAGE, Failed
from dynamoctl.whom import session_of

UsageError: Any = typer.BadParameter.__mro__[1]
ClickException: Any = typer.BadParameter.__mro__[2]
"""Of the click that typer uses: versions of typer have it in different modules."""
WHERE = {
    "get": ("data", "Print a value as it is, byte for byte."),
    "put": ("data", "Write a value."),
    "delete": ("data", "Delete the versions of the context, or the present ones."),
    "import": ("importing", "Write every value of a file."),
    "export": ("transfer", "Write every key with its values to a file."),
    "ring": ("ring", "Draw the first owner of each partition; show members."),
    "status": ("ring", "Show the state of all members."),
    "repair": ("ring", "Run anti-entropy now and wait until it is done."),
    "keys": ("ring", "List live keys, one in each line."),
    "preference-list": ("ring", "Show the owners of a key and their stand-ins."),
    "explain": ("ring", "Read a key and show which nodes were asked."),
    "records": ("inside", "Show every copy of a key and what it lacks."),
    "history": ("inside", "Show how a watched key came to be what it is."),
    "trees": ("inside", "Compare the hash trees of a partition's owners."),
    "hints": ("inside", "Show hints and what they wait for."),
    "events": ("inside", "Follow what happens on a node."),
    "console": ("console_door", "Print the address of the console."),
    "staleness": ("staleness", "Show how likely a read sees the last write."),
    "plan": ("change", "Show what a change would do."),
    "join": ("change", "Take nodes into the ring."),
    "leave": ("change", "Let nodes leave; other nodes get their partitions."),
    "move": ("change", "Move single replicas."),
    "weights": ("change", "Let a node hold more or fewer replicas than others."),
    "defaults": ("change", "Show or change the quorums of requests."),
    "cancel": ("change", "Cancel the moves that have not switched yet."),
    "replace": ("change", "Let one empty node replace the member of its name."),
    "remove": ("change", "Show what is lost with a dead node, or remove it."),
    "backup": ("backup", "Save the whole ring; list, verify and delete backups."),
    "restore": ("restoring", "Merge a backup into this ring."),
    "create": ("create", "Make a ring of empty nodes."),
    "top": ("top", "Watch rates and latencies of all nodes."),
    "token": ("show_token", "Print the token of an administrator."),
    "certs": ("certs", "Make certificates for a trial."),
    "local": ("local", "Run nodes as processes on this machine."),
}
"""The module of each command and its help, in the order of the help. A module is loaded when one of
its commands runs: loading all takes longer than most commands."""
COMPLETE = "_DYNAMOCTL_COMPLETE"
"""The variable in which a shell asks for completions and names itself."""
ANYWHERE = (
    "--endpoint", "--admin", "--token-file", "--secret-file", "--client-token-file", "--ca-file",
    "--cert-file", "--key-file",
    "--output", "-o", "--traceparent",
)  # fmt: skip


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Moves global options to the front, except those after `--`. An option without its value comes
    last, so that it does not take the command as its value."""
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
    """Exit code, field and message of an error."""
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
    """Prints one line on standard error and ends."""
    code, field, words = line_of(error)
    words = " ".join(words.split())
    if as_json:
        print(json.dumps({"error": words, "field": field, "code": code}), file=sys.stderr)
    else:
        prefix = f"{field}: " if field and field not in words else ""
        print(f"{program}: {prefix}{words}", file=sys.stderr)
    sys.exit(code)


class Dynamoctl(TyperGroup):
    """Global options at any place, errors as one line, commands loaded on demand."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of the help."""
        return list(WHERE)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, None if there is none; for a list, only its name and help."""
        if self._listing:
            return TyperCommand(cmd_name, help=WHERE[cmd_name][1])
        if cmd_name not in self.commands and cmd_name in WHERE:
            where, _ = WHERE[cmd_name]
            room = import_module(f"dynamoctl.{where}")
            group = get_group(room.commands)
            group.name = cmd_name
            whole = where in ("local", "certs")
            self.commands.update({cmd_name: group} if whole else group.commands)
        return self.commands.get(cmd_name)

    _listing = False

    @contextmanager
    def _listed(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Adds the commands to the help without loading them."""
        with self._listed():
            super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Commands that begin with the word, also without loading them."""
        with self._listed():
            return super().shell_complete(ctx, incomplete)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses with the global options in front."""
        return super().parse_args(ctx, hoisted(args))

    def main(
        self, args: Sequence[str] | None = None, *_: Any, obj: Any = None, **__: Any
    ) -> NoReturn:
        """Runs a command and ends the process; `obj` makes the session instead of the options."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # a missing letter must not end a command
                stream.reconfigure(errors="backslashreplace")
        if COMPLETE in os.environ:
            self._complete(obj)
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
            # Nothing more can be written, not even by the flush at the end of the process.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):  # the reader wants no more
                sys.exit(FAILED)
            end(error, program, as_json)

    def _complete(self, obj: Any) -> NoReturn:
        """Answers a shell that asks for completions; hides errors."""
        kept = ""
        if os.environ[COMPLETE] == "complete_bash":
            from dynamoctl.complete import bash_words

            words, at, kept = bash_words(os.environ["COMP_WORDS"], int(os.environ["COMP_CWORD"]))
            os.environ.update(COMP_WORDS="\n".join(words), COMP_CWORD=str(at))
        said = TextIOWrapper(BytesIO(), encoding=sys.stdout.encoding, write_through=True)
        code = 0
        try:
            with redirect_stdout(said):
                super().main([], "dynamoctl", standalone_mode=False, obj=obj)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except (ClickException, Failed, ClientError, LocalFault, OSError):
            code = 1
        said.seek(0)
        for line in filter(None, said.read().split("\n")):
            print(line.removeprefix(kept))
        sys.exit(code)


class Output(StrEnum):
    """Output for people or for programs."""

    table = "table"
    json = "json"


app = typer.Typer(
    cls=Dynamoctl,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("dynamo-ring"))
        raise typer.Exit


def trace_of(given: str, inherited: str) -> str:
    """The traceparent to send: that of the option, else that of the environment if it is
    well-formed. Raises Failed for an option that is malformed."""
    if not given:
        return sendable(inherited)
    if trace := sendable(given):
        return trace
    raise Failed(
        "needs a W3C traceparent: 00-, 32 hex digits, -, 16 hex digits, - and 2 hex digits",
        USAGE,
        "--traceparent",
    )


@app.callback()
def options(
    ctx: typer.Context,
    endpoint: Endpoint = None,
    *,
    admin: Admin = None,
    token_file: TokenFile = None,
    secret_file: SecretFile = None,
    client_token_file: ClientTokenFile = None,
    ca_file: CaFile = None,
    cert: CertFile = None,
    key: KeyFile = None,
    output: Annotated[
        Output, typer.Option("--output", "-o", help="Output for people or for programs.")
    ] = Output.table,
    traceparent: Annotated[
        str,
        typer.Option(metavar="TEXT", help="The W3C traceparent to send. Default: $TRACEPARENT."),
    ] = "",
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version; exit."
        ),
    ] = False,
) -> None:
    """dynamo-ring in a terminal: data, the ring, and nodes on this machine.

    Options before a command may also follow it. Exit codes: 0 done, 1 failed, 2 usage, 3 not found,
    4 siblings instead of the one value that you asked for.
    """
    as_json = output is Output.json
    made = ctx.obj
    shown = Credentials(token_file, secret_file, ca_file, cert, key, client_token_file)
    ctx.obj = made(as_json) if made else session_of(endpoint or [], admin or [], shown, as_json)
    ctx.obj.traceparent = trace_of(traceparent, os.environ.get("TRACEPARENT", ""))


def main() -> None:
    """The entry point of `dynamoctl`."""
    app()
