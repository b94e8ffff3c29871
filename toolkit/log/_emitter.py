"""
One door for all events: cheap when nobody listens, and it never raises into an operation.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from types import TracebackType
from typing import Any, Final, Literal, Self

from toolkit.core.events import Event, EventHook
from toolkit.log import _settings
from toolkit.log._context import bound_here, structlog_configured
from toolkit.log._record import SAMPLED, RecordBuilder
from toolkit.log._sampling import Sampler
from toolkit.log._settings import KeyMode, LogSettings
from toolkit.log._sinks import FileSink, StructlogSink
from toolkit.log._summary import SummaryWindow

_SUMMARISED: Final = frozenset({"occ.conflict", "occ.committed", "occ.gave_up", "occ.outcome_unknown"})
_complained: set[str] = set()


def _complain(about: str, error: BaseException) -> None:
    """
    Tell the application's operators once; an operation must not fail since its log does.

    Only errors of the file system and of settings are quoted: others could hold a value.
    """
    if about not in _complained:
        _complained.add(about)
        quote = f": {error}" if isinstance(error, (OSError, ValueError)) else ""
        logging.getLogger("occ").warning("%s: %s%s (said once)", about, type(error).__name__, quote)


class Pipeline:
    """
    Settings and what they need: builder, sampler, summary, sinks.
    """

    def __init__(self, settings: LogSettings, file: FileSink | None) -> None:
        self.settings, self.file = settings, file
        self._structlog = StructlogSink()
        self._fresh()

    def _fresh(self) -> None:
        self._builder = RecordBuilder(self.settings)
        self._sampler = Sampler(self.settings.sample, time.monotonic)
        self._summary = SummaryWindow(time.monotonic)
        self._timer: threading.Timer | None = None

    def after_fork(self) -> None:
        """
        Start anew in the child: the parent writes its own lines and its own summary.
        """
        self._fresh()
        if self.file is not None:
            self.file.after_fork()

    def handle(self, event: Event) -> None:
        """
        Count, sample, complete and write one event.
        """
        builder, settings = self._builder, self.settings
        if settings.summary_every and event.name in _SUMMARISED:
            opened = self._summary.add(event, builder.template(event.fields))
            if opened:
                self._wind_up()
        races = builder.races(event.fields)
        weight = self._sampler.weigh(races) if event.name in SAMPLED else 1.0
        if not weight:
            return
        if self.file is not None:
            self._to_file(self.file, builder.build(event, races=races, weight=weight, context=True))
        if structlog_configured() and self._structlog.wants(builder.level(event)):
            record = builder.build(event, races=races, weight=weight, context=False)
            # structlog merges its own contextvars where the application asked for it.
            self._structlog.write({**bound_here(), **record})

    def _to_file(self, file: FileSink, record: dict[str, Any]) -> None:
        try:
            file.write(record, int(time.monotonic()))
        except (OSError, ValueError) as error:
            self._summary.drop()
            _complain(f"the conflict log {file.path} misses lines", error)

    def _wind_up(self) -> None:
        timer = threading.Timer(self.settings.summary_every, self.flush)
        timer.daemon = True
        timer.name = "occ-log-summary"
        try:
            timer.start()
        except RuntimeError:
            # The interpreter is going down; the exit handler writes this window.
            return
        self._timer = timer

    def flush(self) -> None:
        """
        Write the summary of the window that is open, if any.
        """
        if self._timer is not None:
            self._timer.cancel()
        try:
            for fields in self._summary.close():
                record = self._builder.base("occ.summary", "info", fields) | fields
                if self.file is not None:
                    self._to_file(self.file, record)
                if structlog_configured() and self._structlog.wants("info"):
                    self._structlog.write(record)
        except Exception as error:  # noqa: BLE001 - reported once; the log must not fail the operation
            _complain("the conflict log's summary was not written", error)

    def close(self) -> None:
        """
        Write the last summary and close the file.
        """
        self.flush()
        if self.file is not None:
            self.file.close()


class _State:
    hooks: tuple[EventHook, ...] = ()
    pipeline: Pipeline | None = None
    # A pipeline that only serves structlog, with the settings of the environment.
    environment_read = False
    lock = threading.Lock()


def emit(event: Event) -> None:
    """
    Report an event to the hooks, the file and structlog; never raises.
    """
    state = _State
    for hook in state.hooks:
        try:
            hook(event)
        except Exception as error:  # noqa: BLE001 - reported once; the log must not fail the operation
            _complain(f"hook {hook!r} of the conflict log failed", error)
    if not state.environment_read:
        _read_environment()
    pipeline = state.pipeline
    if pipeline is None or (pipeline.file is None and not structlog_configured()):
        return
    try:
        pipeline.handle(event)
    except Exception as error:  # noqa: BLE001 - reported once; the log must not fail the operation
        _complain("the conflict log misses lines", error)


def listening() -> bool:
    """
    Whether anybody would receive an event; asked before its fields are built.
    """
    state = _State
    if state.hooks:
        return True
    if not state.environment_read:
        _read_environment()
    pipeline = state.pipeline
    return pipeline is not None and (pipeline.file is not None or structlog_configured())


def _read_environment() -> None:
    with _State.lock:
        if _State.environment_read:
            return
        try:
            path = os.environ.get("OCC_LOG", "")
            settings = _settings.from_environment()
            _State.pipeline = Pipeline(settings, FileSink(path) if path else None)
        except (OSError, ValueError) as error:
            # Nothing is written rather than keys in the clear.
            _complain("the conflict log is off", error)
        _State.environment_read = True


def validate_environment() -> None:
    """
    Check ``OCC_LOG`` and the ``OCC_LOG_*`` variables without waiting for the first event.

    Raises:
        ValueError: A variable makes no sense; the message names it and the cure.
    """
    _settings.from_environment()


class LogHandle:
    """
    What ``log_to`` answers: ``close()`` it, or use it as a context manager.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @property
    def path(self) -> str:
        """
        The file being written, with ``{pid}`` filled in.
        """
        return self._pipeline.file.file if self._pipeline.file else ""

    def flush(self) -> None:
        """
        Write the summary of the window that is open; lines are written at once anyway.
        """
        self._pipeline.flush()

    def close(self) -> None:
        """
        Write the last summary and stop logging to this file; closing twice is fine.
        """
        with _State.lock:
            if _State.pipeline is not self._pipeline:
                return
            _State.pipeline = None
            _State.environment_read = False
        self._pipeline.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def log_to(
    path: str | os.PathLike[str],
    *,
    keys: KeyMode | None = None,
    secret: str | bytes | None = None,
    templates: tuple[str, ...] | list[str] | None = None,
    sample: float | Literal["auto"] | None = None,
    summary_every: float | None = None,
    warn_attempt: int | None = None,
    app: str | None = None,
    writer: str | None = None,
) -> LogHandle:
    """
    Write the conflict log to *path* as JSON lines, one file for the whole process; ``{pid}`` is filled in.

    What is not given comes from the ``OCC_LOG_*`` variables, then from the defaults of ``LogSettings``. A second call
    ends the first file. The path of the environment (``OCC_LOG``) is used again once the handle is closed.

    Raises:
        ValueError: The settings make no sense, such as hashed keys without a secret.
        OSError: The file cannot be opened.
    """
    given = {
        "keys": keys,
        "secret": secret.encode() if isinstance(secret, str) else secret,
        "templates": None if templates is None else tuple(templates),
        "sample": sample,
        "summary_every": summary_every,
        "warn_attempt": warn_attempt,
        "app": app,
        "writer": writer,
    }
    settings = _settings.from_environment(
        overrides={name: value for name, value in given.items() if value is not None}
    )
    pipeline = Pipeline(settings, FileSink(path))
    with _State.lock:
        before, _State.pipeline = _State.pipeline, pipeline
        _State.environment_read = True
    if before is not None:
        before.close()
    return LogHandle(pipeline)


def add_hook(hook: EventHook) -> None:
    """
    Have *hook* called with every event, in the thread that emits it; it must not block.

    It receives the event as the toolkit made it: keys in the clear, whatever the log does. What it raises is reported
    once and dropped.
    """
    with _State.lock:
        _State.hooks = (*_State.hooks, hook)


def remove_hook(hook: EventHook) -> None:
    """
    Stop calling *hook*; a hook that is not there is no error.
    """
    with _State.lock:
        kept = list(_State.hooks)
        # The last one first, so that nested captures of one hook unwind in order.
        for index in range(len(kept) - 1, -1, -1):
            if kept[index] == hook:
                del kept[index]
                break
        _State.hooks = tuple(kept)


def _after_fork() -> None:
    _State.lock = threading.Lock()
    if _State.pipeline is not None:
        try:
            _State.pipeline.after_fork()
        except OSError as error:
            _State.pipeline = None
            _complain("the conflict log of the forked process is off", error)


def _at_exit() -> None:
    if _State.pipeline is not None and _State.pipeline.file is not None:
        _State.pipeline.flush()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
