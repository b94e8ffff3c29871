"""
Ready workflows: each with sample data, a command (``occ workflow run NAME``) and a check of what must hold afterwards.
"""

from __future__ import annotations

from typing import Final

from workflows.library.import_once import IMPORT_ONCE
from workflows.library.plan import InputFileError, Job, Plan, ReadyWorkflow
from workflows.library.transfer import TRANSFER

READY: Final = {ready.name: ready for ready in (IMPORT_ONCE, TRANSFER)}

__all__ = ["IMPORT_ONCE", "READY", "TRANSFER", "InputFileError", "Job", "Plan", "ReadyWorkflow"]
