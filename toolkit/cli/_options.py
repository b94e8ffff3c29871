"""
Options and exit codes that commands on a running sidecar share.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer

FINE: Final = 0
FAILED: Final = 1
USAGE: Final = 2

Store = Annotated[str, typer.Option("--store", metavar="NAME", help="The state store component.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="The sidecar; else DAPR_GRPC_ENDPOINT or DAPR_GRPC_PORT."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
