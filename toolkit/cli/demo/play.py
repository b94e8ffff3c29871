"""
The acts of the demo: sidecar, quiet line, bad line, transfers, review.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

import toolkit
from toolkit.cli.demo.show import show_conflicts, show_sign_ups, show_transfers
from toolkit.review.report import write
from toolkit.review.run import review
from toolkit.sidecar.build import ensure
from toolkit.sidecar.process import ProcessSet, tail
from toolkit.sidecar.sidecar import Sidecar
from toolkit.testing.proxy import FaultProxy

WAYS: Final = {
    "no-etag": "a loop without ETags",
    "etag-loop": "a hand-written ETag loop",
    "toolkit": "the toolkit",
}
_BANK_WAYS: Final = ("etag-loop", "toolkit")
_STEPS: Final = 2 * len(WAYS) + len(_BANK_WAYS) + 1
_TIMEOUT: Final = 120.0
_POLL: Final = 0.05
# Settings of the user's own log would end up in ours, or ours in theirs.
_FOREIGN: Final = ("OCC_LOG", "DAPR_")

R = TypeVar("R", bound="Result | Transfers")


class DemoError(Exception):
    """
    Something the demo needs failed; the message says what.
    """


class Result(msgspec.Struct, frozen=True):
    """
    What one way came to on one line, as ``examples/sign_up.py`` counts it.
    """

    way: str
    told: int
    stored: int
    lost: int
    doubled: int
    seconds: float


class Transfers(msgspec.Struct, frozen=True):
    """
    What one way came to with several keys, as ``examples/bank.py`` counts it.
    """

    way: str
    transfers: int
    off: int
    torn: int
    audits: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What the command line asked for.
    """

    output: Path
    processes: int
    people: int
    drop: float
    seed: int


@dataclass(frozen=True, slots=True)
class Line:
    """
    One line between the processes and the sidecar, and what came of it.
    """

    title: str
    results: tuple[Result, ...]
    lost_answers: int = 0


def play(plan: Plan, console: Console) -> bool:
    """
    Run everything and print it; whether the toolkit lost and doubled nothing.

    Raises:
        DemoError: A program of the demo failed, or the report cannot be written.
        SidecarError: There is no sidecar, or it does not start.
    """
    _check_output(plan.output)
    binaries = ensure()
    with contextlib.ExitStack() as stack:
        scratch = Path(tempfile.mkdtemp(prefix="occ-demo-"))
        stack.callback(shutil.rmtree, scratch, ignore_errors=True)
        processes = stack.enter_context(ProcessSet(scratch))
        bar = stack.enter_context(_progress(console))
        task = bar.add_task("starting daprd on embedded SQLite", total=_STEPS)
        sidecar = stack.enter_context(Sidecar(binaries=binaries, app_id="occ-demo"))
        stage = _Stage(plan, sidecar, processes, scratch, bar, task)
        quiet = stage.line("quiet", sidecar.grpc_port)
        proxy = stack.enter_context(
            FaultProxy(sidecar.grpc_port, seed=plan.seed, rates={"drop_reply": plan.drop})
        )
        bad = stage.line("bad", proxy.port)
        bad = Line(bad.title, bad.results, sum(proxy.faults.values()))
        transfers = stage.transfers(sidecar.grpc_port)
        bar.update(task, description="reading the conflict log")
        logs, report = _keep(scratch, plan.output)
        found = review([str(log) for log in logs])
        bar.update(task, completed=_STEPS, visible=False)
    show_sign_ups(console, WAYS, quiet, bad, plan)
    show_transfers(console, WAYS, transfers)
    show_conflicts(console, found, logs, report)
    ours = [result for line in (quiet, bad) for result in line.results if result.way == "toolkit"]
    exact = all(result.off == result.torn == 0 for result in transfers if result.way == "toolkit")
    return exact and all(result.lost == result.doubled == 0 for result in ours)


def _progress(console: Console) -> Progress:
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True)


