"""
Threads that make calls beside the caller's own, of which no signal strikes any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from toolkit._interrupts import disguised


class Helpers:
    """
    So many daemon threads at most, made when none is idle, and kept.

    All they share is written in C and changes in one step. An interrupt in ``help`` costs at most the count of an idle one,
    in whose place another is made. Nobody is to depend on help: it may come late, or not at all.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle: list[None] = []
        self._threads: list[threading.Thread] = []

    def help(self, work: Callable[[], None]) -> None:
        """
        Have a function run by another thread.
        """
        try:
            self._idle.pop()
        except IndexError:
            if len(self._threads) < self._most:
                self._add()
        self._work.put(work)

    def _add(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError as error:
            if disguised(error):
                raise
            self._threads.remove(thread)  # no more can be had

    def _run(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            work()
            del work
            self._idle.append(None)

    def close(self) -> None:
        """
        Let them go once they are idle.
        """
        for _ in self._threads:
            self._work.put(None)
