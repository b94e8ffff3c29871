"""
The door: who hears an event, and that nothing a listener does reaches the operation.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.log.conftest import COMMITTED, committed, conflict, gave_up, lines_of
from toolkit.core.events import Event
from toolkit.log import add_hook, bind, capture, emit, listening, log_to, remove_hook, validate_environment
from toolkit.log._sinks import FileSink


def test_a_file_gets_whole_lines(tmp_path: Path):
    """
    Every event is one line of JSON with who and when.
    """
    with log_to(tmp_path / "occ.jsonl", app="shop", writer="w1") as log:
        emit(conflict())
        emit(committed())
    first, second, summary = lines_of(log.path)
    assert (first["event"], first["app"], first["writer"], first["v"]) == ("occ.conflict", "shop", "w1", 1)
    assert (second["event"], second["combined"]) == ("occ.committed", 3)
    assert first["inst"].endswith(f":{os.getpid()}")
    assert (summary["event"], summary["ops"], summary["updates"], summary["conflicts"]) == (
        "occ.summary",
        1,
        3,
        1,
    )


def test_the_environment_is_read_once_and_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """
    ``OCC_LOG`` names the file, ``{pid}`` is filled in, and the variables are looked at with the first event.
    """
    monkeypatch.setenv("OCC_LOG", str(tmp_path / "occ-{pid}.jsonl"))
    monkeypatch.setenv("APP_ID", "orders")
    emit(conflict())
    (line,) = lines_of(tmp_path / f"occ-{os.getpid()}.jsonl")
    assert (line["app"], line["writer"]) == ("orders", "orders")


def test_nobody_listens_by_default():
    """
    Without file, structlog configuration or hook there is nothing to build fields for.
    """
    assert listening() is False
    with capture():
        assert listening() is True
    assert listening() is False


def test_an_unconfigured_program_stays_quiet():
    """
    Structlog's default prints to standard output; a library must not.
    """
    code = (
        "from toolkit.core.events import Event\nfrom toolkit.log import emit\n"
        "emit(Event('occ.gave_up', {'store': 's', 'key': 'k', 'reason': 'error'}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_structlog_is_used_where_it_is_configured():
    """
    The application's own configuration receives the event under its name and level.
    """
    with structlog.testing.capture_logs() as logs:
        emit(gave_up())
    assert [(entry["event"], entry["log_level"], entry["reason"]) for entry in logs] == [
        ("occ.gave_up", "error", "attempts")
    ]


def test_a_level_that_is_off_costs_no_record(monkeypatch: pytest.MonkeyPatch):
    """
    The application's level is asked before anything is built.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    monkeypatch.setattr("toolkit.log._record.RecordBuilder.build", lambda *_, **__: pytest.fail("built"))
    emit(conflict())
    emit(committed())


def test_hooks_hear_everything_and_cannot_hurt(caplog: pytest.LogCaptureFixture):
    """
    A hook that raises is reported once, by type and not by text, and the others still hear.
    """
    heard: list[str] = []

    def broken(_: Event) -> None:
        raise KeyError("a value")

    def hears(event: Event) -> None:
        heard.append(event.name)

    add_hook(broken)
    add_hook(hears)
    with caplog.at_level(logging.WARNING):
        emit(conflict())
        emit(committed())
    remove_hook(broken)
    remove_hook(hears)
    emit(gave_up())
    assert heard == ["occ.conflict", "occ.committed"]
    assert len(caplog.records) == 1
    assert "KeyError" in caplog.text
    assert "a value" not in caplog.text


def test_captures_nest():
    """
    An inner capture ends without ending the outer one.
    """
    with capture() as outer:
        with capture() as inner:
            emit(conflict())
        emit(committed())
    assert [event.name for event in inner] == ["occ.conflict"]
    assert [event.name for event in outer] == ["occ.conflict", "occ.committed"]


def test_hashed_keys_need_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """
    Without a secret ``hash`` is refused with the cure, and the environment's log writes nothing rather than keys.
    """
    with pytest.raises(ValueError, match="OCC_LOG_SECRET"):
        log_to(tmp_path / "a.jsonl", keys="hash")
    monkeypatch.setenv("OCC_LOG", str(tmp_path / "b.jsonl"))
    monkeypatch.setenv("OCC_LOG_KEYS", "hash")
    with pytest.raises(ValueError, match="OCC_LOG_SECRET"):
        validate_environment()
    emit(conflict())
    assert list(tmp_path.iterdir()) == []
    assert "OCC_LOG_SECRET" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OCC_LOG_KEYS", "rot13"),
        ("OCC_LOG_SAMPLE", "lots"),
        ("OCC_LOG_SAMPLE", "2"),
        ("OCC_LOG_SUMMARY", "soon"),
    ],
)
def test_bad_settings_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    """
    The message names the variable.
    """
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=name):
        validate_environment()


def test_the_secret_is_not_shown(tmp_path: Path):
    """
    The secret is in no line and no repr.
    """
    with log_to(tmp_path / "occ.jsonl", keys="hash", secret="tops3cret") as log:
        emit(conflict())
    assert "tops3cret" not in Path(log.path).read_text() + repr(log._pipeline.settings)


def test_two_processes_hash_alike(tmp_path: Path):
    """
    Processes with one secret give a key one hash and a race one name, so that their logs join.
    """
    code = (
        "import sys\nfrom tests.log.conftest import conflict\nfrom toolkit.log import emit, log_to\n"
        "with log_to(sys.argv[1], keys='hash', secret='s', summary_every=0): emit(conflict())"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], timeout=60, check=True)
    (one,), (other,) = lines_of(tmp_path / "a"), lines_of(tmp_path / "b")
    assert (one["key"], one["op_id"], one["race"]) == (other["key"], other["op_id"], other["race"])
    assert one["key"] != "user-17"


