"""
Every command on a simulated log: answers, exit codes, and no traceback for a user's mistake.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.review.conftest import lost, won, write
from toolkit.cli.log import app
from toolkit.review.simulate import Truth

COMMANDS = ("summary", "top", "rate", "attempts", "pairs", "heat", "gave-up", "advise", "check")


def occ(*args: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(args), input=stdin, env={"COLUMNS": "160", "NO_COLOR": "1"})


def answer(*args: str) -> Any:
    found = occ(*args, "--json")
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "md"])
def test_every_command_answers_in_every_form(simulated: tuple[str, Truth], command: str, form: str):
    """
    Tables for people say what was read; the machine forms parse.
    """
    found = occ(command, simulated[0], "--format", form)
    assert found.exit_code == (1 if command == "check" else 0)
    text = found.stdout
    if form == "table":
        assert "1 file" in text
    elif form == "json":
        assert json.loads(text)
    elif form == "jsonl":
        assert all(json.loads(line) for line in text.splitlines())
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(text)))
        assert len({len(row) for row in rows}) == 1
    else:
        assert text.startswith("| ")


def test_the_roots_are_the_contract(simulated: tuple[str, Truth]):
    """
    The JSON roots named in the design.
    """
    path, truth = simulated
    summary = answer("summary", path)
    assert {"events", "operations", "conflicts", "gave_up", "lost_s"} <= set(summary)
    assert summary["conflicts"] == truth.conflicts
    top = answer("top", path, "--limit", "3")["keys"]
    assert len(top) == 3
    assert {"key", "lost", "lost_s"} <= set(top[0])
    assert set(answer("pairs", path)["pairs"][0]) == {"loser", "winner", "count", "lost_s"}


def test_one_command_tells_the_hottest_key_its_rivals_and_the_advice(simulated: tuple[str, Truth]):
    """
    ``occ log summary`` is enough for someone who has never seen the tool.
    """
    path, truth = simulated
    text = occ("summary", path).stdout
    hottest = truth.as_dict()["hottest"]
    assert f"On {hottest} most often lost: worker-" in text
    assert "Advice: " in text


def test_conditions_narrow(simulated: tuple[str, Truth]):
    """
    Common options reach every command.
    """
    path, truth = simulated
    assert answer("summary", path, "--key", "order-0")["conflicts"] == truth.losses["order-0"]
    assert answer("summary", path, "--where", "writer=nobody")["conflicts"] == 0
    assert answer("top", path, "--key", "order-1")["keys"][0]["key"] == "order-1"
    assert answer("rate", path, "--min-attempt", "99")["rates"] == []


def test_groups_count_by_another_field(simulated: tuple[str, Truth]):
    """
    All losses of one template, or of one operation, in one row.
    """
    path, truth = simulated
    for group, name in (("tpl", "order-{id}"), ("op", "update")):
        rows = answer("top", path, "--group", group)["keys"]
        assert [(row["key"], row["lost"]) for row in rows] == [(name, truth.conflicts)]


def test_the_gate_opens_and_shuts(simulated: tuple[str, Truth]):
    """
    Exit code 0 within the limits, 1 and the rule beyond them.
    """
    path, _ = simulated
    assert occ("check", path, "--max-conflict-ratio", "99%").exit_code == 0
    shut = occ("check", path, "--max-conflict-ratio", "0.1%")
    assert shut.exit_code == 1
    assert "FAILED" in shut.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("summary", "/nowhere/occ.jsonl"), "no such file"),
        (("summary", "FILE", "--since", "soon"), "yesterday"),
        (("summary", "FILE", "--format", "xml"), "table, json"),
        (("summary", "FILE", "--where", "x"), "NAME=VALUE"),
        (("top", "FILE", "--by", "beauty"), "lost, losses"),
        (("rate", "FILE", "--every", "never"), "100ms"),
        (("rate", "FILE", "--every", "nan"), "100ms"),
        (("rate", "FILE", "--every", "inf"), "100ms"),
        (("live", "FILE", "--window", "nan"), "100ms"),
        (("check", "FILE", "--max-lost", "few"), "1%"),
        (("check", "FILE", "--max-gave-up", "nan"), "1%"),
        (("check", "FILE", "--max-conflict-ratio", "5"), "write 5%"),
        (("check", "FILE", "--max-gave-up", "-1"), "1%"),
        (("report", "FILE", "--output", "/dev/null/report.html"), "/dev/null"),
        (("live", "-"), "follows files"),
    ],
)
def test_mistakes_end_with_two_and_a_sentence(
    simulated: tuple[str, Truth], args: tuple[str, ...], message: str
):
    """
    What was wrong and what to write instead, on standard error, without a traceback.
    """
    found = occ(*(simulated[0] if arg == "FILE" else arg for arg in args))
    assert found.exit_code == 2
    assert message in found.stderr
    assert "Traceback" not in found.output


def test_standard_input_is_a_file(simulated: tuple[str, Truth]):
    """
    ``-`` reads what is piped in.
    """
    path, truth = simulated
    found = occ("summary", "-", "--json", stdin=Path(path).read_bytes())
    assert json.loads(found.stdout)["conflicts"] == truth.conflicts


def test_stories_and_keys(simulated: tuple[str, Truth]):
    """
    From a give-up to its story to its key.
    """
    path, truth = simulated
    failure = answer("gave-up", path, "--limit", "1")["gave_up"][0]
    story = occ("story", failure["call_id"], path)
    assert "gave up (attempts) at attempt 5 of 5" in story.stdout
    assert "earlier)" in story.stdout
    assert answer("key", failure["key"], path)["lost"] == truth.losses[failure["key"]]
    assert occ("story", "nobody", path).exit_code == 1
    assert occ("key", "nobody", path).exit_code == 1


def test_a_hashed_key_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    With the secret at hand a user asks for the key, not for its hash.
    """
    from toolkit.log import key_hasher

    path = write(tmp_path / "log", [lost(1, key=key_hasher(b"s")("order-7"))])
    monkeypatch.setenv("OCC_LOG_SECRET", "s")
    assert answer("key", "order-7", path)["lost"] == 1


