"""
The command ``occ``; the commands themselves are in ``app``, which needs the extra ``cli``.
"""

from __future__ import annotations

import sys


def main() -> None:
    """
    Run the command line; Ctrl-C is exit code 130, as in a shell.
    """
    try:
        from toolkit.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "yaml"):
            raise
        sys.stderr.write(f"occ needs {error.name}, which is not installed: pip install 'dapr-occ[cli]'\n")
        sys.exit(2)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
