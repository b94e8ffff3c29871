"""
Points cost nothing when unused, and do to the process what a test asks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.contract.caller import COLOURS, opened
from tests.contract.common import inc
from toolkit import _points
from toolkit._drive import marked
from toolkit._points import point
from toolkit.core.steps import Steps
from toolkit.testing import MemoryStore
from toolkit.testing.points import PointError, arm, fail, parse, record, wait_at

WORKER = """
import sys
from toolkit._points import point
for turn in range(5):
    point("turn")
    print(turn, flush=True)
"""


def test_an_unarmed_point_is_nearly_free() -> None:
    """Nobody armed, a point calls nothing, and a protocol that has points is not even wrapped."""
    called: list[str] = []

    def count(_frame: object, event: str, _arg: object) -> None:
        called.append(event)

    sys.setprofile(count)
    try:
        point("commit.prepared")
    finally:
        sys.setprofile(None)
    steps: Steps[None] = iter(())  # type: ignore[assignment]
    assert marked(steps, "commit") is steps
    # Into the point and out of it again, then the call that ends the counting.
    assert called == ["call", "return", "c_call"]


@pytest.mark.parametrize("colour", COLOURS)
def test_every_write_of_one_key_has_two_points(colour: str) -> None:
    """One before it leaves and one after its answer, in every colour; reads have none."""
    with opened(colour, "x", port=MemoryStore()) as store, record() as passed:
        store.create("k", {"n": 0})
        store.update("k", inc)
        store.set("k", {"n": 5})
        store.compare_and_set("k", {"n": 6}, store.read("k").etag)
        store.delete("k")
        store.get("k")
    assert passed == {"single.write": 5, "single.written": 5}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("name", "stored"), [("single.write", 0), ("single.written", 1)])
def test_an_error_raised_around_a_write_reaches_its_caller(colour: str, name: str, stored: int) -> None:
    """What it says about the write is for the test to know; the store works on."""
    with opened(colour, "x", port=MemoryStore()) as store:
        store.create("k", {"n": 0})
        with arm({name: fail(LookupError("planted"))}), pytest.raises(LookupError, match="planted"):
            store.update("k", inc)
        assert store.get("k") == {"n": stored}
        assert store.update("k", inc) == {"n": stored + 1}


def test_a_point_raises_at_the_chosen_passing_only() -> None:
    """The third passing raises, the others go through, and the block's end disarms."""
    raised: list[int] = []
    with arm({"a": fail(LookupError("planted"), hit=3)}) as passed:
        for turn in range(1, 6):
            try:
                point("a")
                point("b")
            except LookupError:
                raised.append(turn)
    point("a")
    assert (raised, dict(passed)) == ([3], {"a": 5, "b": 4})


def test_hit_zero_fires_at_every_passing() -> None:
    """A trigger without a number in mind fires each time."""
    with arm({"a": fail(LookupError("planted"), hit=0)}):
        for _ in range(3):
            with pytest.raises(LookupError):
                point("a")


def test_record_lists_the_points_passed() -> None:
    """A dry run tells which points a piece of code has."""
    with record() as passed:
        point("first")
        point("second")
        point("first")
    assert dict(passed) == {"first": 2, "second": 1}


def test_a_barrier_holds_threads_until_all_are_there() -> None:
    """Threads that pass the point meet at the barrier, whoever comes first."""
    barrier = threading.Barrier(3)
    seen: list[int] = []

    def work() -> None:
        point("meet")
        seen.append(barrier.n_waiting)

    with arm({"meet": wait_at(barrier, hit=0)}):
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert not seen
        barrier.wait(10)
        for thread in threads:
            thread.join(10)
    assert len(seen) == 2


def test_an_event_nobody_sets_is_a_timeout() -> None:
    """A wait that ends without its event is an error, not a pass."""
    with (
        arm({"a": wait_at(threading.Event(), timeout=0.01)}),
        pytest.raises(TimeoutError, match="nobody set"),
    ):
        point("a")


def test_only_one_block_arms_at_a_time() -> None:
    """A second block would silently take the hook away from the first."""
    with arm({}), pytest.raises(RuntimeError, match="armed already"), arm({}):
        pass
    assert _points.hook is None


@pytest.mark.parametrize("text", ["a", "a=explode", "=kill", "a=kill:x"])
def test_a_bad_specification_names_the_form(text: str) -> None:
    """What cannot be read is a ValueError that shows a good one."""
    with pytest.raises(ValueError, match=r"such as commit\.prepared=kill:3"):
        parse(text)


def test_raise_from_the_environment_names_the_point() -> None:
    """The action raise throws an error of its own type."""
    with arm(parse(" a=raise , b=kill:2 ")), pytest.raises(PointError, match="raised at point a"):
        point("a")


def worker(tmp_path: Path, points: str) -> subprocess.Popen[str]:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    return subprocess.Popen(
        [sys.executable, "-m", "toolkit.testing.points", str(script)],
        env={**os.environ, "OCC_POINTS": points},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_environment_kills_a_worker_at_its_third_passing(tmp_path: Path) -> None:
    """The worker prints two turns and dies by SIGKILL."""
    process = worker(tmp_path, "turn=kill:3")
    out, _ = process.communicate(timeout=30)
    assert (out.split(), process.returncode) == (["0", "1"], -signal.SIGKILL)


def test_the_environment_freezes_a_worker_until_it_is_continued(tmp_path: Path) -> None:
    """The worker stops by SIGSTOP at the second passing and goes on after SIGCONT."""
    process = worker(tmp_path, "turn=stop:2")
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    stopped = os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=30)
    assert (stopped, out.split(), process.returncode) == (True, ["0", "1", "2", "3", "4"], 0)