def test_control_characters_do_nothing(tmp_path: Path):
    """
    A key cannot move the cursor, recolour the screen or hide behind another direction.
    """
    evil = "k\x1b[2J\x07\u202eexe\u200b"
    path = write(tmp_path / "log", [won(1, key=evil, write_id="aa-1"), lost(2, key=evil, winner="aa-1")])
    for command in ("summary", "top", "heat", "pairs"):
        text = occ(command, path).stdout
        assert not set("\x1b\x07\u202e\u200b") & set(text)
    assert "\\x1b[2J" in occ("top", path).stdout


def test_a_spreadsheet_runs_no_formula(tmp_path: Path):
    """
    A key that begins like a formula is quoted in CSV.
    """
    path = write(tmp_path / "log", [lost(1, key="=HYPERLINK(1)")])
    assert "'=HYPERLINK(1)" in occ("top", path, "--format", "csv").stdout


def test_the_demo_is_its_own_truth(tmp_path: Path):
    """
    What the demo says it wrote is what the commands find.
    """
    path = str(tmp_path / "demo.jsonl")
    truth = json.loads(occ("demo", "--output", path, "--operations", "500", "--json").stdout)
    found = answer("summary", path)
    assert (found["conflicts"], found["gave_up"]) == (truth["conflicts"], truth["gave_up"])
    assert answer("top", path)["keys"][0]["key"] == truth["hottest"]


def test_live_answers_once_in_a_pipe(simulated: tuple[str, Truth]):
    """
    Without a terminal the last picture is printed when the time is over.
    """
    path, truth = simulated
    found = occ("live", path, "--from", "start", "--for", "1ms", "--json")
    assert json.loads(found.stdout)["conflicts"] == truth.conflicts


