"""
Optimistic concurrency on the Dapr state API: no lost update, exactly once, every conflict explained.
"""

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
from toolkit.store import AsyncStateStore, StateStore
from toolkit.stores import Profile
from toolkit.transaction import AsyncTransaction, Transaction, transactional
from toolkit.typed import AsyncTypedStateStore, TypedStateStore

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
    "ValueTooLargeError",
    "log_to",
    "retry_on_conflict",
    "transactional",
]
