"""
A store in memory that keeps every version of a key, and sins on command.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Sin: TypeAlias = Literal[
    "fail_after_apply",
    "ack_without_apply",
    "ack_conflict",
    "partial_transaction",
    "partial_transaction_acked",
    "stale_read",
    "reused_etag",
    "frozen_etag",
    "ttl_lag",
]

SINS: Final[tuple[str, ...]] = get_args(Sin)


class StoreConflictError(Exception):
    """
    The ETag does not match, or the key exists.
    """


class StoreInvalidError(Exception):
    """
    The ETag is none this store gives.
    """


class StoreFailureError(Exception):
    """
    The answer that says nothing: the write may be applied or not.
    """


@dataclass(frozen=True, slots=True)
class Version:
    """
    One version of a key; ``data`` is None for a deletion, ``expires`` a moment of the store's clock.
    """

    data: bytes | None
    etag: str
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """
    One operation of a request.
    """

    key: str
    data: bytes | None
    etag: str | None = None
    first_write: bool = False
    ttl: int | None = None


@dataclass(slots=True)
class _Armed:
    sin: Sin
    key: str
    times: int | None


GONE: Final = Version(None, "")


class MvccStore:
    """
    The rules of a truthful store, and the ways to break each of them.

    Args:
        ttl_lag: Seconds an expired row goes on being there under the sin ``ttl_lag``.
    """

    def __init__(self, *, ttl_lag: float = 60.0) -> None:
        self.ttl_lag = ttl_lag
        self.committed: Counter[Sin] = Counter()
        self._versions: dict[str, list[Version]] = {}
        self._armed: list[_Armed] = []
        self._count = 0
        self._ahead = 0.0
        self._lock = threading.RLock()

    # Control ---------------------------------------------------------------------------------------------------------

    def arm(self, sin: Sin, key: str, times: int | None) -> None:
        if sin not in SINS:
            raise ValueError(f"no sin is called {sin!r}: the store knows {', '.join(SINS)}")
        with self._lock:
            self._armed.append(_Armed(sin, key, times))

    def repent(self) -> None:
        with self._lock:
            self._armed.clear()

    def advance(self, seconds: float) -> None:
        with self._lock:
            self._ahead += seconds

    def versions(self, key: str) -> list[Version]:
        with self._lock:
            return list(self._versions.get(key, ()))

    def _sins(self, sin: Sin, *keys: str) -> bool:
        """
        Whether to commit *sin* on a request for *keys* now; counts it.
        """
        for armed in self._armed:
            if armed.sin == sin and any(armed.key in key for key in keys):
                if armed.times is not None:
                    armed.times -= 1
                    if not armed.times:
                        self._armed.remove(armed)
                self.committed[sin] += 1
                return True
        return False

    def _plans(self, sin: Sin, key: str) -> bool:
        """
        Whether *sin* is armed for *key*, uncounted.
        """
        return any(armed.sin == sin and armed.key in key for armed in self._armed)

    # Requests --------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Version:
        with self._lock:
            versions = self._versions.get(key, [])
            if len(versions) > 1 and self._sins("stale_read", key):
                return versions[-2]
            return self._current(key, reading=True)

    def write(self, change: Change) -> None:
        """
        Apply one change.

        Raises:
            StoreConflictError: Refused by the ETag or the first-write.
            StoreInvalidError: Refused since the ETag is malformed.
            StoreFailureError: Sinned: it is applied.
        """
        with self._lock:
            self._valid(change)
            if not self._allows(change):
                if self._sins("ack_conflict", change.key):
                    return
                raise StoreConflictError(f"possible etag mismatch on {change.key}")
            if self._sins("ack_without_apply", change.key):
                return
            self._apply(change)
            if self._sins("fail_after_apply", change.key):
                raise StoreFailureError("the write was applied and its answer lost")

    def transact(self, changes: Sequence[Change]) -> None:
        """
        Apply all changes or, truthfully, none; errors as for ``write``.

        ``partial_transaction`` applies what is not refused and answers with the conflict, or, where nothing is refused,
        applies all but the last change and fails; ``partial_transaction_acked`` does the same and answers success.
        """
        keys = [change.key for change in changes]
        with self._lock:
            for change in changes:
                self._valid(change)
            if self._sins("ack_without_apply", *keys):
                return
            acked = self._sins("partial_transaction_acked", *keys)
            if acked or self._sins("partial_transaction", *keys):
                self._partial(changes, acked=acked)
                return
            refused = [change.key for change in changes if not self._allows(change)]
            if refused:
                raise StoreConflictError(f"possible etag mismatch on {refused[0]}")
            for change in changes:
                self._apply(change)
            if self._sins("fail_after_apply", *keys):
                raise StoreFailureError("the transaction was applied and its answer lost")

    def _partial(self, changes: Sequence[Change], *, acked: bool) -> None:
        refused = [change for change in changes if not self._allows(change)]
        left_out = refused or changes[-1:]
        for change in changes:
            if change not in left_out:
                self._apply(change)
        if not acked:
            if refused:
                raise StoreConflictError(f"possible etag mismatch on {refused[0].key}")
            raise StoreFailureError("the transaction stopped half way")

    # Rows ------------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """
        The store's clock: Unix time, moved ahead by ``advance``.
        """
        return time.time() + self._ahead

    def _current(self, key: str, *, reading: bool = False) -> Version:
        versions = self._versions.get(key)
        if not versions or versions[-1].data is None:
            return GONE
        row = versions[-1]
        if row.expires is None or self.now() < row.expires:
            return row
        if self._plans("ttl_lag", key) and self.now() < row.expires + self.ttl_lag:
            if reading:
                self._sins("ttl_lag", key)
            return row
        return GONE

    def _valid(self, change: Change) -> None:
        if change.etag is not None and not change.etag.isdigit():
            raise StoreInvalidError(f"{change.etag!r} is no etag of this store")

    def _allows(self, change: Change) -> bool:
        row = self._current(change.key)
        if change.etag is not None:
            return row.data is not None and row.etag == change.etag
        return not change.first_write or row.data is None

    def _apply(self, change: Change) -> None:
        versions = self._versions.setdefault(change.key, [])
        if change.data is None:
            versions.append(GONE)
            return
        expires = self.now() + change.ttl if change.ttl is not None and change.ttl > 0 else None
        versions.append(Version(change.data, self._etag(change), expires))

    def _etag(self, change: Change) -> str:
        row = self._current(change.key)
        blind = change.etag is None and not change.first_write
        if row.data is not None and blind and self._sins("frozen_etag", change.key):
            return row.etag
        if self._plans("reused_etag", change.key):
            # Counts from 1 again after a deletion, as a version kept inside the row does.
            if row.data is None and self._versions.get(change.key):
                self._sins("reused_etag", change.key)
            return str(int(row.etag) + 1) if row.data is not None else "1"
        self._count += 1
        return str(self._count)
