"""
Draw the results of ``bench_hot``: ``python -m bench.plots bench/results/hot-sqlite.json``.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HOT = re.compile(r"^\S+, (\d+) tasks: ([^/]+)$")


def plot(found: dict[str, Any], path: Path) -> None:
    """
    Updates per second of one key over the number of tasks, a line for each side.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in found["rows"]:
        if row["unit"] == "per s" and (named := HOT.match(row["name"])) and "peer" not in row["name"]:
            lines[named[2]].append((int(named[1]), max(row["value"], 0.1)))
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for side, points in lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=side)
    axes.set(xscale="log", yscale="log", xlabel="tasks on one key", ylabel="updates per second")
    axes.set_title(f"One hot key on {found['store']}, {found['machine']['cores']} cores")
    axes.set_xticks(sorted({tasks for points in lines.values() for tasks, _ in points}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        plot(json.loads(Path(name).read_text(encoding="utf-8")), Path(name).with_suffix(".png"))