def test_context_is_added(tmp_path: Path):
    """
    What workflows, actors and the application bind is in the line; what sounds secret is not, and no field is replaced.
    """
    structlog.contextvars.bind_contextvars(request_id="r-1", api_token="t0ken", key="other", deep={"a": 1})
    with log_to(tmp_path / "occ.jsonl", summary_every=0) as log, bind(workflow_id="order-7"):
        emit(conflict())
    (line,) = lines_of(log.path)
    assert (line["request_id"], line["workflow_id"], line["key"]) == ("r-1", "order-7", "user-17")
    assert "t0ken" not in json.dumps(line)
    assert "deep" not in line


def test_secrets_that_are_bound_reach_no_sink(tmp_path: Path):
    """
    Neither the file nor the application's structlog hears a name that sounds like a secret, or what is no scalar.
    """
    card: Any = {"card": "hunter2"}
    with (
        structlog.testing.capture_logs() as logs,
        log_to(tmp_path / "occ.jsonl") as log,
        bind(api_token="hunter2", request_id="r-1", order=card),
    ):
        emit(committed())
    for line in (logs[0], lines_of(log.path)[0]):
        assert line["request_id"] == "r-1"
        assert "hunter2" not in json.dumps(line)


def test_bind_ends_with_its_block(tmp_path: Path):
    """
    A field bound in a block is not on lines after it.
    """
    with log_to(tmp_path / "occ.jsonl", summary_every=0) as log:
        with bind(actor_id="a1"), bind(writer="cron"):
            emit(conflict())
        emit(conflict())
    inside, outside = lines_of(log.path)
    assert (inside["actor_id"], inside["writer"]) == ("a1", "cron")
    assert "actor_id" not in outside


def test_threads_write_whole_lines(tmp_path: Path):
    """
    Lines of many threads do not mix.
    """
    with log_to(tmp_path / "occ.jsonl", summary_every=0) as log:
        threads = [threading.Thread(target=lambda: [emit(conflict()) for _ in range(200)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {line["event"] for line in lines_of(log.path)} == {"occ.conflict"}
    assert len(lines_of(log.path)) == 1600


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_file(tmp_path: Path):
    """
    Parent and child each write their own file, under their own instance.
    """
    with log_to(tmp_path / "occ-{pid}.jsonl", summary_every=0) as log:
        emit(conflict())
        child = os.fork()
        if child == 0:
            emit(committed())
            os._exit(0)
        os.waitpid(child, 0)
        emit(conflict())
    assert [line["event"] for line in lines_of(log.path)] == ["occ.conflict"] * 2
    (line,) = lines_of(tmp_path / f"occ-{child}.jsonl")
    assert (line["event"], line["inst"].rpartition(":")[2]) == ("occ.committed", str(child))


def test_a_rotated_file_is_opened_again(tmp_path: Path):
    """
    After the file was moved away, lines go into a new one of the old name.
    """
    sink = FileSink(tmp_path / "occ.jsonl")
    sink.write({"n": 1}, 1)
    (tmp_path / "occ.jsonl").rename(tmp_path / "occ.jsonl.1")
    sink.write({"n": 2}, 2)
    sink.close()
    assert (lines_of(tmp_path / "occ.jsonl.1"), lines_of(tmp_path / "occ.jsonl")) == ([{"n": 1}], [{"n": 2}])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which is always out of space")
def test_a_full_disk_costs_lines_not_operations(caplog: pytest.LogCaptureFixture):
    """
    A line that cannot be written is counted and told once.
    """
    log = log_to("/dev/full", summary_every=0)
    for _ in range(3):
        emit(conflict())
    assert log._pipeline._summary.dropped == 3
    assert len(caplog.records) == 1


def test_a_second_file_ends_the_first(tmp_path: Path):
    """
    One file at a time; closing twice is no error.
    """
    first = log_to(tmp_path / "a.jsonl")
    second = log_to(tmp_path / "b.jsonl")
    emit(conflict())
    first.close()
    second.close()
    second.close()
    assert lines_of(tmp_path / "a.jsonl") == []
    assert len(lines_of(tmp_path / "b.jsonl")) == 2


def test_unprintable_values_do_no_harm(tmp_path: Path):
    """
    Lone surrogates and very long texts are written as far as JSON and the limit allow, or counted as dropped.
    """
    with log_to(tmp_path / "occ.jsonl", summary_every=0) as log:
        emit(conflict(key="x" * 100_000))
        emit(conflict(key="\ud800"))
        emit(conflict(key="after"))
    found: list[dict[str, Any]] = lines_of(log.path)
    assert len(found[0]["key"]) < 2100
    assert found[-1]["key"] == "after"


def test_outcomes_are_counted_per_operation(tmp_path: Path):
    """
    A summary counts operations, attempts and lost time per store, operation and template.
    """
    with log_to(tmp_path / "occ.jsonl") as log:
        emit(conflict())
        emit(Event("occ.committed", COMMITTED | {"attempt": 2, "lost_s": 0.5, "combined": 1}))
        emit(gave_up())
        emit(Event("occ.committed", COMMITTED | {"store": "other", "noop": True, "combined": 1}))
    rows = [line for line in lines_of(log.path) if line["event"] == "occ.summary"]
    here = next(row for row in rows if row["store"] == "statestore")
    there = next(row for row in rows if row["store"] == "other")
    assert {name: here[name] for name in ("ops", "attempts", "conflicts", "gave_up", "max_attempt", "lost_s")} == {
        "ops": 2, "attempts": 5, "conflicts": 1, "gave_up": 1, "max_attempt": 3, "lost_s": 0.51,
    }  # fmt: skip
    assert (there["ops"], there["noop"], there["key_tpl"]) == (1, 1, "user-{id}")
