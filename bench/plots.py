"""
Draw the results of ``bench_hot``: ``python -m bench.plots bench/results/hot-sqlite.json``.

A PNG, and beside it an HTML page that holds the same drawing and every figure, and needs nothing from the network.
"""

from __future__ import annotations

import html
import io
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HOT = re.compile(r"^(\S+), (\d+) tasks?: ([^/:]+)$")
CPU = re.compile(r"^(\S+), (\d+) tasks?: CPU per update, toolkit$")
LATE = re.compile(r"^\S+ \+(\d+) ms, 64 tasks: ([^/:]+)$")
CROWD = re.compile(r"^\S+, (\d+ processes x \d+ tasks?): ([^/:]+)$")
MOVED = re.compile(r"^\S+, 64 tasks, (\d+) accounts: ([^/:]+)$")
STORES = re.compile(r"^(\S+), 64 tasks: ([^/:]+)$")

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; } td, th { padding: .15em .7em; text-align: left; border-bottom: 1px solid #ddd; }
td.n { text-align: right; font-variant-numeric: tabular-nums; } tr.missed td { color: #b00020; font-weight: 600; }
svg { max-width: 100%; height: auto; } pre { background: #f6f6f6; padding: 1em; overflow: auto; }
"""


def plot(found: dict[str, Any], path: Path) -> None:
    """
    Write the drawing to *path* and the page beside it.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "bench"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(16, 9))
    rows, store = found["rows"], found["store"]
    _lines(axes[0][0], _hot(rows, store), "tasks on one key", f"One hot key on {store}: updates per second")
    _lines(axes[0][1], _cpu(rows), "tasks on one key", "CPU per update in the client, µs")
    _bars(axes[0][2], _grouped(rows, LATE, _late), "64 tasks, by added latency: updates per second")
    _bars(axes[1][0], _grouped(rows, STORES, _plain), "64 tasks, by store: updates per second")
    _bars(axes[1][1], _grouped(rows, CROWD, _plain), "Several processes on one key: updates per second")
    _bars(axes[1][2], _grouped(rows, MOVED, _accounts), "64 tasks, transfers per second")
    figure.suptitle(f"{found['machine']['cores']} cores, {found['at']}, load {found['load before'][0]:.1f}")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Creator": None, "Date": None})
    plt.close(figure)
    drawing = drawn.getvalue()
    path.with_suffix(".html").write_text(page(found, drawing[drawing.index("<svg") :]), encoding="utf-8")


def _hot(rows: list[dict[str, Any]], store: str) -> dict[str, list[tuple[int, float]]]:
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in rows:
        if row["unit"] == "per s" and (named := HOT.match(row["name"])) and named[1] == store:
            lines[named[3]].append((int(named[2]), row["value"]))
    return lines


def _cpu(rows: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    return {"toolkit": [(int(m[2]), row["value"]) for row in rows if (m := CPU.match(row["name"]))]}


def _late(text: str) -> str:
    return f"+{text} ms"


def _plain(text: str) -> str:
    return text.replace(" x ", "\nx ")


def _accounts(text: str) -> str:
    return f"{text} accounts"


def _grouped(rows: list[dict[str, Any]], pattern: re.Pattern[str], shown: Any) -> dict[str, dict[str, float]]:
    """
    By side, then by group, what a pattern finds.
    """
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row["unit"] == "per s" and (named := pattern.match(row["name"])) and named[1] != "peer":
            groups[named[2]][shown(named[1])] = row["value"]
    return groups


def _lines(axes: Any, lines: dict[str, list[tuple[int, float]]], label: str, title: str) -> None:
    points = {side: sorted((x, max(y, 0.1)) for x, y in line) for side, line in lines.items() if line}
    axes.set_title(title, fontsize=10)
    if not points:
        return
    for side, line in points.items():
        axes.plot(*zip(*line, strict=True), marker="o", label=side)
    axes.set(xscale="log", yscale="log", xlabel=label)
    axes.set_xticks(sorted({x for line in points.values() for x, _ in line}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)


def _bars(axes: Any, groups: dict[str, dict[str, float]], title: str) -> None:
    axes.set_title(title, fontsize=10)
    names = list(dict.fromkeys(name for sides in groups.values() for name in sides))
    if not names:
        return
    width = 0.8 / len(groups)
    for number, (side, values) in enumerate(groups.items()):
        places = [index + number * width for index, name in enumerate(names) if name in values]
        axes.bar(places, [max(values[name], 0.1) for name in names if name in values], width, label=side)
    axes.set_xticks([index + 0.4 - width / 2 for index in range(len(names))], names, fontsize=8)
    axes.set_yscale("log")
    axes.set_ylim(top=axes.get_ylim()[1] * 10)  # room for the legend
    axes.grid(visible=True, axis="y", alpha=0.3)
    axes.legend(fontsize=8)


def page(found: dict[str, Any], drawing: str) -> str:
    """
    The whole page; nothing in it is loaded from elsewhere.
    """
    about = {key: value for key, value in found.items() if key not in ("rows", "profile")}
    profiles = "\n\n".join(f"{name}\n  " + "\n  ".join(lines) for name, lines in found["profile"].items())
    return "\n".join(
        [
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>bench {html.escape(found["bench"])}</title>',
            f"<style>{STYLE}</style><h1>bench {html.escape(found['bench'])}</h1>{drawing}<h2>Figures</h2><table>",
            "<tr><th>figure<th>value<th><th>one task<th>busy<th>goal<th></tr>",
            *(_row(row) for row in found["rows"]),
            f"</table><h2>Measured on</h2><pre>{html.escape(json.dumps(about, indent=2))}</pre>",
            f"<h2>Profiles</h2><pre>{html.escape(profiles)}</pre></html>\n",
        ]
    )


def _row(row: dict[str, Any]) -> str:
    goal = f"≥ {row['least']:g}" if row["least"] is not None else ""
    goal = goal or (f"≤ {row['most']:g}" if row["most"] is not None else "")
    alone = "" if row["alone"] is None else f"{row['alone']:,.4g}"
    busy = "" if row["busy"] is None else f"{row['busy']:.0%}"
    mark = {True: "met", False: "missed", None: ""}[row["met"]]
    numbers = "".join(f'<td class="n">{text}' for text in (f"{row['value']:,.4g}",))
    return (
        f'<tr class="{mark}"><td>{html.escape(row["name"])}{numbers}<td>{html.escape(row["unit"])}'
        f'<td class="n">{alone}<td class="n">{busy}<td class="n">{goal}<td>{mark}</tr>'
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        plot(json.loads(Path(name).read_text(encoding="utf-8")), Path(name).with_suffix(".png"))
