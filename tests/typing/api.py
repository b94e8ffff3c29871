"""
The public API as a type checker sees it; checked by mypy and pyright, never run.

A line that must not type-check carries an ignore comment; both checkers report an ignore that is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_type

from toolkit import (
    ABSENT,
    CLEAR,
    DELETE,
    KEEP,
    UNCHANGED,
    Access,
    AccessDeniedError,
    AlreadyExistsError,
    AsyncCounter,
    AsyncDapr,
    AsyncStateStore,
    AsyncTransaction,
    AsyncTypedStateStore,
    AttemptsExhaustedError,
    ConflictError,
    CorruptValueError,
    Counter,
    Dapr,
    Entry,
    ETag,
    InvalidETagError,
    InvalidKeyError,
    InvalidValueError,
    NotFoundError,
    OperationIdReusedError,
    OperationVoidedError,
    OperationWindowError,
    Outcome,
    OutcomeUnknownError,
    Profile,
    RecordedError,
    ResultTooLargeError,
    RetryPolicy,
    SidecarUnavailableError,
    SnapshotUnstableError,
    StateError,
    StateStore,
    StoreError,
    StoreUnavailableError,
    TooManyOperationsError,
    Transaction,
    TransactionsUnsupportedError,
    TTLUnsupportedError,
    TypedStateStore,
    UnencodableValueError,
    UnknownStoreError,
    UnsafeStoreError,
    ValueCodec,
    ValueTooLargeError,
    log_to,
    retry_on_conflict,
    transactional,
)


@dataclass
class User:
    name: str


def rename(user: User) -> User:
    return User(user.name.upper())


def grow(value: Any) -> Any:
    return value


def open_stores() -> None:
    StateStore("s", access=Access.READ | Access.WRITE, retry=RetryPolicy(attempts=3, deadline=2.0))
    StateStore("s", address="127.0.0.1:50001", api_token="token", startup_timeout=5.0)
    StateStore("s", api_token=lambda: "token", envelope=True, op_window=60, op_ttl=3600, lease=1.0)
    StateStore("s", last_write=True, accept_unverified=True)
    StateStore("s", access={"cart-": Access.ALL, "": Access.READ}, profile="redis")
    StateStore()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    StateStore(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def read(store: StateStore) -> None:
    entry = store.read("k")
    assert_type(entry, Entry)
    assert_type(entry.key, str)
    assert_type(entry.exists, bool)
    if entry.etag is not ABSENT:
        assert_type(entry.etag, ETag)
        assert_type(str(entry.etag), str)
    store.get("k")
    store.get("k", default={"n": 0})
    store.get("k", eventual=True)
    found: Mapping[str, Any] = store.get_many(["a", "b"])
    assert found is not None
    store.get(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def write(store: StateStore) -> None:
    store.update("k", grow)
    store.update("k", grow, default={"n": 0}, op_id="op", ttl=60)
    store.update("k", lambda _: UNCHANGED)
    store.update("k", lambda _: DELETE, ttl=KEEP)
    assert_type(store.create("k", {"n": 0}), None)
    assert_type(store.set("k", {"n": 0}, ttl=CLEAR), None)
    assert_type(store.compare_and_set("k", {"n": 0}, ABSENT), None)
    assert_type(store.delete("k"), None)
    entry = store.read("k")
    store.compare_and_set("k", {"n": 1}, entry.etag, op_id="op")
    store.delete("k", etag=entry.etag)
    store.compare_and_set("k", {"n": 1}, "etag")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    store.compare_and_set("k", {"n": 1}, None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def typed(store: StateStore) -> None:
    users = store.typed(User)
    assert_type(users, TypedStateStore[User])
    assert_type(users.get("k"), User | None)
    assert_type(users.update("k", rename), User | None)
    users.create("k", User("Ada"))
    users.create("k", "Ada")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def colours(store: AsyncStateStore) -> None:
    assert_type(await store.read("k"), Entry)
    await store.update("k", grow, default=None, op_id="op")
    await store.create("k", {"n": 0})
    await store.set("k", {"n": 0})
    await store.delete("k")
    users = store.typed(User)
    assert_type(users, AsyncTypedStateStore[User])
    assert_type(await users.get("k"), User | None)


def outcomes(store: StateStore, error: OutcomeUnknownError) -> None:
    assert_type(error.receipt, str)
    assert_type(store.resolve(error.receipt), Outcome)


@transactional
def transfer(tx: Transaction, source: str, target: str, amount: int) -> int:
    tx.put(source, {"balance": -amount})
    tx.put(target, tx.get(target, {"balance": amount}))
    return amount


@transactional(name="move", record_errors=(ValueError,))
async def move(tx: AsyncTransaction, key: str) -> str:
    await tx.get(key)
    tx.delete(key)
    return key


@retry_on_conflict
def on_the_sdk(key: str) -> int:
    return len(key)


@retry_on_conflict(policy=RetryPolicy(attempts=3))
async def on_the_sdk_async(key: str) -> int:
    return len(key)


async def transactions(store: StateStore, later: AsyncStateStore) -> None:
    amounts: tuple[int, int] = (
        store.transact(transfer, "a", "b", 5, op_id="op"),
        transfer(store, "a", "b", 5),
    )
    moved: str = await later.transact(move, "k")
    assert_type((amounts, moved), tuple[tuple[int, int], str])
    assert_type(on_the_sdk("k"), int)
    assert_type(await on_the_sdk_async("k"), int)
    on_the_sdk(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def facades() -> None:
    with Dapr(state_store="s", access=Access.READ) as dapr:
        assert_type(dapr.states.get("k"), Any)
        writable: StateStore = dapr.state("other", access=Access.ALL)
        writable.set("k", {"n": 0})
    async with AsyncDapr(state_store="s") as later:
        assert_type(await later.states.get("k"), Any)


def counts(store: StateStore) -> None:
    counter = Counter(store, "visits", shards=4)
    assert_type(counter.add(), None)
    assert_type(counter.add(-2, op_id="op"), None)
    assert_type(counter.value(), int)
    counter.add(0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def counts_async(store: AsyncStateStore) -> None:
    counter = AsyncCounter(store, "visits")
    assert_type(await counter.add(2), None)
    assert_type(await counter.value(), int)


def profiles(profile: Profile) -> None:
    assert_type((profile.type, profile.accepted), tuple[str, bool])
    StateStore("s", profile=profile)


def markers() -> None:
    parsed = ETag.parse('"a"')
    if parsed is not ABSENT:
        assert_type(parsed, ETag)


def errors(
    conflict: ConflictError,
    exhausted: AttemptsExhaustedError,
    unknown: UnknownStoreError,
    unsafe: UnsafeStoreError,
    recorded: RecordedError,
) -> None:
    assert_type((conflict.key, conflict.expected, conflict.attempt), tuple[str, str | None, int])
    assert_type((exhausted.conflicts, exhausted.attempts, exhausted.elapsed), tuple[int, int, float])
    assert_type((unknown.available, unsafe.reasons), tuple[tuple[str, ...], tuple[str, ...]])
    assert_type((recorded.type, recorded.message), tuple[str, str])
    as_conflict: tuple[type[ConflictError], ...] = (AlreadyExistsError, AttemptsExhaustedError)
    as_key_error: type[KeyError] = NotFoundError
    as_type_error: type[TypeError] = UnencodableValueError
    invalid: tuple[type[InvalidValueError], ...] = (
        UnencodableValueError,
        CorruptValueError,
        ValueTooLargeError,
        InvalidKeyError,
    )
    of_the_store: tuple[type[StoreError], ...] = (
        StoreUnavailableError,
        SidecarUnavailableError,
        UnknownStoreError,
        UnsafeStoreError,
        TransactionsUnsupportedError,
        TTLUnsupportedError,
        InvalidETagError,
        TooManyOperationsError,
        SnapshotUnstableError,
    )
    others: tuple[type[StateError], ...] = (
        OperationIdReusedError,
        OperationWindowError,
        OperationVoidedError,
        ResultTooLargeError,
        AccessDeniedError,
    )
    assert_type(len((as_conflict, as_key_error, as_type_error, invalid, of_the_store, others)), int)


def logs() -> None:
    log_to("conflicts.jsonl")


class Upper:
    def encode(self, value: str, /) -> str:
        return value.upper()

    def decode(self, stored: str, /) -> str:
        return stored.lower()


def codecs(upper: Upper) -> None:
    codec: ValueCodec = upper
    store = StateStore("s", codec=codec)
    assert_type(store.codec, ValueCodec | None)
    assert_type(store.is_open, bool)
    assert_type(AsyncStateStore.like(store), AsyncStateStore)
    assert_type(StateStore.like(AsyncStateStore.like(store), startup_timeout=1.0), StateStore)
    StateStore("s", codec=Upper)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StateStore("s", codec=str)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
