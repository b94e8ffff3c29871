"""
Ready workflows: each with sample data, a command (``occ workflow run NAME``) and a check of what must hold afterwards.
"""

from __future__ import annotations

from typing import Final

from workflows.library.credit_limit import CREDIT_LIMIT
from workflows.library.import_once import IMPORT_ONCE
from workflows.library.monthly_rollup import MONTHLY_ROLLUP
from workflows.library.plan import InputFileError, Job, Plan, ReadyWorkflow
from workflows.library.renewals import RENEWALS
from workflows.library.reserve_order import RESERVE_ORDER
from workflows.library.transfer import TRANSFER

READY: Final = {
    ready.name: ready
    for ready in (CREDIT_LIMIT, IMPORT_ONCE, MONTHLY_ROLLUP, RENEWALS, RESERVE_ORDER, TRANSFER)
}

__all__ = [
    "CREDIT_LIMIT",
    "IMPORT_ONCE",
    "MONTHLY_ROLLUP",
    "READY",
    "RENEWALS",
    "RESERVE_ORDER",
    "TRANSFER",
    "InputFileError",
    "Job",
    "Plan",
    "ReadyWorkflow",
]
