"""
The question before a command changes something.
"""

from __future__ import annotations

import sys

import typer


def agreed(question: str) -> bool:
    """
    The answer; where nobody can give one, as in a script, the command is taken at its word.
    """
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise  # Ctrl-C or Ctrl-D
        typer.echo(err=True)
        return True
