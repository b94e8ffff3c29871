"""
Every command of ``occ log`` on one log, held against a recount of its lines by the plainest means.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from toolkit.cli.log import app

COMMANDS = frozenset(
    ("summary", "top", "rate", "attempts", "pairs", "heat", "gave-up", "story", "key", "live", "report", "diff", "check",
     "advise", "schema", "demo")
)  # fmt: skip


class Recount:
    """
    The lines of a log, all in memory, counted one by one.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.lines: list[dict[str, Any]] = []
        for name in files:
            raw = Path(name).read_bytes()
            text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
            self.lines += [json.loads(line) for line in text.splitlines()]
        self.conflicts = self.of("occ.conflict")
        self.commits = self.of("occ.committed")
        self.lost = Counter(self.key(line) for line in self.conflicts)
        self.lost_s = sum(line["lost_s"] for line in self.conflicts)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    @staticmethod
    def key(line: dict[str, Any]) -> str:
        return line.get("key") or line["keys"][0]

    def pairs(self) -> Counter[tuple[str, str]]:
        """
        Losers and winners, where the winner's line is there.
        """
        wrote = {line["write_id"]: line["writer"] for line in self.commits if "write_id" in line}
        found: Counter[tuple[str, str]] = Counter()
        for line in self.conflicts:
            if line.get("winner") in wrote and not line.get("maybe_self"):
                found[line["writer"], wrote[line["winner"]]] += 1
        return found


def occ(*args: str) -> Any:
    found = CliRunner().invoke(app, list(args), env={"COLUMNS": "160", "NO_COLOR": "1"})
    assert found.exit_code == 0, (args, found.output)
    return found.stdout


def answer(*args: str) -> Any:
    return json.loads(occ(*args, "--json"))


def check_every_command(files: Sequence[str], folder: Path) -> None:
    """
    Run all commands on *files*, each for people and for machines, and hold what they say against the recount.
    """
    whole, names = Recount(files), list(files)
    _totals(whole, names)
    _who(whole, names)
    _single(whole, names)
    _files(whole, names, folder)
    for command in sorted(COMMANDS - {"story", "key", "live", "report", "diff", "schema", "demo"}):
        assert f"{len(names)} file" in occ(
            command, *names, *(("--max-gave-up", "1e9") if command == "check" else ())
        )


def _totals(whole: Recount, names: list[str]) -> None:
    summary = answer("summary", *names)
    gave_up = len(whole.of("occ.gave_up"))
    assert summary["events"] == summary["read"]["lines"] == len(whole.lines)
    assert (summary["conflicts"], summary["gave_up"]) == (len(whole.conflicts), gave_up)
    assert summary["committed"] == len(whole.commits)
    assert summary["lost_s"] == pytest.approx(whole.lost_s, abs=1e-3)
    rows = answer("top", *names, "--limit", "10000", "--by", "losses")["keys"]
    assert {row["key"]: row["lost"] for row in rows if row["lost"]} == dict(whole.lost)
    assert rows[0]["lost"] == max(whole.lost.values())
    rates = answer("rate", *names, "--limit", "100000")["rates"]
    assert sum(row["conflicts"] for row in rates) == len(whole.conflicts)
    attempts = answer("attempts", *names)["attempts"]
    assert {row["attempt"]: row["lost"] for row in attempts if row["lost"]} == dict(
        Counter(line["attempt"] for line in whole.conflicts)
    )
    heat = answer("heat", *names, "--rows", "10000")["rows"]
    assert {row["key"]: sum(row["cells"]) for row in heat} == dict(whole.lost)
    found = answer(
        "check", *names, "--max-gave-up", str(gave_up), "--max-conflicts", str(len(whole.conflicts))
    )
    assert found["passed"]
    assert {row["value"] for row in found["rules"]} == {gave_up, len(whole.conflicts)}


def _who(whole: Recount, names: list[str]) -> None:
    pairs = {
        (row["loser"], row["winner"]): row["count"]
        for row in answer("pairs", *names, "--limit", "9999")["pairs"]
    }
    known = whole.pairs()
    assert sum(pairs.values()) == len(whole.conflicts)
    assert all(pairs[pair] >= count for pair, count in known.items())
    assert sum(pairs.values()) - sum(known.values()) >= sum(
        count for (_, winner), count in pairs.items() if winner.startswith("(")
    )
    advice = answer("advise", *names)
    assert advice["losses"] == len(whole.conflicts)
    assert {key for one in advice["advice"] for key in one["keys"]} <= set(whole.lost) | {
        whole.key(line) for line in whole.of("occ.gave_up")
    }


def _single(whole: Recount, names: list[str]) -> None:
    hottest, count = whole.lost.most_common(1)[0]
    assert answer("key", hottest, *names, "--limit", "5")["lost"] == sum(
        line.get("key") == hottest or hottest in line.get("keys", ()) for line in whole.conflicts
    )
    assert answer("summary", *names, "--key", hottest)["conflicts"] == count
    loser = max(whole.conflicts, key=lambda line: line["attempt"])
    story = answer("story", loser["call_id"], *names)["stories"][0]
    assert [step["attempt"] for step in story["steps"] if step["result"] == "lost"] == sorted(
        line["attempt"] for line in whole.conflicts if line["call_id"] == loser["call_id"]
    )
    failures = answer("gave-up", *names, "--limit", "10000")
    assert sorted(row["call_id"] for row in failures["gave_up"]) == sorted(
        line["call_id"] for line in whole.of("occ.gave_up")
    )


def _files(whole: Recount, names: list[str], folder: Path) -> None:
    page = folder / "every.html"
    occ("report", *names, "--output", str(page))
    assert f"{len(whole.conflicts):,}" in page.read_text(encoding="utf-8")
    figures = answer("diff", str(Path(names[0]).parent), str(Path(names[0]).parent))
    assert figures["before"]["conflicts"] == figures["after"]["conflicts"] == len(whole.conflicts)
    plain = [name for name in names if not name.endswith(".gz")]
    live = answer("live", *plain, "--from", "start", "--for", "1ms")
    lines = Recount(plain)
    assert (live["conflicts"], live["commits"]) == (len(lines.conflicts), len(lines.commits))
    assert f"{len(lines.conflicts):,} conflicts" in occ(
        "live", *plain, "--from", "start", "--for", "1ms", "--plain"
    )
    assert "occ.conflict" in occ("schema")
    truth = json.loads(
        occ("demo", "--output", str(folder / "every-demo.jsonl"), "--operations", "300", "--json")
    )
    assert answer("summary", str(folder / "every-demo.jsonl"))["conflicts"] == truth["conflicts"]
