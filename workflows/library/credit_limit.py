"""
Withdraw from the accounts of a customer, whose sum must not go below what was agreed.

Each withdrawal writes one account and depends on all of them. Two that run at the same time read the same balances and
write different accounts, so no ETag of a written key tells one of the other: together they would overdraw, which is
called write skew. An effect is serializable: every account it read is guarded until it commits, and the second of the
two is run again on what the first one left.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

import msgspec

from toolkit.errors import RecordedError
from toolkit.store import StateStore
from workflows import EffectTransaction, WorkflowKit, call_effect, workflow_logger
from workflows.library.plan import (
    InputFileError,
    Job,
    Plan,
    ReadyWorkflow,
    create_missing,
    read_input,
    refuse_twice,
)

SHAPE: Final = (
    '{"customers": {"acme": {"limit": 500, "accounts": {"main": 300, "savings": 200}}}, '
    '"withdrawals": [{"id": "w1", "customer": "acme", "account": "main", "amount": 400}]}'
)


class Customer(msgspec.Struct, frozen=True):
    """
    What a customer's accounts start with, and how far below zero their sum may go.
    """

    limit: int
    accounts: dict[str, int]


class Withdrawal(msgspec.Struct, frozen=True):
    """
    One order to take an amount from an account, in the smallest unit of the currency.
    """

    id: str
    customer: str
    account: str
    amount: int


class Ledger(msgspec.Struct, frozen=True):
    """
    The input file.
    """

    customers: dict[str, Customer]
    withdrawals: list[Withdrawal]


class LimitError(Exception):
    """
    The customer's credit does not reach; an outcome, recorded under the operation.
    """


def customer_key(customer: str) -> str:
    """
    The key of what was agreed with a customer: the limit and the names of the accounts.
    """
    return f"credit/{customer}"


def account_key(customer: str, account: str) -> str:
    """
    The key an account lives under.
    """
    return f"credit/{customer}/{account}"


def withdraw(tx: EffectTransaction, order: Withdrawal) -> int:
    """
    Take the amount if the sum of the customer's accounts allows it; the new sum.
    """
    agreed = tx.get(customer_key(order.customer))
    if agreed is None or order.account not in agreed["accounts"]:
        raise LimitError(f"customer {order.customer!r} has no account {order.account!r}")
    keys = {name: account_key(order.customer, name) for name in agreed["accounts"]}
    balances = tx.get_many(keys.values())
    left: int = sum(account["balance"] for account in balances.values()) - order.amount
    if left < -agreed["limit"]:
        raise LimitError(f"customer {order.customer!r} has no credit left for it")
    account = balances[keys[order.account]]
    tx.put(keys[order.account], {**account, "balance": account["balance"] - order.amount})
    return left


def credit_limit(ctx: Any, order: Withdrawal) -> Generator[Any, Any, dict[str, Any]]:
    """
    One effect, whose id is made of the order's, so that a rerun takes nothing twice.
    """
    log = workflow_logger(ctx)
    try:
        left = yield from call_effect(ctx, "credit-withdraw", input=order, op=f"credit_limit:{order.id}")
    except RecordedError as refused:
        log.info("credit_limit.refused", order=order.id, reason=refused.message)
        return {"id": order.id, "done": False, "reason": refused.message}
    log.info("credit_limit.done", order=order.id)
    return {"id": order.id, "done": True, "sum": left}


def register(kit: WorkflowKit) -> None:
    """
    Put the workflow and its effect on a kit.
    """
    kit.effect(name="credit-withdraw", record_errors=(LimitError,))(withdraw)
    kit.workflow(name="credit_limit")(credit_limit)


def read_ledger(text: str) -> Ledger:
    """
    The input file as customers and withdrawals.
    """
    ledger = read_input(text, Ledger, "a ledger of customers and withdrawals", SHAPE)
    for name, customer in ledger.customers.items():
        if customer.limit < 0 or sum(customer.accounts.values()) < -customer.limit:
            raise InputFileError(f"customer {name!r} must have a limit of 0 or more and start within it")
    refuse_twice([order.id for order in ledger.withdrawals], "withdrawal id")
    for order in ledger.withdrawals:
        known = ledger.customers.get(order.customer)
        if known is None or order.account not in known.accounts:
            raise InputFileError(
                f"withdrawal {order.id!r}: there is no account {order.account!r} of {order.customer!r}"
            )
        if order.amount <= 0:
            raise InputFileError(f"withdrawal {order.id!r} must take a positive amount")
    return ledger


def plan(text: str) -> Plan:
    """
    One instance for each withdrawal.
    """
    ledger = read_ledger(text)
    jobs = tuple(
        Job("credit_limit", f"credit_limit-{order.id}", msgspec.to_builtins(order))
        for order in ledger.withdrawals
    )
    return Plan(jobs, lambda store: _open(store, ledger), lambda store, done: check(store, ledger, done))


def _open(store: StateStore, ledger: Ledger) -> None:
    for name, customer in ledger.customers.items():
        wanted: dict[str, Any] = {
            account_key(name, account): {"balance": balance} for account, balance in customer.accounts.items()
        }
        wanted[customer_key(name)] = {"limit": customer.limit, "accounts": sorted(customer.accounts)}
        create_missing(store, wanted)


def check(store: StateStore, ledger: Ledger, outputs: Sequence[Any]) -> dict[str, Any]:
    """
    No customer below the limit, every balance what the withdrawals that were carried out left, none refused in vain.
    """
    done = {output["id"] for output in outputs if output and output["done"]}
    due = {
        account_key(name, account): balance
        for name, customer in ledger.customers.items()
        for account, balance in customer.accounts.items()
    }
    for order in ledger.withdrawals:
        if order.id in done:
            due[account_key(order.customer, order.account)] -= order.amount
    held = store.get_many(due)
    found = {key: held.get(key, {"balance": None})["balance"] for key in due}
    wrong = {key: {"due": due[key], "found": found[key]} for key in due if due[key] != found[key]}
    credit = {
        name: customer.limit + sum(found[account_key(name, account)] or 0 for account in customer.accounts)
        for name, customer in ledger.customers.items()
    }
    # Nothing is ever paid in, so what was refused cannot fit at the end either.
    vain = [
        order.id
        for order in ledger.withdrawals
        if order.id not in done and order.amount <= credit[order.customer]
    ]
    overdrawn = sorted(name for name, left in credit.items() if left < 0)
    return {
        "ok": not (wrong or vain or overdrawn) and len(outputs) == len(ledger.withdrawals),
        "withdrawals": len(ledger.withdrawals),
        "done": len(done),
        "refused": len(outputs) - len(done),
        "credit": credit,
        "overdrawn": overdrawn,
        "refused_in_vain": vain,
        "wrong": wrong,
    }


CREDIT_LIMIT: Final = ReadyWorkflow(
    name="credit_limit",
    summary="Withdrawals from several accounts of a customer whose sum has a limit (write skew).",
    sample="credit_limit.json",
    register=register,
    plan=plan,
)
