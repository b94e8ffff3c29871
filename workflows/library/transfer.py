"""
Move money between accounts by two effects, a debit and a credit, each applied exactly once.

Between the two the money is nowhere: that is what makes it a workflow. Where both accounts are in one store, one
effect with both keys is simpler; two are right when they belong to different owners.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

import msgspec

from toolkit.errors import RecordedError
from toolkit.store import StateStore
from workflows.bodies import EffectTransaction
from workflows.effects import Escalation, call_effect
from workflows.kit import WorkflowKit
from workflows.library.plan import (
    InputFileError,
    Job,
    Plan,
    ReadyWorkflow,
    create_missing,
    read_input,
    refuse_twice,
)
from workflows.logging import workflow_logger


class Posting(msgspec.Struct, frozen=True):
    """
    One order to move an amount, in the smallest unit of the currency.
    """

    id: str
    src: str
    dst: str
    amount: int


class Book(msgspec.Struct, frozen=True):
    """
    The input file: what each account starts with, and the postings.
    """

    accounts: dict[str, int]
    postings: list[Posting]


class RefusedError(Exception):
    """
    The account does not exist or does not hold enough; an outcome, recorded under the operation.
    """


def key_of(account: str) -> str:
    """
    The key an account lives under.
    """
    return f"account/{account}"


def debit(tx: EffectTransaction, posting: Posting) -> int:
    """
    Take the amount from the source, or refuse.
    """
    account = tx.get(key_of(posting.src))
    if account is None:
        raise RefusedError(f"there is no account {posting.src!r}")
    if account["balance"] < posting.amount:
        raise RefusedError(f"account {posting.src!r} does not hold enough")
    left: int = account["balance"] - posting.amount
    tx.put(key_of(posting.src), {**account, "balance": left})
    return left


def credit(tx: EffectTransaction, posting: Posting) -> int:
    """
    Add the amount to the destination, which is opened when it is new.
    """
    account = tx.get(key_of(posting.dst), {"balance": 0})
    total: int = account["balance"] + posting.amount
    tx.put(key_of(posting.dst), {**account, "balance": total})
    return total


def transfer(ctx: Any, posting: Posting) -> Generator[Any, Any, dict[str, Any]]:
    """
    Debit, then credit; the ids of both are made of the posting's, so that a rerun moves nothing twice.
    """
    log = workflow_logger(ctx)
    try:
        yield from call_effect(ctx, "transfer-debit", input=posting, op=f"transfer:{posting.id}:debit")
    except RecordedError as refused:
        log.info("transfer.refused", posting=posting.id, reason=refused.message)
        return {"id": posting.id, "done": False, "reason": refused.message}
    # The money has left the source: there is no giving up from here on.
    forward = Escalation(attempts=None)
    yield from call_effect(
        ctx, "transfer-credit", input=posting, op=f"transfer:{posting.id}:credit", policy=forward
    )
    log.info("transfer.done", posting=posting.id)
    return {"id": posting.id, "done": True}


def register(kit: WorkflowKit) -> None:
    """
    Put the workflow and its effects on a kit.
    """
    kit.effect(name="transfer-debit", record_errors=(RefusedError,))(debit)
    kit.effect(name="transfer-credit")(credit)
    kit.workflow(name="transfer")(transfer)


def read_book(text: str) -> Book:
    """
    The input file as a book.
    """
    shape = '{"accounts": {"a": 100}, "postings": [{"id": "p1", "src": "a", "dst": "b", "amount": 5}]}'
    book = read_input(text, Book, "a book of accounts and postings", shape)
    refuse_twice([posting.id for posting in book.postings], "posting id")
    wrong = [posting.id for posting in book.postings if posting.amount <= 0 or posting.src == posting.dst]
    if wrong:
        raise InputFileError(f"posting {wrong[0]!r} must move a positive amount between two accounts")
    return book


def plan(text: str) -> Plan:
    """
    One instance for each posting.
    """
    book = read_book(text)
    jobs = tuple(
        Job("transfer", f"transfer-{posting.id}", msgspec.to_builtins(posting)) for posting in book.postings
    )
    return Plan(jobs, lambda store: _open_accounts(store, book), lambda store, done: check(store, book, done))


def _open_accounts(store: StateStore, book: Book) -> None:
    create_missing(
        store, {key_of(account): {"balance": balance} for account, balance in book.accounts.items()}
    )


def check(store: StateStore, book: Book, outputs: Sequence[Any]) -> dict[str, Any]:
    """
    Hold every balance against what it was opened with and the postings that were carried out.
    """
    done = {output["id"] for output in outputs if output and output["done"]}
    due = dict(book.accounts)
    for posting in book.postings:
        if posting.id in done:
            due[posting.src] -= posting.amount
            due[posting.dst] = due.get(posting.dst, 0) + posting.amount
    held = store.get_many([key_of(account) for account in due])
    found = {account: held.get(key_of(account), {"balance": None})["balance"] for account in due}
    wrong = {
        account: {"due": due[account], "found": found[account]}
        for account in due
        if due[account] != found[account]
    }
    return {
        "ok": not wrong and len(outputs) == len(book.postings),
        "postings": len(book.postings),
        "done": len(done),
        "refused": len(outputs) - len(done),
        "total": sum(balance for balance in found.values() if balance is not None),
        "wrong": wrong,
    }


TRANSFER: Final = ReadyWorkflow(
    name="transfer",
    summary="Postings between accounts, each by a debit and a credit that are applied once.",
    sample="transfer.json",
    register=register,
    plan=plan,
)
