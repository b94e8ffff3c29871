"""
A kit for the tests of sagas: effects that write down what they did, and workflows of given steps.
"""

from __future__ import annotations

from tests.workflows.engine import Engine
from workflows import Saga, SagaAbortedError, WorkflowKit


class RefusedError(Exception):
    pass


def engine_on(runtime, activity, store):
    """
    Effects that write down what they did; ``refuse`` always refuses, ``break`` has a bug while it is in ``engine.bad``.
    """
    kit = WorkflowKit(runtime, store)
    engine = Engine(runtime, activity)
    engine.bad = set()

    def effect(name):
        def body(tx, word):
            if name in engine.bad:
                raise ZeroDivisionError(f"a bug in {name}")
            log = tx.get("log")
            tx.put("log", {"done": [*log["done"], f"{name} {word}"]})
            return f"{name} {word}"

        kit.effect(name=name)(body)

    for name in ("take", "give", "pay", "refund", "ship", "thank"):
        effect(name)

    @kit.effect(name="refuse", record_errors=(RefusedError,))
    def refuse(tx, word):
        raise RefusedError(f"no {word}")

    kit.workflow(name="any")(lambda ctx: None)
    return engine


def saga_of(steps, name="order", end=None):
    """
    A workflow of these steps; its result is the report, whatever happens.
    """

    def run(ctx):
        saga = Saga(ctx, name)
        try:
            for effect, undo, pivot in steps:
                yield from saga.step(effect, input="x", undo=undo, pivot=pivot)
            if end is not None:
                yield from end(saga)
        except SagaAbortedError as aborted:
            return aborted.report
        return saga.report

    return run


def fates(report):
    return [step["fate"] for step in report["steps"]]


def done(store):
    return store.get("log")["done"]


ORDER = (("take", "give", False), ("pay", "refund", False))
