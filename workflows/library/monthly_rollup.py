"""
Sum up a month of ledger entries page by page, with the progress in a checkpoint.

Killed at any point it goes on with the page it was at; run again, under whatever instance id, it finds that it is done. Its
subject is the month with a digest of the entries: a corrected file is another subject, and gets other sums. The checkpoint
of version 1 listed its sums and did not count rows; version 2 brings it up to date and goes on from its page.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Any, Final

import msgspec

from toolkit.store import StateStore
from workflows.bodies import EffectTransaction
from workflows.checkpoints import continue_with, load_checkpoint
from workflows.effects import call_effect
from workflows.kit import WorkflowKit
from workflows.library.plan import InputFileError, Job, Plan, ReadyWorkflow, read_input, refuse_twice
from workflows.logging import workflow_logger

# Of the workflow and of its checkpoints: `occ workflow checkpoints list monthly_rollup`.
NAME: Final = "monthly_rollup"
PAGE: Final = 10
# Pages after which a run continues as new, so that its history stays short.
ROUND: Final = 5
VERSION: Final = 2


class Entry(msgspec.Struct, frozen=True):
    """
    One line of the ledger, in the smallest unit of the currency.
    """

    id: str
    account: str
    amount: int


class Ledger(msgspec.Struct, frozen=True):
    """
    The input file: a month and its entries.
    """

    month: str
    entries: list[Entry]

    @property
    def subject(self) -> str:
        """
        What the sums are about: this month as this file has it.
        """
        digest = hashlib.blake2b(msgspec.json.encode(self.entries), digest_size=4).hexdigest()
        return f"{self.month}-{digest}"


def page_key(subject: str, page: int) -> str:
    """
    The key of a page of entries.
    """
    return f"ledger/{subject}/{page}"


def result_key(subject: str) -> str:
    """
    The key the sums are written to.
    """
    return f"rollup/{subject}"


def read_page(tx: EffectTransaction, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """
    The entries of one page; none behind the last.
    """
    found: list[dict[str, Any]] = tx.get(page_key(asked["subject"], asked["page"]), {"entries": []})[
        "entries"
    ]
    return found


def write_result(tx: EffectTransaction, result: dict[str, Any]) -> None:
    """
    Keep the sums of the month.
    """
    tx.put(result_key(result["subject"]), result)


def count_rows(old: dict[str, Any]) -> dict[str, Any]:
    """
    From version 1, ``{"page": 3, "sums": [["rent", 235], …]}``: every page behind it was full.
    """
    return {"page": old["page"], "rows": old["page"] * PAGE, "sums": dict(old["sums"])}


def rollup(ctx: Any, subject: str) -> Generator[Any, Any, dict[str, Any]]:
    """
    Page by page, then the result; every page is counted once, whatever happens in between.
    """
    checkpoint = yield from load_checkpoint(
        ctx,
        NAME,
        subject,
        version=VERSION,
        migrate={1: count_rows},
        default={"page": 0, "rows": 0, "sums": {}},
    )
    while not checkpoint.data.get("done"):
        data = checkpoint.data
        asked = {"subject": subject, "page": data["page"]}
        entries = yield from call_effect(ctx, "rollup-page", input=asked)
        sums: Counter[str] = Counter(data["sums"])
        for entry in entries:
            sums[entry["account"]] += entry["amount"]
        after = {"page": data["page"] + 1, "rows": data["rows"] + len(entries), "sums": dict(sums)}
        if len(entries) < PAGE:
            after["done"] = True
        checkpoint = checkpoint.next(after)
        yield from continue_with(ctx, checkpoint, every=ROUND)
    data = checkpoint.data
    result = {"subject": subject, "rows": data["rows"], "sums": data["sums"]}
    yield from call_effect(ctx, "rollup-result", input=result)
    workflow_logger(ctx).info("rollup.done", subject=subject, rows=data["rows"])
    return result


def register(kit: WorkflowKit) -> None:
    """
    Put the workflow and its effects on a kit.
    """
    kit.effect(name="rollup-page")(read_page)
    kit.effect(name="rollup-result")(write_result)
    kit.workflow(name=NAME)(rollup)


def read_ledger(text: str) -> Ledger:
    """
    The input file as a ledger.
    """
    shape = '{"month": "2026-10", "entries": [{"id": "e1", "account": "a", "amount": 5}]}'
    ledger = read_input(text, Ledger, "a month of entries", shape)
    if not ledger.month:
        raise InputFileError("the month has no name; it is part of the keys")
    refuse_twice([entry.id for entry in ledger.entries], "entry id")
    return ledger


def plan(text: str) -> Plan:
    """
    One instance for the month.
    """
    ledger = read_ledger(text)
    jobs = (Job(NAME, f"rollup-{ledger.subject}", ledger.subject),)
    return Plan(jobs, lambda store: fill(store, ledger), lambda store, done: check(store, ledger, done))


def fill(store: StateStore, ledger: Ledger) -> None:
    """
    Put the pages into the store, the last one not full; the same ones each time.
    """
    for at in range(0, len(ledger.entries) + 1, PAGE):
        page = msgspec.to_builtins(ledger.entries[at : at + PAGE])
        store.set(page_key(ledger.subject, at // PAGE), {"entries": page})


def check(store: StateStore, ledger: Ledger, outputs: Sequence[Any]) -> dict[str, Any]:
    """
    Hold the result against the sums made in one pass.
    """
    due: Counter[str] = Counter()
    for entry in ledger.entries:
        due[entry.account] += entry.amount
    found: dict[str, Any] = store.get(result_key(ledger.subject), {"rows": 0, "sums": {}})
    wrong = {
        account: {"due": due[account], "found": found["sums"].get(account)}
        for account in due
        if found["sums"].get(account) != due[account]
    }
    return {
        "ok": not wrong and found["rows"] == len(ledger.entries) and len(outputs) == 1,
        "month": ledger.month,
        "subject": ledger.subject,
        "rows": found["rows"],
        "accounts": len(due),
        "total": sum(found["sums"].values()),
        "wrong": wrong,
    }


MONTHLY_ROLLUP: Final = ReadyWorkflow(
    name=NAME,
    summary="Sums of a month, page by page, with a checkpoint that outlives the run and its code.",
    sample="monthly_rollup.json",
    register=register,
    plan=plan,
)