class _Stage:
    """
    Where the processes play: runs of ``examples/sign_up.py`` and ``examples/bank.py``.
    """

    def __init__(
        self,
        plan: Plan,
        sidecar: Sidecar,
        processes: ProcessSet,
        scratch: Path,
        bar: Progress,
        task: TaskID,
    ) -> None:
        self._plan, self._sidecar, self._processes = plan, sidecar, processes
        self._scratch, self._bar, self._task = scratch, bar, task

    def line(self, name: str, port: int) -> Line:
        """
        Let people sign up through this port.
        """
        arguments = ["--key", f"sign-ups/{name}-line", "--people", str(self._plan.people)]
        results = self._run("sign_up.py", f"{name} line", tuple(WAYS), arguments, port, Result)
        return Line(f"{name} line", results)

    def transfers(self, port: int) -> tuple[Transfers, ...]:
        """
        Let money be moved between few accounts.
        """
        arguments = ["--transfers", str(self._plan.people)]
        return self._run("bank.py", "transfers", _BANK_WAYS, arguments, port, Transfers)

    def _run(
        self, program: str, title: str, ways: Sequence[str], arguments: list[str], port: int, kind: type[R]
    ) -> tuple[R, ...]:
        """
        Run an example and take down its results as they come.
        """
        command = [sys.executable, str(example(program)), "--json", *arguments]
        command += ["--processes", str(self._plan.processes)]
        output = self._output(title.replace(" ", "-"), command, self._environment(port))
        results: list[R] = []
        for way in ways:
            text = f"{title}: {self._plan.processes} processes, {WAYS[way]}"
            self._bar.update(self._task, description=text)
            line = next(output, None)
            if line is None:
                raise DemoError(f"{command[1]} ended early")
            results.append(msgspec.json.decode(line, type=kind))
            self._bar.advance(self._task)
        for line in output:
            raise DemoError(f"{command[1]} said more than expected: {line[:100]!r}")
        return tuple(results)

    def _environment(self, port: int) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        found = {**ours, **self._sidecar.environment}
        found |= {"DAPR_GRPC_ENDPOINT": f"127.0.0.1:{port}", "DAPR_GRPC_PORT": str(port)}
        found["OCC_LOG"] = str(self._scratch / "conflicts-{pid}.jsonl")
        # The example imports the toolkit that runs now, wherever it is installed.
        packages = [str(Path(toolkit.__file__).parent.parent), ours.get("PYTHONPATH", "")]
        found["PYTHONPATH"] = os.pathsep.join(filter(None, packages))
        return found

    def _output(self, name: str, command: list[str], env: dict[str, str]) -> Iterator[bytes]:
        """
        The JSON lines a program prints, as it prints them; raises when it fails or takes too long.
        """
        process = self._processes.start(name, command, env=env)
        log = self._processes.log_path(name)
        deadline, seen = time.monotonic() + _TIMEOUT, 0
        while True:
            code = process.poll()
            lines = log.read_bytes().split(b"\n")[:-1]
            yield from (line for line in lines[seen:] if line.startswith(b"{"))
            seen = len(lines)
            if code is not None:
                break
            if time.monotonic() > deadline:
                self._processes.stop(process, grace=1.0)
                raise DemoError(f"{command[1]} was not done within {_TIMEOUT:g} s; is the machine very busy?")
            time.sleep(_POLL)
        self._processes.forget(process)
        if code != 0:
            raise DemoError(f"{command[1]} ended with code {code}:\n{tail(log, 12)}")


def example(program: str) -> Path:
    """
    A program the processes run: in a checkout in ``examples/``, in a wheel its copy beside this module.

    Raises:
        DemoError: It is in neither place.
    """
    packaged = Path(__file__).parent / "examples" / program
    checkout = Path(toolkit.__file__).parent.parent / "examples" / program
    for path in (packaged, checkout):
        if path.is_file():
            return path
    raise DemoError(f"the example is missing: neither {packaged} nor {checkout} is there")


def _check_output(output: Path) -> None:
    """
    Refuse a directory that cannot be made before anything is started.
    """
    there = output.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise DemoError(
            f"{output} cannot be written ({there} is not a directory of yours); name another with --output"
        )


def _keep(scratch: Path, output: Path) -> tuple[list[Path], Path]:
    """
    Move the conflict log of this run to where the user finds it, and write the report beside it.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for old in output.glob("conflicts-*.jsonl"):
            old.unlink()
        logs = [
            Path(shutil.move(log, output / log.name)) for log in sorted(scratch.glob("conflicts-*.jsonl"))
        ]
        report = write(logs, output / "report.html", title="occ demo: sign-ups on a quiet and on a bad line")
    except OSError as error:
        raise DemoError(
            f"{output} cannot be written ({error.strerror}); name another with --output"
        ) from error
    return logs, report
