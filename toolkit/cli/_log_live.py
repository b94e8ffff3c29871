"""
The screen of ``occ log live``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from toolkit.cli._ask import Ask
from toolkit.cli._show import clean, clock, count, footer_lines, seconds, share, spark
from toolkit.review.live import LiveView
from toolkit.review.reading import InputError, expand

_REFRESH = 0.25


def _files(names: tuple[str, ...]) -> list[str]:
    """
    The files to follow; one that is named but not there yet is waited for.
    """
    found: list[str] = []
    for name in names:
        if name == "-":
            raise InputError("live follows files; for standard input use summary or top")
        try:
            found += expand([name])
        except InputError:
            if any(mark in name for mark in "*?["):
                continue
            if not Path(name).parent.is_dir():
                raise
            found.append(name)
    return found


def run(
    ask: Ask, *, window: int, sort: str, from_start: bool, duration: float | None, plain: bool = False
) -> None:
    """
    Follow until Ctrl-C or for *duration* seconds.

    On a terminal the screen is drawn again and again. With *plain*, or where there is no terminal, a line is printed for
    each second in which something came, and the whole picture at the end.
    """
    from rich.live import Live

    view = LiveView(_files(ask.files), window=window, from_start=from_start, query=ask.query)
    console = ask.out.console
    ends = None if duration is None else time.monotonic() + duration
    screen = console.is_terminal and ask.out.people and not plain
    told = 0
    try:
        with Live(console=console, screen=screen, auto_refresh=False) if screen else _Silent() as shown:
            while True:
                for name in _files(ask.files):
                    view.follow(name)
                now = time.time()
                came = view.poll(now)
                if screen:
                    shown.update(_screen(view.snapshot(now, limit=ask.limit, sort=sort)), refresh=True)
                elif came and ask.out.people and int(now) > told:
                    told = int(now)
                    typer.echo(_line(now, view.snapshot(now, limit=1, sort=sort)))
                if ends is not None and time.monotonic() >= ends:
                    break
                time.sleep(_REFRESH)
    except KeyboardInterrupt:
        # Ctrl-C is how one leaves; what was last seen stays on the terminal.
        pass
    finally:
        last = view.snapshot(time.time(), limit=ask.limit, sort=sort)
        view.close()
    if ask.out.people:
        console.print(_screen(last))
    else:
        from toolkit.cli._log_views import _KEYS

        ask.out.answer(last, "keys", _KEYS[:7])


class _Silent:
    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _line(at: float, now: dict[str, Any]) -> str:
    hot = now["keys"][:1]
    hottest = f"; hottest {clean(hot[0]['key'])} with {hot[0]['lost']:,}" if hot else ""
    return (
        f"{time.strftime('%H:%M:%S', time.gmtime(at))} last {now['window_s']} s: {now['conflicts']:,} conflicts, "
        f"{now['commits']:,} commits, {now['gave_up']:,} gave up, {seconds(now['lost_s'])} lost{hottest}"
    )


def _screen(now: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rates = now["rates"]
    head = Text(
        f"last {now['window_s']} s: {now['conflicts']:,} conflicts, {now['commits']:,} commits, {now['gave_up']:,} gave up, "
        f"{seconds(now['lost_s'])} lost",
        style="bold",
    )
    trends = Text(f"conflicts {spark(rates['conflicts'])}\ncommits   {spark(rates['commits'])}")
    keys = Table(title="Hottest keys", title_justify="left", box=None, pad_edge=False)
    for title in ("key", "lost", "won", "loss", "lost time", "share", "gave up"):
        keys.add_column(title, justify="left" if title == "key" else "right")
    for row in now["keys"]:
        keys.add_row(
            Text(clean(row["key"])), count(row["lost"]), count(row["won"]), share(row["loss_ratio"]), seconds(row["lost_s"]),
            share(row["share"]), count(row["gave_up"]),
        )  # fmt: skip
    losses = Table(title="Last losses", title_justify="left", box=None, pad_edge=False, show_header=False)
    for row in now["recent"]:
        told = f"{clean(row['loser'])} lost to {clean(row['winner'])}"
        losses.add_row(
            Text(clock(row["at"])), Text(clean(row["key"])), Text(told), f"attempt {row['attempt']}"
        )
    failed = Table(title="Last give-ups", title_justify="left", box=None, pad_edge=False, show_header=False)
    for row in now["failures"]:
        failed.add_row(
            Text(clock(row["at"])),
            Text(clean(row["key"])),
            Text(clean(row["op"])),
            Text(f"{clean(row['reason'])} after {row['attempts']}"),
        )
    foot = [Text(line, style="yellow" if warn else "dim") for line, warn in footer_lines(now["read"])]
    return Group(head, trends, Text(""), keys, Text(""), losses, Text(""), failed, *foot)
