"""
The loops around the bodies of transactions, in both colours.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from toolkit._async_turns import Watched
from toolkit._checks import name_of
from toolkit._drive import CANCEL_GRACE, AsyncWorld, Drive, World, drive, drive_async, marked, now
from toolkit._inside import in_body
from toolkit._interrupts import let_go
from toolkit._points import point
from toolkit._tx import AsyncTransaction, Transaction, expected_of
from toolkit.core.transaction import Finished, TxRun
from toolkit.errors import StateError
from toolkit.log import emit
from toolkit.transaction import Settings, unwrap

if TYPE_CHECKING:
    from toolkit.async_store import AsyncStateStore
    from toolkit.store import StateStore

_log = logging.getLogger("toolkit")


def transact_sync(store: StateStore, world: World, fn: Any, said: Settings, args: Any, kwargs: Any) -> Any:
    """
    The loop around a sync body.
    """
    body, settings = unwrap(fn, said)
    if inspect.iscoroutinefunction(body):
        raise TypeError(f"{name_of(body)} is async: use AsyncStateStore, or make it a plain function")
    run = store.begin_transaction(settings.options(store, body))
    turns = store.key_turns(run)
    try:
        while True:
            expected = expected_of(store, run, args, kwargs)
            done = None if turns.begins() else drive(run.begin(turns.ahead(expected)), world)
            if done is None:
                tx = Transaction(store, run, world, turns, expected)
                result, error = _run_body(tx, body, args, kwargs)
                point("transact.ran")
                settled = turns.settle(result, error)
                if settled is False:
                    ended = _end(store, world, run, result, error)
                    done = ended if isinstance(ended, Finished) else None
                elif settled is not True:
                    done = settled
            if done is not None:
                break
    except BaseException as error:
        let_go(error)
        raise
    finally:
        try:
            turns.leave()
        except BaseException:
            turns.leave()  # an interrupt struck on the way out: others wait for these keys
            raise
        finally:
            run.close()
            store.finish_later(run)
    # Out of the line by now: a function of on_commit may wait, and may use these keys itself.
    return _close(done)


def _end(store: StateStore, world: World, run: TxRun, result: Any, error: BaseException | None) -> Any:
    """
    End an attempt. After an interrupt the background goes on with what was sent; the verdict is given a moment, else the log
    gets the receipt.
    """
    commit = Drive(marked(run.end(result, error), "commit"), world)
    try:
        return commit.run()
    except Exception:
        raise
    except BaseException as cut:
        let_go(cut)
        ended = threading.Event()

        def see_through() -> None:
            with suppress(StateError):
                commit.run(commit.lost())
            ended.set()
            store.finish_later(run)

        if run.plan is not None and commit.suspended:
            store._background.submit(see_through)  # noqa: SLF001  one package
            ended.wait(CANCEL_GRACE)
        event = None if ended.is_set() else run.told_unknown(now())
        if event is not None:
            emit(event)
        raise


def _run_body(
    tx: Transaction, body: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[Any, BaseException | None]:
    try:
        in_body.set(name_of(body))
        result = body(tx, *args, **kwargs)
        if inspect.isawaitable(result):
            close = getattr(result, "close", None)
            if close is not None:
                close()
            raise TypeError(f"{name_of(body)} returned something to be awaited: use AsyncStateStore")
        tx._guards_allowed()  # noqa: SLF001
    except Exception as error:  # noqa: BLE001  the run decides what becomes of it
        return None, error
    else:
        return result, None
    finally:
        in_body.set(None)  # there is none in another; a token could get lost to an interrupt
        tx.learn(args, kwargs)
        tx._over = True  # noqa: SLF001


def _close(done: Finished) -> Any:
    if done.error is not None:
        raise done.error
    for fn in done.after:
        try:
            fn()
        except Exception:  # noqa: BLE001  best effort, as promised
            _log.exception("on_commit function %s failed; the transaction is committed", name_of(fn))
    return done.result


async def transact_async(
    store: AsyncStateStore, world: AsyncWorld, fn: Any, said: Settings, args: Any, kwargs: Any
) -> Any:
    """
    The loop around an async body.
    """
    body, settings = unwrap(fn, said)
    run = store.begin_transaction(settings.options(store, body))
    turns = store.key_turns(run)
    try:
        while True:
            expected = expected_of(store, run, args, kwargs)
            done = None if turns.begins() else await drive_async(run.begin(turns.ahead(expected)), world)
            if done is None:
                tx = AsyncTransaction(store, run, world, turns, expected)
                result, error = await _run_body_async(tx, body, args, kwargs)
                point("transact.ran")
                settled = await turns.settle(result, error)
                if settled is False:
                    ended = await store.commit_shielded(run, result, error)
                    done = ended if isinstance(ended, Finished) else None
                elif settled is not True:
                    done = settled
            if done is not None:
                break
    finally:
        turns.leave()
        run.close()
        store.finish_later(run)
    return await _close_async(done)


async def _run_body_async(
    tx: AsyncTransaction, body: Callable[..., Any], args: Any, kwargs: Any
) -> tuple[Any, BaseException | None]:
    try:
        in_body.set(name_of(body))
        result = body(tx, *args, **kwargs)
        if not inspect.isawaitable(result):
            raise TypeError(
                f"{name_of(body)} is a plain function: with AsyncStateStore a body is `async def`"
            )
        value = await Watched(result, tx._turns)  # noqa: SLF001
        tx._guards_allowed()  # noqa: SLF001
    except Exception as error:  # noqa: BLE001  the run decides what becomes of it
        return None, error
    else:
        return value, None
    finally:
        in_body.set(None)  # there is none in another; a token could get lost to an interrupt
        tx.learn(args, kwargs)
        tx._over = True  # noqa: SLF001


async def _close_async(done: Finished) -> Any:
    if done.error is not None:
        raise done.error
    for fn in done.after:
        try:
            result = fn()
            if inspect.isawaitable(result):
                await result
        except Exception:  # noqa: BLE001  best effort, as promised
            _log.exception("on_commit function %s failed; the transaction is committed", name_of(fn))
    return done.result
