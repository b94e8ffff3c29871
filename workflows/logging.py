"""
Logging from a workflow function, which is run again and again.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

import structlog

from workflows.ports import Context

_SPACE: Final = uuid.UUID("6f8b1c1e-6f0c-5a68-9d0a-6d1f6d4f3b52")


class WorkflowLogger:
    """
    A logger whose lines are written in the first run of a turn only; see ``workflow_logger``.
    """

    def __init__(self, ctx: Context, logger: Any) -> None:
        self._ctx, self._logger, self._lines = ctx, logger, 0

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
        self._lines += 1
        if self._ctx.is_replaying:
            return
        name = f"{self._ctx.instance_id}:{self._ctx.current_utc_datetime.isoformat()}:{event}:{self._lines}"
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
        logger: A structlog logger; by default ``structlog.get_logger("occ.workflows")``.
    """
    return WorkflowLogger(ctx, structlog.get_logger("occ.workflows") if logger is None else logger)