def test_the_shell_completes_commands_and_options():
    """
    What ``occ --install-completion`` puts into a shell asks for names like this.
    """
    from toolkit.cli.app import app as occ_app

    def completed(words: str) -> list[str]:
        asked = {
            "_OCC_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        return CliRunner().invoke(occ_app, [], prog_name="occ", env=asked).stdout.split()

    assert {"summary", "top", "live", "report", "advise"} <= set(completed("occ log "))
    assert {"--since", "--where", "--json"} <= set(completed("occ log summary --"))


def test_schema_is_printed():
    """
    The JSON Schema names every event.
    """
    kinds = json.loads(occ("schema").stdout)["oneOf"]
    assert [kind["title"] for kind in kinds][:3] == ["occ.conflict", "occ.committed", "occ.gave_up"]


@pytest.mark.parametrize("command", [*COMMANDS, "story", "key", "live", "report", "diff", "schema", "demo"])
def test_help_has_an_example(command: str):
    """
    Every command's help ends with something to copy.
    """
    found = occ(command, "--help")
    assert found.exit_code == 0
    assert f"occ log {command}" in found.stdout


def test_a_sampled_log_says_so(tmp_path: Path):
    """
    The footer tells what is an estimate, and totals come from the exact summaries.
    """
    summary = {"v": 1, "event": "occ.summary", "timestamp": "2026-01-05T09:00:09Z", "ops": 90, "conflicts": 33, "gave_up": 0,
               "updates": 90, "dropped": 4, "noop": 2, "lost_s": 1.5, "wait_s": 0.5, "total_s": 3.0}  # fmt: skip
    path = write(tmp_path / "log", [won(1, sample=0.1), lost(2, sample=0.1), summary])
    found = answer("summary", path)
    assert (found["operations"], found["conflicts"], found["basis"]) == (90, 33, "summaries")
    assert (found["lost_s"], found["lost_share"], found["wait_s"], found["noop"]) == (1.5, 0.5, 0.5, 2)
    text = occ("summary", path).stdout
    assert "down to 10 % of races kept" in text
    assert "4 lines could not be written" in text


def test_the_reference_page_is_the_schema():
    """
    Every event and field of the schema has its row in the documentation, with its meaning.
    """
    from toolkit.review.schema import EVENTS, FIELDS

    page = (Path(__file__).parents[2] / "docs" / "reference" / "log.md").read_text(encoding="utf-8")
    for name, (letter, level, meaning) in EVENTS.items():
        assert f"| `{name}` | {letter} | {level} | {meaning} |" in page
    for field in FIELDS:
        assert f"| `{field.name}` | {field.type} | " in page
        assert f" | {field.meaning}" in page


def test_keys_with_colons_are_no_pictures(tmp_path: Path):
    """
    What stands between colons is part of a key, not the name of an emoji.
    """
    key = "user:cat:7"
    lines = [won(n / 100, key=key, writer="a", write_id=f"aa-{n:x}") for n in range(60)]
    lines += [lost(n / 100 + 0.005, key=key, winner=f"aa-{n:x}", lost_s=0.01) for n in range(60)]
    path = write(tmp_path / "occ.jsonl", lines)
    for command in (("summary",), ("top",), ("advise",), ("key", key), ("heat",)):
        text = occ(*command, path).stdout
        assert key in text
        assert "🐱" not in text


def test_commits_of_several_keys_count_on_each(tmp_path: Path):
    """
    The whole review and the quick counter agree on who won where.
    """
    lines = [
        won(1, write_id="aa-1", keys=["a", "b"], path="intents") | {"key": ""},
        lost(2, key="a", winner="aa-1"),
        lost(3, key="b", winner="aa-1"),
    ]
    path = write(tmp_path / "occ.jsonl", lines)
    for rows in (answer("top", path)["keys"], answer("summary", path)["top"]):
        assert {row["key"]: (row["won"], row["lost"]) for row in rows} == {"a": (1, 1), "b": (1, 1)}
    assert answer("top", path, "--group", "op")["keys"][0]["won"] == 1


def test_a_report_tells_machines_where_it_is(simulated: tuple[str, Truth], tmp_path: Path):
    """
    ``--json`` and ``--limit``, as everywhere.
    """
    page = tmp_path / "page.html"
    found = answer("report", simulated[0], "--output", str(page), "--limit", "3")
    assert found == {"output": str(page), "bytes": page.stat().st_size}
