"""
Calling ``occ`` on one key, and looking at its row behind the command's back.
"""

from __future__ import annotations

import json
import time

from typer.testing import CliRunner

from toolkit.cli.app import app
from toolkit.core.model import Write
from toolkit.dapr.address import Token, address_of
from toolkit.dapr.port import GrpcPort


def now():
    return time.time()


def occ(*arguments, answer=None):
    return CliRunner().invoke(app, [*arguments], input=answer)


def on_sqlite(command, *arguments, **options):
    return occ(command, *arguments, "--store", "sqlite", **options)


def inspected(*arguments):
    return json.loads(on_sqlite("inspect", *arguments, "--json").stdout)


def raw(live, key, *, put=None):
    """
    The row as a plain writer sees it, after writing it when there is something to put.
    """
    port = GrpcPort(live.name, address_of(live.address), Token())
    port.connect(5)
    try:
        if put is not None:
            assert port.put(Write(key, put), timeout=5).ok
        return port.get(key, strong=True, timeout=5)
    finally:
        port.close()
