"""
``occ log``: who lost to whom, on which key, what it cost, what to change.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer

from toolkit.cli import _log_views as views
from toolkit.cli._ask import Ask, asking
from toolkit.cli._options import FAILED, FINE
from toolkit.review.reading import InputError

app = typer.Typer(
    name="log",
    no_args_is_help=True,
    help="Review conflict logs: OCC_LOG=occ-{pid}.jsonl writes them, `occ log summary occ-*.jsonl` is the place to begin.",
    epilog="Example: occ log summary occ-*.jsonl. Exit code 0: fine; 1: a rule of check failed, or nothing was found; 2: a mistake in the command.",
)

_BY: Final = ("lost", "losses", "gave_up", "rate")
_GROUPS: Final = ("key", "tpl", "op", "writer", "store", "inst")


def _one_of(value: str, allowed: tuple[str, ...], option: str) -> str:
    value = value.replace("-", "_")
    if value not in allowed:
        raise InputError(f"{option} {value!r} is none of {', '.join(allowed)}")
    return value


def _every(text: str) -> float:
    from toolkit.review.query import seconds_in

    seconds = seconds_in(text)
    if seconds < 0.001:
        raise InputError(f"--every {text!r}: at least 1ms")
    return seconds


@app.command(epilog="Example: occ log summary occ-*.jsonl --since -15m")
@asking(limit=5)
def summary(ask: Ask) -> None:
    """
    The log in numbers: how much, what it cost, the hottest key with its rivals, the first advice.
    """
    views.summary(ask)


@app.command(epilog="Example: occ log top occ-*.jsonl --by lost --group tpl --limit 5")
@asking(limit=10)
def top(
    ask: Ask,
    by: Annotated[str, typer.Option("--by", help=f"Order: {', '.join(_BY)}.")] = "lost",
    group: Annotated[str, typer.Option("--group", help=f"Count by: {', '.join(_GROUPS)}.")] = "key",
) -> None:
    """
    The most contended keys, or templates, operations, writers.
    """
    views.top(ask, _one_of(by, _BY, "--by"), _one_of(group, _GROUPS, "--group"))


@app.command(epilog="Example: occ log rate occ-*.jsonl --every 5s")
@asking(limit=60)
def rate(
    ask: Ask, every: Annotated[str, typer.Option("--every", help="Length of a step: 100ms, 1s, 5m.")] = "1s"
) -> None:
    """
    Conflicts, commits and give-ups over time; the last steps, as many as --limit says.
    """
    views.rate(ask, _every(every))


@app.command(epilog="Example: occ log attempts occ-*.jsonl --op checkout")
@asking(limit=64)
def attempts(ask: Ask) -> None:
    """
    How attempts fare by their number, and the give-ups to expect at other limits.
    """
    views.attempts(ask)


@app.command(epilog="Example: occ log pairs occ-*.jsonl --by op")
@asking()
def pairs(
    ask: Ask, by: Annotated[str, typer.Option("--by", help="Who is who: writer, op, inst, app.")] = "writer"
) -> None:
    """
    Who lost to whom, how often and at what cost.
    """
    views.pairs(ask, _one_of(by, ("writer", "op", "inst", "app"), "--by"))


@app.command(epilog="Example: occ log heat occ-*.jsonl --rows 20 --sort name")
@asking("limit")
def heat(
    ask: Ask,
    rows: Annotated[int, typer.Option("--rows", "--limit", min=1, help="Keys to show.")] = 40,
    sort: Annotated[str, typer.Option("--sort", help="Order: hot, name.")] = "hot",
) -> None:
    """
    Losses per key over time, in blocks.
    """
    views.heat(ask, rows, _one_of(sort, ("hot", "name"), "--sort"))


@app.command("gave-up", epilog="Example: occ log gave-up occ-*.jsonl --since yesterday")
@asking()
def gave_up(ask: Ask) -> None:
    """
    Operations that gave up, with the last winner and the id to ask `story` for.
    """
    views.gave_up(ask)


@app.command(epilog="Example: occ log story 5f0c9a1b2c3d4e5f occ-*.jsonl")
@asking("files")
def story(
    ask: Ask,
    id_: Annotated[
        str,
        typer.Argument(metavar="ID", help="A call_id, op_id, trace, workflow, actor, request or write id."),
    ],
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Files, directories, globs or -.")],
) -> int:
    """
    One operation from beginning to end: every attempt, and the write that beat it.
    """
    return views.story(ask, id_, files)


@app.command(epilog="Example: occ log key order-7 occ-*.jsonl")
@asking("files", "key", limit=50)
def key(
    ask: Ask,
    name: Annotated[
        str, typer.Argument(metavar="KEY", help="The key; hashed for you where OCC_LOG_SECRET is set.")
    ],
    files: Annotated[list[str], typer.Argument(metavar="FILES...", help="Files, directories, globs or -.")],
) -> int:
    """
    One key: commits and losses in order, how fast it is written, and by whom.
    """
    return views.key(ask, name, files)


@app.command(epilog="Example: occ log live occ-*.jsonl --window 10s")
@asking(limit=10)
def live(
    ask: Ask,
    window: Annotated[str, typer.Option("--window", help="How far back: 10s, 1m, 5m.")] = "1m",
    sort: Annotated[str, typer.Option("--sort", help="Order: lost, losses, gave_up.")] = "lost",
    start: Annotated[str, typer.Option("--from", help="Read from `end` or from `start`.")] = "end",
    duration: Annotated[
        str, typer.Option("--for", help="Stop after this long; until Ctrl-C without it.")
    ] = "",
    *,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="A line a second instead of a screen; so it is without a terminal."),
    ] = False,
) -> None:
    """
    Follow growing logs; rotation and new files are followed too.
    """
    from toolkit.cli import _log_live
    from toolkit.review.query import seconds_in

    _log_live.run(
        ask,
        window=max(1, int(seconds_in(window))),
        sort=_one_of(sort, ("lost", "losses", "gave_up"), "--sort"),
        from_start=_one_of(start, ("end", "start"), "--from") == "start",
        duration=seconds_in(duration) if duration else None,
        plain=plain,
    )


@app.command(epilog="Example: occ log report occ-*.jsonl --output conflicts.html --title 'Load test 7'")
@asking("limit", "format_")
def report(
    ask: Ask,
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write.")] = "conflicts.html",
    title: Annotated[str, typer.Option("--title", help="Its heading.")] = "Conflict review",
    max_rows: Annotated[int, typer.Option("--max-rows", "--limit", min=1, help="Keys in its tables.")] = 60,
) -> None:
    """
    Everything in one HTML file, which needs no network.
    """
    from toolkit.review.report import write

    with ask.progress() as progress:
        path = write(ask.files, output, title=title, query=ask.query, max_rows=max_rows, progress=progress)
    size = path.stat().st_size
    if ask.out.people:
        typer.echo(f"wrote {path} ({size / 1000:,.0f} KB)")
    else:
        typer.echo(json.dumps({"output": str(path), "bytes": size}))


@app.command(epilog="Example: occ log diff before.jsonl after.jsonl")
@asking("files")
def diff(
    ask: Ask,
    before: Annotated[
        str, typer.Argument(metavar="BEFORE", help="Log of the first run: file, directory or glob.")
    ],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Log of the second.")],
) -> None:
    """
    Two runs: each figure with its change and 95 % interval; keys that are new, gone, worse, better.
    """
    views.diff(ask, before, after)


@app.command(epilog="Example: occ log check occ-*.jsonl --max-gave-up 0 --max-conflict-ratio 1%")
@asking()
def check(
    ask: Ask,
    max_conflict_ratio: Annotated[
        str, typer.Option("--max-conflict-ratio", help="Lost of all attempts.")
    ] = "",
    max_gave_up: Annotated[str, typer.Option("--max-gave-up", help="Operations that gave up.")] = "",
    max_lost: Annotated[str, typer.Option("--max-lost", help="Lost time of all operation time.")] = "",
    max_conflicts: Annotated[str, typer.Option("--max-conflicts", help="Lost attempts.")] = "",
    min_operations: Annotated[str, typer.Option("--min-operations", help="So that an empty run fails.")] = "",
) -> int:
    """
    Hold a run against limits; exit code 1 and the rule when one is broken. Without limits: no give-ups.
    """
    given = {
        "max-conflict-ratio": max_conflict_ratio,
        "max-gave-up": max_gave_up,
        "max-lost": max_lost,
        "max-conflicts": max_conflicts,
        "min-operations": min_operations,
    }
    chosen = {name: value for name, value in given.items() if value} or {"max-gave-up": "0"}
    return FINE if views.check(ask, chosen) else FAILED


@app.command(epilog="Example: occ log advise occ-*.jsonl")
@asking()
def advise(ask: Ask) -> None:
    """
    What to change, with the numbers behind it.
    """
    views.advise(ask)


@app.command(epilog="Example: occ log schema > conflict-log.schema.json")
def schema() -> None:
    """
    The JSON Schema of a line, version 1.
    """
    from toolkit.review.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command(epilog="Example: occ log demo --output demo.jsonl && occ log summary demo.jsonl")
def demo(
    output: Annotated[str, typer.Option("--output", "-o", help="The log to write.")] = "occ-demo.jsonl",
    operations: Annotated[int, typer.Option("--operations", min=1, help="How many operations.")] = 5000,
    writers: Annotated[int, typer.Option("--writers", min=1, help="How many writers.")] = 6,
    keys: Annotated[int, typer.Option("--keys", min=1, help="How many keys.")] = 200,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another log.")] = 1,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print what the log truly holds as JSON.")] = False,
) -> None:
    """
    Write a simulated log and say what it truly holds, to try the other commands on.
    """
    from toolkit.cli._ask import complain
    from toolkit.cli._options import USAGE
    from toolkit.review.simulate import Workload, write_logs

    load = Workload(operations=operations, writers=writers, keys=keys, seed=seed, rate=400.0, outside=0.01)
    try:
        truth = write_logs(load, output)
    except OSError as error:
        complain(f"{output}: {error.strerror}")
        raise typer.Exit(USAGE) from None
    found: dict[str, Any] = truth.as_dict() | {"output": output}
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(
        f"wrote {output}: {found['committed']:,} commits, {found['conflicts']:,} conflicts, {found['gave_up']:,} give-ups; "
        f"hottest key {found['hottest']}\nnow try: occ log summary {output}"
    )
