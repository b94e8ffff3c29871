"""
Handing deliveries to the worker, and what the faults make of them and of their answers.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Final

import dapr.ext.workflow._durabletask.internal.protos as pb

from toolkit.testing.taskhub.clock import VirtualClock
from toolkit.testing.taskhub.faults import WorkflowFaults
from toolkit.testing.taskhub.work import Work

_OF_ACTIVITIES: Final = ("crash_before", "delay", "duplicate", "lose_result", "crash_after")


class Dispatcher(VirtualClock, ABC):
    """
    The deliveries between the hub and its workers.
    """

    def __init__(
        self, faults: WorkflowFaults, start: datetime, *, in_flight: int | None, skip_always: bool
    ) -> None:
        super().__init__(start, skip_always=skip_always)
        self.deliveries: Counter[str] = Counter()
        self.epoch = 0
        self._faults, self._in_flight = faults, in_flight
        self._random = Random(faults.seed)  # noqa: S311  a seed that replays
        self._tokens = itertools.count(1)

    @abstractmethod
    def _commit(self, work: Work, response: pb.WorkflowResponse) -> None: ...

    @abstractmethod
    def _resolve(self, work: Work, response: pb.ActivityResponse) -> None: ...

    # -- what the worker is given ----------------------------------------------------------------------------------

    def next(self, stream: int, epoch: int, active: Callable[[], bool]) -> pb.WorkItem | None:
        """
        Wait for the next delivery; ``None`` when the stream is over.
        """
        with self.changed:
            while True:
                if self.closed or epoch != self.epoch or not active():
                    return None
                work = self._choose()
                if work is not None:
                    work.stream = stream
                    return self._hand_out(work)
                self.changed.wait(0.2)

    def _choose(self) -> Work | None:
        """
        The next delivery that no fault keeps from the worker.
        """
        while self._ready and (self._in_flight is None or len(self._flying) < self._in_flight):
            epoch = self.epoch
            at = 0 if self._in_flight is None else self._random.randrange(len(self._ready))
            work = self._ready.pop(at)
            if self._reaches(work):
                return work
            self._move()
            if epoch != self.epoch:
                break
        return None

    def _reaches(self, work: Work) -> bool:
        work.fault = ""
        if work.kind == "turn":
            rule = self._faults.draw(("rerun_turn",), work.name, work.key)
            work.fault = "" if rule is None else rule.kind
        if work.kind != "activity" or work.spared:
            return True
        rule = self._faults.draw(_OF_ACTIVITIES, work.name, work.key)
        if rule is None:
            return True
        if rule.kind == "delay":
            self._later(_spared(work), rule.by)
            return False
        if rule.kind == "crash_before":
            self._ready.append(_again(work))
            self.crash()
            return False
        if rule.kind == "duplicate":
            self._later(_spared(work), rule.by)
        else:
            work.fault = rule.kind
        return True

    def _later(self, work: Work, by: timedelta) -> None:
        if by <= timedelta(0):
            self._ready.append(work)
        else:
            self._calendar.add(self.now + by, lambda: self._ready.append(work), lambda: True)

    def _hand_out(self, work: Work) -> pb.WorkItem:
        work.token = str(next(self._tokens))
        if work.kind == "turn":
            self._fill(work)
        work.item.completionToken = work.token
        self._flying[work.token] = work
        self.deliveries[work.name] += 1
        return work.item

    def _fill(self, work: Work) -> None:
        instance = work.instance
        assert instance is not None
        work.taken, work.events = len(instance.inbox), instance.turn(self.now)
        request = pb.WorkflowRequest(
            instanceId=instance.id, pastEvents=instance.history, newEvents=work.events
        )
        work.item = pb.WorkItem(workflowRequest=request)

    def connect(self) -> tuple[int, int]:
        """
        A worker's stream: its number, and the epoch it belongs to.
        """
        with self.changed:
            self.streams += 1
            self.changed.notify_all()
            return next(self._tokens), self.epoch

    def disconnect(self, stream: int) -> None:
        """
        A stream is over; what it carried without an answer is delivered again.
        """
        with self.changed:
            self.streams -= 1
            for token in [token for token, work in self._flying.items() if work.stream == stream]:
                self._ready.append(_again(self._flying.pop(token)))
            self._move()

    def crash(self) -> None:
        """
        Cut every stream; what was under way is delivered again, and late answers to it are ignored.
        """
        with self.changed:
            self.epoch += 1
            flying, self._flying = list(self._flying.values()), {}
            self._ready += [_again(work) for work in flying]
            self._move()

    # -- what it answers -------------------------------------------------------------------------------------------

    def complete_turn(self, response: pb.WorkflowResponse) -> None:
        """
        Take in the answer to a turn; one that is not expected any more is ignored.
        """
        with self.changed:
            work = self._flying.pop(response.completionToken, None)
            if work is None:
                return
            if work.kind == "replay":
                work.answer = response
            elif work.fault:
                self._ready.append(_again(work))
            else:
                self._commit(work, response)
            self._move()

    def complete_activity(self, response: pb.ActivityResponse) -> None:
        """
        Take in the result of an activity; one that is not expected any more is ignored.
        """
        with self.changed:
            work = self._flying.pop(response.completionToken, None)
            if work is None:
                return
            if work.fault:
                self._ready.append(_again(work))
                if work.fault == "crash_after":
                    self.crash()
            else:
                self._resolve(work, response)
            self._move()

    # -- replay ----------------------------------------------------------------------------------------------------

    def ask(self, name: str, request: pb.WorkflowRequest, timeout: float) -> pb.WorkflowResponse:
        """
        Give the worker a turn that belongs to no instance, and return its answer.
        """
        work = Work("replay", name, "replay", pb.WorkItem(workflowRequest=request))
        with self.changed:
            self._ready.append(work)
            self.changed.notify_all()
            if not self.changed.wait_for(lambda: work.answer is not None, timeout):
                raise TimeoutError(f"no answer to the replay within {timeout:g} s: {self.under_way()}")
            assert work.answer is not None
            return work.answer


def _again(work: Work) -> Work:
    """
    The next delivery of the same.
    """
    item = pb.WorkItem()
    item.CopyFrom(work.item)
    return Work(
        work.kind, work.name, work.step, item, work.instance, work.generation, delivery=work.delivery + 1
    )


def _spared(work: Work) -> Work:
    """
    The same again, and no fault hits it: else a copy would be copied for ever.
    """
    copied = _again(work)
    copied.spared = True
    return copied
