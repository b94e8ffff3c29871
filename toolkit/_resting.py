"""
Tasks of a store that do one piece of work after another, where no caller's cancellation reaches them.

A task that is done stays for the next piece: starting one costs as much as a third of a call. What it reports while it
works is bound as the caller is whose work it does, not as the one that once started it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from toolkit.core.events import Event, EventHook

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

W = TypeVar("W")

# Tasks kept waiting for the next piece of work; a burst starts more, which end with it.
MOST_RESTING: Final = 64

_caller: ContextVar[Context | None] = ContextVar("occ_caller", default=None)


def work_for(caller: Context | None) -> None:
    """
    From here on this task reports for another caller; ``None`` when nobody listened to that one.
    """
    _caller.set(caller)


class ForCaller:
    """
    An event hook that reports with what is bound around the call for which a task works.
    """

    def __init__(self, hook: EventHook) -> None:
        self.hook = hook

    def __call__(self, event: Event) -> None:
        context = _caller.get()
        if context is None:
            self.hook(event)
        else:
            context.run(self.hook, event)


class Hand(Generic[W]):
    """
    A task that waits for work; woken without any it ends.
    """

    __slots__ = ("signal", "work")

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.work: W | None = None


class Hands(Generic[W]):
    """
    The tasks of one store for one kind of work; one event loop, no locks.
    """

    def __init__(
        self, group: TaskGroup, make_signal: Callable[[], Any], do: Callable[[W], Awaitable[None]]
    ) -> None:
        self.group, self.make_signal, self.do = group, make_signal, do
        self.resting: list[Hand[W]] = []
        self.stopped = False

    def give(self, work: W) -> None:
        """
        Let a resting task do this, or a new one.
        """
        if self.resting:
            hand = self.resting.pop()
            hand.work = work
            hand.signal.set()
        else:
            self.group.start_soon(self._run, work)

    async def _run(self, first: W) -> None:
        import anyio  # slow to import; the sync colour does without

        work: W | None = first
        with anyio.CancelScope(shield=True):
            while work is not None:
                await self.do(work)
                if self.stopped or len(self.resting) >= MOST_RESTING:
                    return
                hand: Hand[W] = Hand(self.make_signal())
                self.resting.append(hand)
                # What is done is kept by nobody while the task rests.
                work = None
                await hand.signal.wait()
                work = hand.work

    def stop(self) -> None:
        """
        Send the resting tasks home; those at work end with it.
        """
        self.stopped = True
        for hand in self.resting:
            hand.signal.set()
        self.resting.clear()
