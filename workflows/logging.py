"""
Logging from a workflow function, which is run again and again.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final
from weakref import WeakKeyDictionary

import structlog

from workflows.ports import Context


class _Count:
    """
    The lines of one run of a workflow, whichever of its loggers they came through.
    """

    def __init__(self) -> None:
        self.lines, self.live = 0, False

    def next(self, *, replaying: bool) -> int:
        if replaying and self.live:  # replay comes first: the run has begun anew
            self.lines, self.live = 0, False
        self.live = not replaying
        self.lines += 1
        return self.lines


_NAME: Final = "occ.workflows"
_COUNTS: Final[WeakKeyDictionary[Any, _Count]] = WeakKeyDictionary()
_SPACE: Final = uuid.UUID("6f8b1c1e-6f0c-5a68-9d0a-6d1f6d4f3b52")


class WorkflowLogger:
    """
    A logger whose lines are written in the first run of a turn only; see ``workflow_logger``.
    """

    def __init__(self, ctx: Context, logger: Any, count: _Count) -> None:
        self._ctx, self._logger, self._count = ctx, logger, count

    def bind(self, **fields: Any) -> WorkflowLogger:
        """
        A logger of the same workflow that adds these fields to each line.
        """
        return WorkflowLogger(self._ctx, self._logger.bind(**fields), self._count)

    def debug(self, event: str, **fields: Any) -> None:
        self._write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        # Counted while replaying too, so that a line has the same id in every run.
        replaying = self._ctx.is_replaying
        line = self._count.next(replaying=replaying)
        if replaying:
            return
        name = f"{self._ctx.instance_id}:{self._ctx.current_utc_datetime.isoformat()}:{event}:{line}"
        getattr(self._logger, level)(
            event, workflow_id=self._ctx.instance_id, event_id=str(uuid.uuid5(_SPACE, name)), **fields
        )


def workflow_logger(ctx: Context, logger: Any = None) -> WorkflowLogger:
    """
    A logger for a workflow function that keeps quiet while the workflow is replayed.

    Whether it is replayed is looked at for each line, since it changes in the middle of a run. A turn whose answer was
    lost is run again as if new; its lines carry the same ``event_id`` then, by which a reader can merge them.

    Args:
        ctx: The workflow context.
        logger: A structlog logger, or one of the standard library, whose lines are JSON then; by default
            ``occ.workflows``: of structlog where the application configured it, else of the standard library, so that
            nothing is printed unasked.
    """
    # One count for all loggers of a run: two of them must not give one id to different lines.
    count = _COUNTS.setdefault(ctx, _Count())
    if isinstance(logger, logging.Logger | logging.LoggerAdapter):
        logger = _with_fields(logger)
    return WorkflowLogger(ctx, default_logger() if logger is None else logger, count)


def default_logger() -> Any:
    """
    The logger ``occ.workflows``.
    """
    if structlog.is_configured():
        return structlog.get_logger(_NAME)
    # Unconfigured, structlog prints to stdout, which belongs to the application.
    return _with_fields(logging.getLogger(_NAME))


def _with_fields(logger: Any) -> Any:
    """
    A logger of the standard library, which takes no fields, as one whose lines are JSON.
    """
    return structlog.wrap_logger(
        logger,
        processors=[structlog.stdlib.filter_by_level, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
