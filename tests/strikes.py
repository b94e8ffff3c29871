"""
Interrupts at every place of a call, one after another.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from toolkit._interrupts import disguised

EVENTS = pytest.mark.parametrize("event", ["call", "c_return"])


class Strike:
    """
    Ctrl-C at the n-th function that this thread enters: a handler raises at its first instruction, as a signal's does.

    Attributes:
        within: Count only functions that a file of such a path calls.
        event: Of a profiler: ``c_return`` strikes as a function written in C has returned, where signals are looked for, too.
    """

    def __init__(self, at: int, within: str = "", event: str = "call") -> None:
        self.at, self.within, self.event, self.count = at, within, event, 0

    def __call__(self, frame: Any, event: str, _what: Any) -> None:
        if event == self.event and self.within in frame.f_back.f_code.co_filename:
            self.count += 1
            if self.count == self.at:
                sys.setprofile(None)
                raise KeyboardInterrupt

    def during(self, call: Callable[[], Any]) -> bool:
        """
        Whether it came to the strike. Nothing else may come out of the call, but for what Python makes of one inside of
        ``Condition.wait``.
        """
        try:
            sys.setprofile(self)
            call()
        except KeyboardInterrupt:
            pass
        except RuntimeError as error:
            if not disguised(error):
                raise
        finally:
            sys.setprofile(None)
        return self.count >= self.at


def everywhere(
    call: Callable[[], Any],
    after: Callable[[int], Any],
    event: str,
    stride: int = 1,
    within: str = "",
    before: Callable[[], Any] = lambda: None,
    least: int = 50,
) -> int:
    """
    Strike call after call until one gets through, which has run through so many functions; answers with how often.
    """
    for number, at in enumerate(itertools.count(1, stride), 1):
        before()
        struck = Strike(at, within, event).during(call)
        after(at)
        if not struck:
            assert at > least, "the call ran through hardly any function"
            return number
    raise AssertionError("it never got through")


def elsewhere(call: Callable[[], Any]) -> Future[Any]:
    """What another thread gets, which nobody waits for where it is stuck."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def as_long_as(holds: Callable[[], Any]) -> None:
    """Look again and again, and leave the others the interpreter meanwhile."""
    while holds():
        time.sleep(0.0002)
