"""
Charge subscriptions once for each period: an actor for each customer, its reminder, and a workflow.

The actor knows which period is due, and is told by a reminder when. Reminders come at least once, so the actor notes each
period in the write that moves on to the next one. It tells the workflow of the customer, maybe more than once; the
workflow waits for each period by its name and charges it by an effect whose id is made of customer and period. So a
period is charged once whoever was killed: the host in the middle of a turn, the worker between two steps.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import timedelta
from typing import Any, Final

import msgspec

from toolkit.store import StateStore
from workflows import EffectTransaction, Escalation, WorkflowKit, call_effect, wait_event, workflow_logger
from workflows.library.plan import (
    InputFileError,
    Job,
    Plan,
    ReadyWorkflow,
    create_missing,
    read_input,
    refuse_twice,
)

SHAPE: Final = '{"every": 1.0, "subscriptions": [{"customer": "ada", "fee": 900, "first": "2026-11", "periods": 3, "balance": 5000}]}'
# Renewals that may be missed before the workflow asks the actor, and seconds it waits at least.
MISSED, PATIENCE = 5, 3.0
# What the sidecar takes in no id of an actor or no key.
NO_NAMES, NOT_IN_NAMES = ("", ".", ".."), ("/", "?", "#", "||")
# How often the workflow tries to reach an actor whose host is gone, a second apart.
REACHES: Final = 120


class Subscription(msgspec.Struct, frozen=True):
    """
    What a customer pays for each period, from which month on, and how often.
    """

    customer: str
    fee: int
    first: str
    periods: int
    balance: int = 0

    def months(self) -> list[str]:
        """
        The periods, by name.
        """
        year, month = map(int, self.first.split("-"))
        past = [year * 12 + month - 1 + number for number in range(self.periods)]
        return [f"{count // 12:04}-{count % 12 + 1:02}" for count in past]


class Subscriptions(msgspec.Struct, frozen=True):
    """
    The input file; ``every`` is how many seconds stand for a month.
    """

    every: float
    subscriptions: list[Subscription]


class Charge(msgspec.Struct, frozen=True):
    """
    One period of one customer.
    """

    customer: str
    period: str
    fee: int


def account_key(customer: str) -> str:
    """
    The key of a customer's account: the balance and what was charged.
    """
    return f"renewals/{customer}"


def charge(tx: EffectTransaction, due: Charge) -> int:
    """
    Take the fee and note the period; the new balance.
    """
    key = account_key(due.customer)
    account = tx.get(key, {"balance": 0, "charged": []})
    left: int = account["balance"] - due.fee
    tx.put(key, {**account, "balance": left, "charged": [*account["charged"], due.period]})
    return left


def renewals(ctx: Any, order: dict[str, Any]) -> Generator[Any, Any, dict[str, Any]]:
    """
    Subscribe the customer, then charge each period when the actor says that it is due.
    """
    from dapr.ext.workflow import RetryPolicy

    log = workflow_logger(ctx)
    subscription = msgspec.convert(order["subscription"], Subscription)
    customer, every = subscription.customer, order["every"]
    patience = timedelta(seconds=max(MISSED * every, PATIENCE))
    reach = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=REACHES)
    # There is no giving up on a charge that is due.
    forward = Escalation(attempts=None)
    yield ctx.call_activity("renewals-subscribe", input=order, retry_policy=reach)
    for period in subscription.months():
        while not (yield from _is_due(ctx, period, patience)):
            # The reminder was lost with its host, or the event with a sidecar.
            asked = {"customer": customer, "period": period}
            yield ctx.call_activity("renewals-ask", input=asked, retry_policy=reach)
        due = Charge(customer, period, subscription.fee)
        op = f"renewals:{customer}:{period}"
        left = yield from call_effect(ctx, "renewals-charge", input=due, op=op, policy=forward)
        log.info("renewals.charged", customer=customer, period=period, balance=left)
    return {"customer": customer, "charged": subscription.months()}


def _is_due(ctx: Any, period: str, patience: timedelta) -> Generator[Any, Any, bool]:
    try:
        yield from wait_event(ctx, f"due {period}", timeout=patience)
    except TimeoutError:
        return False
    return True


def subscribe(_ctx: Any, order: dict[str, Any]) -> None:
    """
    Tell the actor of the customer what to do; again changes nothing.
    """
    from workflows.library.renewals_actor import ask

    ask(order["subscription"]["customer"], "Subscribe", order)


def ask_again(_ctx: Any, asked: dict[str, str]) -> None:
    """
    Ask the actor whether a period is due.
    """
    from workflows.library.renewals_actor import ask

    ask(asked["customer"], "Ask", asked["period"])


def register(kit: WorkflowKit) -> None:
    """
    Put the workflow, its effect and the activities that call the actor on a kit.
    """
    kit.effect(name="renewals-charge")(charge)
    kit.runtime.register_activity(subscribe, name="renewals-subscribe")
    kit.runtime.register_activity(ask_again, name="renewals-ask")
    kit.workflow(name="renewals")(renewals)


def hosting(store: str, address: str | None) -> Any:
    """
    Serve the actors while a worker runs.
    """
    from workflows.library.renewals_actor import hosted

    return hosted(store, address)


def read_subscriptions(text: str) -> Subscriptions:
    """
    The input file.
    """
    book = read_input(text, Subscriptions, "a book of subscriptions", SHAPE)
    refuse_twice([one.customer for one in book.subscriptions], "customer")
    if not 0.1 <= book.every <= 3600:
        raise InputFileError(f"every must be between 0.1 and 3600 seconds, not {book.every:g}")
    for one in book.subscriptions:
        year, _, month = one.first.partition("-")
        if not (len(year) == 4 and year.isdigit() and month in {f"{number:02}" for number in range(1, 13)}):
            raise InputFileError(f"customer {one.customer!r}: first must be a month like 2026-11")
        if one.customer in NO_NAMES or any(part in one.customer for part in NOT_IN_NAMES):
            raise InputFileError(
                f"customer {one.customer!r} names an actor and a key: give it a name without {', '.join(NOT_IN_NAMES)}"
            )
        if one.fee <= 0 or one.periods <= 0:
            raise InputFileError(f"customer {one.customer!r} needs a positive fee and at least one period")
    return book


def plan(text: str) -> Plan:
    """
    One instance for each customer.
    """
    book = read_subscriptions(text)
    jobs = tuple(
        Job(
            "renewals",
            f"renewals-{one.customer}",
            {"every": book.every, "subscription": msgspec.to_builtins(one)},
        )
        for one in book.subscriptions
    )
    return Plan(jobs, lambda store: _open_accounts(store, book), lambda store, done: check(store, book, done))


def _open_accounts(store: StateStore, book: Subscriptions) -> None:
    wanted = {
        account_key(one.customer): {"balance": one.balance, "charged": list[str]()}
        for one in book.subscriptions
    }
    create_missing(store, wanted)


def check(store: StateStore, book: Subscriptions, outputs: Sequence[Any]) -> dict[str, Any]:
    """
    Every period of every customer is on the account once, in order, and nothing else was taken.
    """
    wrong: dict[str, Any] = {}
    charges = 0
    for one in book.subscriptions:
        account = store.get(account_key(one.customer), {"balance": None, "charged": []})
        charges += len(account["charged"])
        due = {"balance": one.balance - one.fee * one.periods, "charged": one.months()}
        if {name: account[name] for name in due} != due:
            wrong[one.customer] = {"due": due, "found": account}
    done = {output["customer"] for output in outputs if output}
    return {
        "ok": not wrong and len(done) == len(book.subscriptions),
        "customers": len(book.subscriptions),
        "done": len(done),
        "periods": sum(one.periods for one in book.subscriptions),
        "charges": charges,
        "wrong": wrong,
    }


RENEWALS: Final = ReadyWorkflow(
    name="renewals",
    summary="Subscriptions by an actor for each customer, its reminder and a workflow: one charge per period.",
    sample="renewals.json",
    register=register,
    plan=plan,
    hosting=hosting,
)
