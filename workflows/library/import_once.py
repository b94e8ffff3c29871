"""
Import the rows of a CSV file, page by page; importing it again changes nothing.

Each page is one transaction, so a row is there whole or not at all, and a worker that dies resumes at its page. Rows are
known by their id: one that is there already, from an earlier run or from elsewhere, is left as it is.
"""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Generator, Sequence
from typing import Any, Final

import msgspec

from toolkit.store import StateStore
from workflows.bodies import EffectTransaction
from workflows.effects import call_effect
from workflows.kit import WorkflowKit
from workflows.library.plan import InputFileError, Job, Plan, ReadyWorkflow
from workflows.logging import workflow_logger

PAGE: Final = 20


class Batch(msgspec.Struct, frozen=True):
    """
    The rows of a file.
    """

    rows: list[dict[str, str]]


def key_of(row_id: str) -> str:
    """
    The key a row lives under.
    """
    return f"import/{row_id}"


def import_page(tx: EffectTransaction, page: Batch) -> dict[str, int]:
    """
    Create the rows of a page that are not there.
    """
    wanted = {key_of(row["id"]): row for row in page.rows}
    present = tx.get_many(wanted)
    for key, row in wanted.items():
        if key not in present:
            tx.create(key, row)
    return {"created": len(wanted) - len(present), "present": len(present)}


def import_once(ctx: Any, batch: Batch) -> Generator[Any, Any, dict[str, int]]:
    """
    One effect after the other, so that progress is kept by page.
    """
    log = workflow_logger(ctx)
    created = present = 0
    for start in range(0, len(batch.rows), PAGE):
        page = Batch(batch.rows[start : start + PAGE])
        counts = yield from call_effect(ctx, "import-page", input=page)
        created, present = created + counts["created"], present + counts["present"]
        log.info("import.page", first=start, created=counts["created"])
    return {"created": created, "present": present}


def register(kit: WorkflowKit) -> None:
    """
    Put the workflow and its effect on a kit.
    """
    kit.effect(name="import-page")(import_page)
    kit.workflow(name="import_once")(import_once)


def read_rows(text: str) -> list[dict[str, str]]:
    """
    The rows of a CSV file with a header and a column ``id``.
    """
    reader = csv.DictReader(io.StringIO(text))
    if "id" not in (reader.fieldnames or ()):
        raise InputFileError("the first line of the CSV file must name the columns, one of them `id`")
    rows: list[dict[str, str]] = []
    seen: dict[str, int] = {}
    for row in reader:
        line = reader.line_num
        if None in row or any(value is None for value in row.values()):
            raise InputFileError(f"line {line} has not as many fields as the header")
        if not row["id"]:
            raise InputFileError(f"line {line} has no id")
        if row["id"] in seen:
            raise InputFileError(f"line {line} has the id {row['id']!r} of line {seen[row['id']]}")
        seen[row["id"]] = line
        rows.append(dict(row))
    return rows


def plan(text: str) -> Plan:
    """
    One instance for the file; a new one each time, since it is the rows that are imported once.
    """
    rows = read_rows(text)
    job = Job("import_once", f"import-{uuid.uuid4().hex[:12]}", {"rows": rows}, once=False)
    return Plan((job,), lambda _store: None, lambda store, outputs: check(store, rows, outputs))


def check(store: StateStore, rows: Sequence[dict[str, str]], outputs: Sequence[Any]) -> dict[str, Any]:
    """
    Every row must be there, and each must have been either created or met.
    """
    found = store.get_many([key_of(row["id"]) for row in rows])
    missing = [row["id"] for row in rows if key_of(row["id"]) not in found]
    counts: dict[str, int] = next((output for output in outputs if output), {"created": 0, "present": 0})
    differing = sum(found.get(key_of(row["id"]), row) != row for row in rows)
    return {
        "ok": not missing and counts["created"] + counts["present"] == len(rows),
        "rows": len(rows),
        **counts,
        "differing": differing,
        "missing": missing,
    }


IMPORT_ONCE: Final = ReadyWorkflow(
    name="import_once",
    summary="The rows of a CSV file, a page in each transaction; a second run changes nothing.",
    sample="import_once.csv",
    register=register,
    plan=plan,
)
