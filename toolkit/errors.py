"""
Every error the toolkit raises for a reason that lies in the data or the store.

Misuse of the API is a plain ``TypeError``, ``ValueError`` or ``RuntimeError``. Each message stands alone: the key, the
fact, the number, the cure. All are picklable, with their attributes, so that they survive a process pool or a workflow
activity.

::

    StateError
    ├── ConflictError(key, expected, attempt)
    │   ├── AlreadyExistsError
    │   └── AttemptsExhaustedError(conflicts, attempts, elapsed)
    ├── NotFoundError (also KeyError)
    ├── OutcomeUnknownError(receipt)
    ├── OperationIdReusedError
    ├── OperationWindowError
    ├── ResultTooLargeError
    ├── RecordedError(type, message)
    ├── OperationVoidedError
    ├── AccessDeniedError
    ├── InvalidValueError
    │   ├── InvalidKeyError (also ValueError)
    │   ├── UnencodableValueError (also TypeError)
    │   ├── CorruptValueError
    │   └── ValueTooLargeError
    └── StoreError
        ├── StoreUnavailableError
        ├── SidecarUnavailableError
        ├── UnknownStoreError(available)
        ├── UnsafeStoreError(reasons)
        ├── TransactionsUnsupportedError
        ├── TTLUnsupportedError
        ├── InvalidETagError
        ├── TooManyOperationsError
        └── SnapshotUnstableError
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _rebuild(cls: type[StateError], message: str, attributes: dict[str, Any]) -> StateError:
    """
    Make the error again in another process.

    ``Exception.__reduce__`` calls the class with ``args`` alone, which would drop the attributes.
    """
    error = cls.__new__(cls, message)
    Exception.__init__(error, message)
    error.__dict__.update(attributes)
    return error


class StateError(Exception):
    """
    The root of all errors of this package; catch it to catch them all.
    """

    def __reduce__(self) -> tuple[Callable[..., StateError], tuple[Any, ...]]:
        return _rebuild, (type(self), str(self.args[0]) if self.args else "", dict(self.__dict__))

    def __str__(self) -> str:
        # KeyError quotes its message; ours is a sentence.
        return str(self.args[0]) if self.args else ""


class ConflictError(StateError):
    """
    The write was refused since the value changed after it was read; nothing was written.

    Attributes:
        key: The key that was contended (the first one, for several).
        expected: The version the write was built on, as text; ``None`` when it was to be created.
        attempt: The attempt that lost, counted from 1.
    """

    def __init__(self, message: str, *, key: str = "", expected: str | None = None, attempt: int = 1) -> None:
        super().__init__(message)
        self.key, self.expected, self.attempt = key, expected, attempt


class AlreadyExistsError(ConflictError):
    """
    ``create`` found the key present; nothing was written.
    """


class AttemptsExhaustedError(ConflictError):
    """
    Every attempt the policy allows lost a conflict; nothing was written by this call.

    Attributes:
        conflicts: How many conflicts were lost.
        attempts: How many attempts were made.
        elapsed: Seconds from the first read to the end.
    """

    def __init__(
        self,
        message: str,
        *,
        key: str = "",
        expected: str | None = None,
        attempt: int = 1,
        conflicts: int = 0,
        attempts: int = 0,
        elapsed: float = 0.0,
    ) -> None:
        super().__init__(message, key=key, expected=expected, attempt=attempt)
        self.conflicts, self.attempts, self.elapsed = conflicts, attempts, elapsed


class NotFoundError(StateError, KeyError):
    """
    The key is missing and the call named no default.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class OutcomeUnknownError(StateError):
    """
    The write was sent and nothing can prove, now, whether it took effect.

    Do not repeat the call blindly: pass ``receipt`` to ``store.resolve`` (from any process), or repeat the call with
    the same ``op_id``.

    Attributes:
        receipt: A small string that names the write; it holds no values.
    """

    def __init__(self, message: str, *, receipt: str = "", key: str = "") -> None:
        super().__init__(message)
        self.receipt, self.key = receipt, key


class OperationIdReusedError(StateError):
    """
    The ``op_id`` belongs to an operation of another kind; nothing was written.
    """


class OperationWindowError(StateError):
    """
    More operation ids younger than the window than a value can carry; nothing was sent.
    """


class ResultTooLargeError(StateError):
    """
    The result of a transaction with an ``op_id`` is over ``result_limit``; nothing was sent.
    """


class RecordedError(StateError):
    """
    The body raised an error of ``record_errors``; its writes were dropped and the error recorded under the ``op_id``.

    Attributes:
        type: The class name of the original error.
        message: Its text.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}")
        self.type, self.message = type, message


class OperationVoidedError(StateError):
    """
    The ``op_id`` was closed by ``store.void`` before any attempt committed; nothing was written and nothing ever will.
    """


class AccessDeniedError(StateError):
    """
    The handle was opened without the right this call needs; nothing was sent.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class InvalidValueError(StateError):
    """
    A value cannot be stored, or what is stored cannot be read.
    """

    def __init__(self, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class InvalidKeyError(InvalidValueError, ValueError):
    """
    Dapr or the store does not take this key; nothing was sent.
    """


class UnencodableValueError(InvalidValueError, TypeError):
    """
    The value is not JSON; nothing was sent.
    """


class CorruptValueError(InvalidValueError):
    """
    The stored bytes are not what the toolkit can read; they were left as they are.
    """


class ValueTooLargeError(InvalidValueError):
    """
    The value with its stamp is over the limit of the store; nothing was sent.
    """


class StoreError(StateError):
    """
    The store or the sidecar, not the data, is the reason.
    """


class StoreUnavailableError(StoreError):
    """
    The store did not answer within the deadline and nothing was written by this call.
    """


class SidecarUnavailableError(StoreError):
    """
    No Dapr sidecar answers at the address.
    """


class UnknownStoreError(StoreError):
    """
    The sidecar has loaded no state store of this name for this app.

    Attributes:
        available: The names of the state stores it has loaded.
    """

    def __init__(self, message: str, *, available: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.available = available


class UnsafeStoreError(StoreError):
    """
    The store cannot keep the promise this call makes; nothing was sent.

    Attributes:
        reasons: One sentence for each fact that rules it out.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reasons = reasons


class TransactionsUnsupportedError(StoreError):
    """
    Multi-key transactions are not to be had on this store or this key.
    """


class TTLUnsupportedError(StoreError):
    """
    The store has no expiry and refuses ``ttl=``; nothing was sent.
    """


class InvalidETagError(StoreError):
    """
    The text is not an ETag of this toolkit, or the store calls an ETag malformed; nothing was written.
    """


class TooManyOperationsError(StoreError):
    """
    The transaction has more operations than the store takes; nothing was sent.
    """


class SnapshotUnstableError(StoreError):
    """
    The keys changed during every round of a snapshot.
    """
