"""
The calls that one run over a key serves, and what each of them is told.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TypeAlias

from toolkit.core.jobs import Batch, Done, Failed, Job, Result
from toolkit.core.model import Reply
from toolkit.core.notes import Attempt, committed_fields, gave_up_fields
from toolkit.core.seen import Seen
from toolkit.core.site import Site, exhausted, unavailable
from toolkit.core.stamp import WriteId
from toolkit.core.steps import Instant, Now, Steps
from toolkit.errors import StateError

Answers: TypeAlias = list[tuple[Job, Result]]
Take: TypeAlias = Callable[[], Sequence[Job]]
Tell: TypeAlias = Callable[[Job, Result], None]


class Callers:
    """
    Each job that ``take`` hands over is answered exactly once.

    Attributes:
        jobs: Those without an answer.
        answers: What the others are to be told.
        deadline: The latest of all so far.
        tell: Called with each answer that is there while others are still served.
        making: A write is being made of what the callers ask: one that leaves now may be in it.
    """

    last_reply: Reply | None = None
    making = False

    def __init__(self, site: Site, key: str, deadline: float, take: Take, tell: Tell) -> None:
        self.site, self.key, self.take, self.tell = site, key, take, tell
        self.deadline = deadline
        self.jobs: list[Job] = []
        self.answers: Answers = []
        self.attempt = Attempt()

    def _take_more(self) -> None:
        self.making = True
        for job in self.take():
            self.jobs.append(job)
            self.deadline = max(self.deadline, job.deadline)

    def _begin(self, now: Instant) -> list[Job]:
        """
        Count the attempt for every job; answers with those that may not try again, which are no longer among them.
        """
        mono = now.mono
        late: list[Job] = []
        for job in self.jobs:
            # A first attempt is free to all but those whose caller has left.
            if (job.attempts or not job.deadline) and self._is_late(job, mono):
                late.append(job)
            else:
                job.attempts += 1
        if late:
            self.jobs = [job for job in self.jobs if job not in late]
        return late

    def _is_late(self, job: Job, mono: float) -> bool:
        most = job.policy_attempts
        return mono >= job.deadline or (most is not None and job.attempts >= most)

    def _give_up(self, job: Job, now: Instant) -> Steps[None]:
        elapsed = now.mono - job.started
        reason = "deadline" if now.mono >= job.deadline else "attempts"
        error: StateError
        if job.conflicts:
            error = exhausted(self.key, job.conflicts, job.attempts, elapsed)
        else:
            error = unavailable(self.site.store, self.key, elapsed, self.last_reply)
        self._answer(job, error)
        yield from self.site.note(
            "occ.gave_up", lambda: gave_up_fields(job, self.attempt, reason, error, now)
        )

    def _answered(self, batch: Batch) -> list[Job]:
        """
        The jobs that have their answers now.
        """
        done, self.jobs = self.jobs, []
        self.answers += zip(done, batch.results, strict=True)
        return done

    def _committed(self, done: list[Job], batch: Batch, write_id: WriteId | None, seen: Seen) -> Steps[None]:
        # A change that raised has its exception for an answer; it is no commit, and not the store's failure either.
        jobs = [job for job, result in zip(done, batch.results, strict=True) if isinstance(result, Done)]
        if jobs and self.site.observed():
            now = yield from Now()
            yield from self.site.note(
                "occ.committed", lambda: committed_fields(jobs, self.attempt, seen, write_id, now)
            )

    def _answer(self, job: Job, error: StateError) -> None:
        """
        Tell a caller at once: the others may be served for a while yet.
        """
        result = Failed(error)
        self.answers.append((job, result))
        self.tell(job, result)

    def _outlast(self, error: StateError) -> Steps[bool]:
        """
        The store was out of reach until the deadline of those who waited; whoever came later goes on, if anybody did.
        """
        until = self.deadline
        self._take_more()
        late = [job for job in self.jobs if job.deadline <= until]
        self.jobs = [job for job in self.jobs if job.deadline > until]
        yield from self._fail(late, error)
        return not self.jobs

    def _fail(self, jobs: Sequence[Job], error: StateError) -> Steps[None]:
        """
        An error that concerns the key or the store as a whole; each caller gets one of his own.
        """
        now = yield from Now()
        for job in jobs:
            self._answer(job, copy.copy(error))
            yield from self.site.note(
                "occ.gave_up",
                lambda job=job: gave_up_fields(job, self.attempt, "error", error, now),  # type: ignore[misc]
            )
