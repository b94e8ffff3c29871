"""
Fill orders by a saga: reserve the stock, charge the customer, ship; what fails before the shipment is taken back.

Stock, accounts and orders may belong to different services; each effect touches one of them. Shipping is the pivot:
once it has committed, the order only goes forward.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final

import msgspec

from toolkit.store import StateStore
from workflows.bodies import EffectTransaction
from workflows.errors import SagaAbortedError
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
from workflows.saga import Saga


class Order(msgspec.Struct, frozen=True):
    """
    One order; ``price`` is for one piece, in the smallest unit of the currency.
    """

    id: str
    customer: str
    item: str
    count: int
    price: int


class Shop(msgspec.Struct, frozen=True):
    """
    The input file: pieces in stock, money of customers, and the orders.
    """

    stock: dict[str, int]
    customers: dict[str, int]
    orders: list[Order]


class RefusedError(Exception):
    """
    Sold out, or the customer does not hold enough; an outcome, recorded under the operation.
    """


def stock_key(item: str) -> str:
    """
    The key the pieces of an item live under.
    """
    return f"stock/{item}"


def customer_key(customer: str) -> str:
    """
    The key a customer's money lives under.
    """
    return f"customer/{customer}"


def reserve(tx: EffectTransaction, order: Order) -> int:
    """
    Set pieces aside for the order, or refuse.
    """
    stock = tx.get(stock_key(order.item))
    if stock is None or stock["free"] < order.count:
        raise RefusedError(f"{order.item!r} is sold out")
    left: int = stock["free"] - order.count
    reserved = {**stock["reserved"], order.id: order.count}
    tx.put(stock_key(order.item), {**stock, "free": left, "reserved": reserved})
    return left


def release(tx: EffectTransaction, order: Order) -> None:
    """
    Put the pieces of the order back on the shelf.
    """
    stock = tx.get(stock_key(order.item))
    reserved = dict(stock["reserved"])
    back = reserved.pop(order.id)
    tx.put(stock_key(order.item), {**stock, "free": stock["free"] + back, "reserved": reserved})


def charge(tx: EffectTransaction, order: Order) -> int:
    """
    Take the price from the customer, or refuse.
    """
    customer = tx.get(customer_key(order.customer))
    due = order.count * order.price
    if customer is None or customer["money"] < due:
        raise RefusedError(f"customer {order.customer!r} does not hold enough")
    left: int = customer["money"] - due
    tx.put(customer_key(order.customer), {**customer, "money": left, "charges": customer["charges"] + 1})
    return left


def refund(tx: EffectTransaction, order: Order) -> None:
    """
    Give the price back.
    """
    customer = tx.get(customer_key(order.customer))
    money = customer["money"] + order.count * order.price
    tx.put(customer_key(order.customer), {**customer, "money": money, "charges": customer["charges"] - 1})


def ship(tx: EffectTransaction, order: Order) -> None:
    """
    Hand over the pieces that were set aside.
    """
    stock = tx.get(stock_key(order.item))
    reserved = dict(stock["reserved"])
    gone = reserved.pop(order.id)
    tx.put(stock_key(order.item), {**stock, "reserved": reserved, "shipped": stock["shipped"] + gone})


def fill(ctx: Any, order: Order) -> Generator[Any, Any, dict[str, Any]]:
    """
    One order as a saga.
    """
    log, saga = workflow_logger(ctx), Saga(ctx, "order")
    try:
        yield from saga.step("order-reserve", input=order, undo="order-release")
        yield from saga.step("order-charge", input=order, undo="order-refund")
        yield from saga.step("order-ship", input=order, pivot=True)
    except SagaAbortedError as aborted:
        log.info("order.undone", order=order.id, reason=aborted.report["reason"])
        return {"id": order.id, "shipped": False, "reason": aborted.report["reason"]}
    yield from saga.complete()
    log.info("order.shipped", order=order.id)
    return {"id": order.id, "shipped": True}


def register(kit: WorkflowKit) -> None:
    """
    Put the workflow and its effects on a kit.
    """
    kit.effect(name="order-reserve", record_errors=(RefusedError,))(reserve)
    kit.effect(name="order-release")(release)
    kit.effect(name="order-charge", record_errors=(RefusedError,))(charge)
    kit.effect(name="order-refund")(refund)
    kit.effect(name="order-ship")(ship)
    kit.workflow(name="reserve_order")(fill)


def read_shop(text: str) -> Shop:
    """
    The input file as a shop.
    """
    shape = (
        '{"stock": {"tea": 9}, "customers": {"ann": 50}, '
        '"orders": [{"id": "o1", "customer": "ann", "item": "tea", "count": 2, "price": 5}]}'
    )
    shop = read_input(text, Shop, "a shop with stock, customers and orders", shape)
    refuse_twice([order.id for order in shop.orders], "order id")
    wrong = [order.id for order in shop.orders if order.count <= 0 or order.price < 0]
    if wrong:
        raise InputFileError(
            f"order {wrong[0]!r} must be for at least one piece and must not cost less than nothing"
        )
    return shop


def plan(text: str) -> Plan:
    """
    One instance for each order.
    """
    shop = read_shop(text)
    jobs = tuple(
        Job("reserve_order", f"order-{order.id}", msgspec.to_builtins(order)) for order in shop.orders
    )
    return Plan(jobs, lambda store: _open(store, shop), lambda store, done: check(store, shop, done))


def _open(store: StateStore, shop: Shop) -> None:
    start: dict[str, Any] = {
        stock_key(item): {"free": count, "reserved": {}, "shipped": 0} for item, count in shop.stock.items()
    }
    start |= {customer_key(name): {"money": money, "charges": 0} for name, money in shop.customers.items()}
    create_missing(store, start)


def check(store: StateStore, shop: Shop, outputs: Sequence[Any]) -> dict[str, Any]:
    """
    Hold stock and money against the orders that were shipped: nothing is reserved, lost or paid for twice.
    """
    shipped = {output["id"] for output in outputs if output and output["shipped"]}
    filled = [order for order in shop.orders if order.id in shipped]
    wrong: dict[str, Any] = {}
    for item, count in shop.stock.items():
        out = sum(order.count for order in filled if order.item == item)
        due: dict[str, Any] = {"free": count - out, "reserved": {}, "shipped": out}
        found = store.get(stock_key(item))
        wrong |= {item: {"due": due, "found": found}} if found != due else {}
    for name, money in shop.customers.items():
        own = [order for order in filled if order.customer == name]
        due = {"money": money - sum(order.count * order.price for order in own), "charges": len(own)}
        found = store.get(customer_key(name))
        wrong |= {name: {"due": due, "found": found}} if found != due else {}
    return {
        "ok": not wrong and len(outputs) == len(shop.orders),
        "orders": len(shop.orders),
        "shipped": len(shipped),
        "undone": len(outputs) - len(shipped),
        "wrong": wrong,
    }


RESERVE_ORDER: Final = ReadyWorkflow(
    name="reserve_order",
    summary="Orders by a saga: reserve, charge, ship; what fails before the shipment is taken back.",
    sample="reserve_order.json",
    register=register,
    plan=plan,
)
