"""
The ground the probes stand on: scratch keys that are remembered and removed, and the facts that were found.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from toolkit.core.model import Reply
from toolkit.doctor.wire import Concurrency, Found, Op, Wire
from toolkit.stores import Call, Profile, Verdict, classify, says_missing
from toolkit.stores._evidence import Fact

PREFIX: Final = "_occ-doctor-"

_VARYING: Final = (
    (re.compile(r"\b(current|expect)=[^\s,]+"), r"\1=ETAG"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HOST"),
    (re.compile(r"-{4,}"), ""),
    (re.compile(r"RequestID: [\w-]+"), "RequestID"),
    (re.compile(r"(?i)\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
)


class ProbeError(Exception):
    """
    A probe cannot go on: a step that every store must answer OK was not.
    """


@dataclass(slots=True)
class Bench:
    """
    Scratch keys on one store.

    Attributes:
        profile: What is expected; also names the recipe of a create.
        run: A random word in every key, so that two doctors do not meet.
        facts: What was found, by the name of the fact.
        notes: Observations worth a sentence, that are no facts of the table.
        unrecognised: Refusals the profile does not know for conflicts.
    """

    wire: Wire
    profile: Profile
    run: str
    facts: dict[str, Fact] = field(default_factory=dict[str, Fact])
    notes: list[str] = field(default_factory=list[str])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    answers: dict[str, str] = field(default_factory=dict[str, str])
    unrecognised: list[str] = field(default_factory=list[str])
    keys: set[str] = field(default_factory=set[str])
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def key(self, word: str = "k") -> str:
        """
        Make a key nobody has used.
        """
        key = f"{PREFIX}{self.run}-{word}-{next(self._count)}"
        self.keys.add(key)
        return key

    def set(self, key: str, data: bytes) -> None:
        """
        Write a value that every store must take.

        Raises:
            ProbeError: It did not.
        """
        reply = self.wire.send(Op(key, data))
        if not reply.ok:
            raise ProbeError(f"a plain write was refused: {reply.code} {reply.text}")

    def made(self, data: bytes = b'{"n":1}', word: str = "k") -> tuple[str, str]:
        """
        Give a fresh key with a value, and its ETag.
        """
        key = self.key(word)
        self.set(key, data)
        return key, self.read(key).etag

    def read(self, key: str) -> Found:
        """
        Read a key; an error is a missing key only where the profile says so.

        Raises:
            ProbeError: The read failed.
        """
        found = self.wire.get(key)
        if found.error is None:
            return found
        if says_missing(self.profile, found.error.code, found.error.text):
            return Found()
        raise ProbeError(f"a read failed: {found.error.code} {found.error.text}")

    def delete(self, key: str) -> None:
        """
        Delete without a condition.
        """
        self.wire.send(Op(key, None))

    def note(self, probe: str, call: Call, reply: Reply, *keys: str, conflict: bool = True) -> None:
        """
        Note the answer of a probe and, where it should be a conflict, whether the profile knows its wording.
        """
        self.answers[probe] = f"{reply.code} {self.tidy(reply.text)}".strip()
        if reply.ok:
            return
        if not conflict:
            return
        verdict = classify(self.profile, call, reply.code, reply.text, keys)
        if verdict not in (Verdict.CONFLICT, Verdict.SUSPECTED):
            self.unrecognised.append(f"{probe}: {verdict.value}: {reply.code} {self.tidy(reply.text)}")

    def tidy(self, text: str) -> str:
        """
        Take the random part of keys and ETags out of a text, so that two runs read alike.
        """
        words = " ".join(text.replace(self.run, "RUN").split())
        for pattern, word in _VARYING:
            words = pattern.sub(word, words)
        return words[:300]

    def clean(self) -> list[str]:
        """
        Remove every scratch key; gives those that would not go.
        """
        left: list[str] = []
        for key in sorted(self.keys):
            reply = self.wire.send(Op(key, None))
            if not reply.ok and self.wire.get(key).present:
                # Redis keys made by first-write refuse a plain write but not a delete; others may want the ETag.
                reply = self.wire.send(Op(key, None, etag=self.wire.get(key).etag or None))
                if not reply.ok:
                    left.append(key)
        return left


def first_write(key: str, data: bytes) -> Op:
    """
    Word a create as Dapr means it: no ETag and first-write.
    """
    return Op(key, data, concurrency=Concurrency.FIRST_WRITE)


def applied(bench: Bench, expected: Sequence[tuple[str, bytes | None]]) -> list[bool]:
    """
    Say which operations took effect: the key holds the bytes, or is gone for ``None``.
    """
    result: list[bool] = []
    for key, data in expected:
        found = bench.read(key)
        result.append(not found.present if data is None else found.data == data)
    return result
