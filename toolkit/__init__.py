"""
Optimistic concurrency on the Dapr state API: no lost update, exactly once, every conflict explained.

Importing the package loads nothing but itself; a name brings its module with it when it is first used.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from toolkit.async_store import AsyncStateStore
    from toolkit.codec import ValueCodec
    from toolkit.conflict import retry_on_conflict
    from toolkit.core.model import ABSENT, CLEAR, DELETE, KEEP, UNCHANGED, Access, Entry, ETag, Outcome
    from toolkit.core.policy import RetryPolicy
    from toolkit.counter import AsyncCounter, Counter
    from toolkit.errors import (
        AccessDeniedError,
        AlreadyExistsError,
        AttemptsExhaustedError,
        ConflictError,
        CorruptValueError,
        InvalidETagError,
        InvalidKeyError,
        InvalidValueError,
        NotFoundError,
        OperationIdReusedError,
        OperationVoidedError,
        OperationWindowError,
        OutcomeUnknownError,
        RecordedError,
        ResultTooLargeError,
        SidecarUnavailableError,
        SnapshotUnstableError,
        StateError,
        StoreError,
        StoreUnavailableError,
        TooManyOperationsError,
        TransactionsUnsupportedError,
        TTLUnsupportedError,
        UnencodableValueError,
        UnknownStoreError,
        UnsafeStoreError,
        ValueTooLargeError,
    )
    from toolkit.facade import AsyncDapr, Dapr
    from toolkit.log import log_to
    from toolkit.store import StateStore
    from toolkit.stores import Profile
    from toolkit.transaction import AsyncTransaction, Transaction, transactional
    from toolkit.typed import AsyncTypedStateStore, TypedStateStore

_HOMES: typing.Final = {
    "ABSENT": "core.model",
    "CLEAR": "core.model",
    "DELETE": "core.model",
    "KEEP": "core.model",
    "UNCHANGED": "core.model",
    "Access": "core.model",
    "AccessDeniedError": "errors",
    "AlreadyExistsError": "errors",
    "AsyncCounter": "counter",
    "AsyncDapr": "facade",
    "AsyncStateStore": "async_store",
    "AsyncTransaction": "transaction",
    "AsyncTypedStateStore": "typed",
    "AttemptsExhaustedError": "errors",
    "ConflictError": "errors",
    "CorruptValueError": "errors",
    "Counter": "counter",
    "Dapr": "facade",
    "ETag": "core.model",
    "Entry": "core.model",
    "InvalidETagError": "errors",
    "InvalidKeyError": "errors",
    "InvalidValueError": "errors",
    "NotFoundError": "errors",
    "OperationIdReusedError": "errors",
    "OperationVoidedError": "errors",
    "OperationWindowError": "errors",
    "Outcome": "core.model",
    "OutcomeUnknownError": "errors",
    "Profile": "stores",
    "RecordedError": "errors",
    "ResultTooLargeError": "errors",
    "RetryPolicy": "core.policy",
    "SidecarUnavailableError": "errors",
    "SnapshotUnstableError": "errors",
    "StateError": "errors",
    "StateStore": "store",
    "StoreError": "errors",
    "StoreUnavailableError": "errors",
    "TTLUnsupportedError": "errors",
    "TooManyOperationsError": "errors",
    "Transaction": "transaction",
    "TransactionsUnsupportedError": "errors",
    "TypedStateStore": "typed",
    "UnencodableValueError": "errors",
    "UnknownStoreError": "errors",
    "UnsafeStoreError": "errors",
    "ValueCodec": "codec",
    "ValueTooLargeError": "errors",
    "log_to": "log",
    "retry_on_conflict": "conflict",
    "transactional": "transaction",
}
# Modules that are reached as attributes of the package.
_MODULES: typing.Final = frozenset({"errors", "log", "stores"})

__all__ = [
    "ABSENT",
    "CLEAR",
    "DELETE",
    "KEEP",
    "UNCHANGED",
    "Access",
    "AccessDeniedError",
    "AlreadyExistsError",
    "AsyncCounter",
    "AsyncDapr",
    "AsyncStateStore",
    "AsyncTransaction",
    "AsyncTypedStateStore",
    "AttemptsExhaustedError",
    "ConflictError",
    "CorruptValueError",
    "Counter",
    "Dapr",
    "ETag",
    "Entry",
    "InvalidETagError",
    "InvalidKeyError",
    "InvalidValueError",
    "NotFoundError",
    "OperationIdReusedError",
    "OperationVoidedError",
    "OperationWindowError",
    "Outcome",
    "OutcomeUnknownError",
    "Profile",
    "RecordedError",
    "ResultTooLargeError",
    "RetryPolicy",
    "SidecarUnavailableError",
    "SnapshotUnstableError",
    "StateError",
    "StateStore",
    "StoreError",
    "StoreUnavailableError",
    "TTLUnsupportedError",
    "TooManyOperationsError",
    "Transaction",
    "TransactionsUnsupportedError",
    "TypedStateStore",
    "UnencodableValueError",
    "UnknownStoreError",
    "UnsafeStoreError",
    "ValueCodec",
    "ValueTooLargeError",
    "log_to",
    "retry_on_conflict",
    "transactional",
]


if not typing.TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return importlib.import_module(f"toolkit.{name}")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'toolkit' has no attribute {name!r}")
        found = getattr(importlib.import_module(f"toolkit.{home}"), name)
        globals()[name] = found  # looked up once
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *__all__})
