"""The options of every command: which nodes are asked, and how the command shows who it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Endpoint = Annotated[
    list[str] | None,
    typer.Option(
        envvar="DYNAMO_ENDPOINT",
        metavar="URL",
        help="Client HTTP of a node; may be given several times. Default: the ring in"
        " .local/ if it runs, else http://127.0.0.1:8080.",
    ),
]
Admin = Annotated[
    list[str] | None,
    typer.Option(
        envvar="DYNAMO_ADMIN",
        metavar="URL",
        help="Admin HTTP of a node. Default: the local ring's, else port 8081 on the"
        " endpoint's host.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(envvar="DYNAMO_TOKEN_FILE", metavar="FILE", help="The token for admin HTTP."),
]
SecretFile = Annotated[
    Path | None,
    typer.Option(
        envvar="DYNAMO_SECRET_FILE",
        metavar="FILE",
        help="The cluster secret; only a token derived from it is sent.",
    ),
]
ClientTokenFile = Annotated[
    Path | None,
    typer.Option(
        envvar="DYNAMO_CLIENT_TOKEN_FILE", metavar="FILE", help="The token for keys and values."
    ),
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        envvar="DYNAMO_CA_FILE",
        metavar="FILE",
        help="Authorities trusted for https://. Default: those of the system.",
    ),
]
CertFile = Annotated[
    Path | None,
    typer.Option(
        "--cert-file", envvar="DYNAMO_CERT_FILE", metavar="FILE", help="A client certificate."
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file", envvar="DYNAMO_KEY_FILE", metavar="FILE", help="The key of that certificate."
    ),
]
