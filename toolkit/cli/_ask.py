"""
What all log commands share: which files, which lines, how to print; and how a user's mistake ends.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from toolkit.cli._options import FINE, USAGE
from toolkit.cli._show import FORMATS, Printer
from toolkit.review.query import Query, conditions, moment
from toolkit.review.reading import STDIN, InputError, expand

# Below this a log is read before a bar could be looked at.
_BAR_FROM: Final = 20_000_000

_FILES: Final = Annotated[
    list[str],
    typer.Argument(metavar="FILES...", help="Files, directories, globs, or - for standard input; .gz too."),
]
_COMMON: Final[dict[str, tuple[Any, Any]]] = {
    "since": (Annotated[str | None, typer.Option("--since", help="From: 2026-11-24T15:00, 15:00, -15m, yesterday.")], None),
    "until": (Annotated[str | None, typer.Option("--until", help="Up to, not including.")], None),
    "key": (Annotated[str, typer.Option("--key", help="Only these keys (glob).")], ""),
    "store": (Annotated[str, typer.Option("--store", help="Only this store (glob).")], ""),
    "op": (Annotated[str, typer.Option("--op", help="Only this operation (glob).")], ""),
    "tpl": (Annotated[str, typer.Option("--tpl", help="Only this key template (glob).")], ""),
    "writer": (Annotated[str, typer.Option("--writer", help="Only this writer (glob).")], ""),
    "cause": (Annotated[str, typer.Option("--cause", help="Only losses with this cause (glob).")], ""),
    "trace": (Annotated[str, typer.Option("--trace", help="Only this OpenTelemetry trace.")], ""),
    "workflow": (Annotated[str, typer.Option("--workflow", help="Only this workflow id (glob).")], ""),
    "actor": (Annotated[str, typer.Option("--actor", help="Only this actor id (glob).")], ""),
    "min_attempt": (Annotated[int, typer.Option("--min-attempt", min=0, help="Only attempts from this one on.")], 0),
    "where": (
        Annotated[list[str] | None, typer.Option("--where", metavar="NAME=VALUE", help="Only lines with this field (glob).")],
        None,
    ),
    "map_": (
        Annotated[
            list[str] | None, typer.Option("--map", metavar="THEIRS=OURS", help="Read a field under another name.")
        ],
        None,
    ),
    "limit": (Annotated[int, typer.Option("--limit", "--top", "-n", min=1, help="Rows to print.")], 20),
    "as_json": (Annotated[bool, typer.Option("--json", help="Print JSON; the same as --format json.")], False),
    "format_": (Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMATS)}.")], "table"),
    "no_color": (Annotated[bool, typer.Option("--no-color", help="Print without colours.")], False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One question to a log.
    """

    files: tuple[str, ...]
    query: Query
    limit: int
    out: Printer
    errors: Any = field(repr=False)

    def only(self, **more: Any) -> Query:
        """
        The query, narrowed.
        """
        values = {name: getattr(self.query, name) for name in Query.__dataclass_fields__}
        return Query(**(values | more))

    @contextmanager
    def progress(self, files: Sequence[str] | None = None) -> Generator[Callable[[int], None] | None]:
        """
        A bar on standard error while a large input is read; None where nobody would see it.
        """
        names = expand(self.files if files is None else files)
        total = sum(Path(name).stat().st_size for name in names if name != STDIN and Path(name).is_file())
        if total < _BAR_FROM or not sys.stderr.isatty():
            yield None
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.errors, transient=True) as bar:
            task = bar.add_task("reading", total=total)
            yield lambda done: bar.update(task, completed=done)


def _renames(pairs: Sequence[str]) -> dict[str, str]:
    found = conditions(pairs)
    return {theirs: ours for theirs, ours in found.items() if ours}


def _query(given: dict[str, Any]) -> Query:
    where = conditions(given["where"] or ())
    for name, option in (("trace_id", "trace"), ("workflow_id", "workflow"), ("actor_id", "actor")):
        if given[option]:
            where[name] = given[option]
    return Query(
        since=moment(given["since"]) if given["since"] else None,
        until=moment(given["until"]) if given["until"] else None,
        key=given["key"],
        store=given["store"],
        op=given["op"],
        template=given["tpl"],
        writer=given["writer"],
        cause=given["cause"],
        min_attempt=given["min_attempt"],
        where=where,
        rename=_renames(given["map_"] or ()),
    )


def ask_of(given: dict[str, Any], files: Sequence[str]) -> Ask:
    """
    Make the question from the options of a command.
    """
    from rich.console import Console

    form = "json" if given["as_json"] else given["format_"]
    if form not in FORMATS:
        raise InputError(f"--format {form!r} is none of {', '.join(FORMATS)}")
    color = False if given["no_color"] or os.environ.get("NO_COLOR") else None
    errors = Console(stderr=True, emoji=False, no_color=color is False)
    return Ask(tuple(files), _query(given), given["limit"], Printer(form, no_color=color is False), errors)


def complain(message: str) -> None:
    """
    Say what the user got wrong, on standard error.
    """
    typer.echo(f"occ log: {message}", err=True)


def asking(*without: str, limit: int = 20) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """
    Give a command FILES and the common options (but those named), and hand it one ``Ask`` as its first argument.

    The command answers its exit code, None for 0; mistakes of the user end with 2 and no traceback.
    """

    def decorate(command: Callable[..., int | None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        common = {name: option for name, option in _COMMON.items() if name not in without}
        keyword = inspect.Parameter.KEYWORD_ONLY

        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {name: given.pop(name, _COMMON[name][1]) for name in _COMMON}
            files = () if "files" in without else given.pop("files")
            try:
                code = command(ask_of(values, files), **given)
            except (InputError, OSError) as error:
                if isinstance(error, BrokenPipeError):
                    # Whoever read our output (head, less) has enough.
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    raise typer.Exit(FINE) from None
                complain(str(error))
                raise typer.Exit(USAGE) from None
            raise typer.Exit(code or FINE)

        parameters = [one.replace(kind=keyword) for one in own]
        if "files" not in without:
            parameters.append(inspect.Parameter("files", keyword, annotation=_FILES))
        for name, (annotation, default) in common.items():
            value = limit if name == "limit" else default
            parameters.append(inspect.Parameter(name, keyword, default=value, annotation=annotation))
        # What Typer reads instead of the real parameters.
        setattr(run, "__signature__", inspect.Signature(parameters))  # noqa: B010 - no type checker knows the attribute
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate
