"""
Stored objects as instances of a class: dataclasses, msgspec structs, pydantic models, and what else msgspec converts.

Members of a stored object that the class does not declare are carried over when the object is written back, at every
level of nested objects, so that two versions of a program can share a value. They are found without looking at the
class: whatever an instance does not give back of what it was made from is not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

from toolkit._checks import check_change, check_etag
from toolkit._codec import Codec, codec_of
from toolkit.core.jobs import NO_DEFAULT
from toolkit.core.model import CLEAR, KEEP, TTL, Absent, Entry, ETag, Marker

if TYPE_CHECKING:
    from toolkit.async_store import AsyncStateStore
    from toolkit.store import StateStore

T = TypeVar("T")
D = TypeVar("D")

_EMPTY: Final[dict[str, Any]] = {}


class TypedEntry(Entry, Generic[T], frozen=True):
    """
    An ``Entry`` whose value is an instance of the class; ``None`` when the key is missing.
    """

    value: T | None


class _Typed(Generic[T]):
    """
    What both colours share.
    """

    def __init__(self, type: type[T]) -> None:
        self.type = type
        self._codec: Codec[T] = codec_of(cast("Any", type))

    def _entry(self, entry: Entry) -> TypedEntry[T]:
        value = self._codec.load(entry.value, entry.key) if entry.exists else None
        return TypedEntry(entry.key, value, entry.etag, entry.exists)

    def _change(self, key: str, change: Callable[[T], Any]) -> Callable[[Any], Any]:
        label = check_change(change)
        codec = self._codec

        def changed(stored: Any) -> Any:
            # None is what a default=None gives.
            after = change(cast("T", stored) if stored is None else codec.load(stored, key))
            return after if after is None or isinstance(after, Marker) else codec.renew(stored, after, key)

        # The operation's name in the log, and part of what an op_id belongs to.
        changed.__qualname__ = label
        return changed

    def _overwrite(self, key: str, value: T) -> Callable[[Any], Any]:
        codec = self._codec
        codec.dump(value, key)

        def overwritten(stored: Any) -> Any:
            return codec.renew(stored, value, key)

        overwritten.__qualname__ = "set"
        return overwritten

    def _default(self, key: str, default: Any) -> Any:
        return default if default is NO_DEFAULT or default is None else self._codec.dump(default, key)

    def _after(self, key: str, value: Any) -> T | None:
        return None if value is None else self._codec.load(value, key)


class TypedStateStore(_Typed[T]):
    """
    A state store whose values are instances of one class; made by ``store.typed(User)``.

    The methods of ``StateStore`` with the same arguments. Members of the stored object that the class does not declare
    survive ``update``, ``set`` and ``compare_and_set``; so these need ``Access.READ`` too, and the last two read first.
    """

    def __init__(self, store: StateStore, type: type[T]) -> None:
        super().__init__(type)
        self.store = store

    @overload
    def get(self, key: str, *, eventual: bool = False) -> T | None: ...
    @overload
    def get(self, key: str, default: D, *, eventual: bool = False) -> T | D: ...

    def get(self, key: str, default: Any = None, *, eventual: bool = False) -> Any:
        """
        See ``StateStore.get``.

        Raises:
            CorruptValueError: What is stored is no instance of the class; names the field.
        """
        value = self.store.get(key, _NOTHING, eventual=eventual)
        return default if value is _NOTHING else self._codec.load(value, key)

    def read(self, key: str) -> TypedEntry[T]:
        """
        See ``StateStore.read``.
        """
        return self._entry(self.store.read(key))

    def get_many(self, keys: Iterable[str]) -> dict[str, T]:
        """
        See ``StateStore.get_many``.
        """
        return {key: self._codec.load(value, key) for key, value in self.store.get_many(keys).items()}

    def create(self, key: str, value: T, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        See ``StateStore.create``.

        Raises:
            UnencodableValueError: The value is no instance of the class, or would not read back as one.
        """
        self.store.create(key, self._codec.dump(value, key), ttl=ttl, op_id=op_id)

    def update(
        self,
        key: str,
        change: Callable[[T], Any],
        *,
        default: Any = NO_DEFAULT,
        ttl: TTL = KEEP,
        op_id: str | None = None,
    ) -> T | None:
        """
        See ``StateStore.update``; ``change`` gets an instance and returns one, ``UNCHANGED`` or ``DELETE``.
        """
        start = self._default(key, default)
        return self._after(
            key, self.store.update(key, self._change(key, change), default=start, ttl=ttl, op_id=op_id)
        )

    def set(self, key: str, value: T, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        See ``StateStore.set``; undeclared members of what is there are carried over.
        """
        if self.store.last_write:
            return self.store.set(key, self._codec.dump(value, key), ttl=ttl, op_id=op_id)
        self.store.update(key, self._overwrite(key, value), default=_EMPTY, ttl=ttl, op_id=op_id)
        return None

    def compare_and_set(
        self, key: str, value: T, etag: ETag | Absent, *, ttl: TTL = CLEAR, op_id: str | None = None
    ) -> None:
        """
        See ``StateStore.compare_and_set``; undeclared members of the version ``etag`` names are carried over.
        """
        raw = self._codec.dump(value, key)
        if (
            isinstance(check_etag(etag, "compare_and_set"), ETag)
            and (now := self.store.read(key)).etag == etag
        ):
            raw = self._codec.renew(now.value, value, key)
        self.store.compare_and_set(key, raw, etag, ttl=ttl, op_id=op_id)

    def delete(self, key: str, *, etag: Any = NO_DEFAULT, op_id: str | None = None) -> None:
        """
        See ``StateStore.delete``.
        """
        self.store.delete(key, etag=etag, op_id=op_id)


class AsyncTypedStateStore(_Typed[T]):
    """
    ``TypedStateStore`` over an ``AsyncStateStore``; the same names, awaited.
    """

    def __init__(self, store: AsyncStateStore, type: type[T]) -> None:
        super().__init__(type)
        self.store = store

    @overload
    async def get(self, key: str, *, eventual: bool = False) -> T | None: ...
    @overload
    async def get(self, key: str, default: D, *, eventual: bool = False) -> T | D: ...

    async def get(self, key: str, default: Any = None, *, eventual: bool = False) -> Any:
        """
        See ``TypedStateStore.get``.
        """
        value = await self.store.get(key, _NOTHING, eventual=eventual)
        return default if value is _NOTHING else self._codec.load(value, key)

    async def read(self, key: str) -> TypedEntry[T]:
        """
        See ``TypedStateStore.read``.
        """
        return self._entry(await self.store.read(key))

    async def get_many(self, keys: Iterable[str]) -> dict[str, T]:
        """
        See ``TypedStateStore.get_many``.
        """
        found = await self.store.get_many(keys)
        return {key: self._codec.load(value, key) for key, value in found.items()}

    async def create(self, key: str, value: T, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        See ``TypedStateStore.create``.
        """
        await self.store.create(key, self._codec.dump(value, key), ttl=ttl, op_id=op_id)

    async def update(
        self,
        key: str,
        change: Callable[[T], Any],
        *,
        default: Any = NO_DEFAULT,
        ttl: TTL = KEEP,
        op_id: str | None = None,
    ) -> T | None:
        """
        See ``TypedStateStore.update``; ``change`` is a plain function in this colour too.
        """
        start, changed = self._default(key, default), self._change(key, change)
        return self._after(key, await self.store.update(key, changed, default=start, ttl=ttl, op_id=op_id))

    async def set(self, key: str, value: T, *, ttl: TTL = CLEAR, op_id: str | None = None) -> None:
        """
        See ``TypedStateStore.set``.
        """
        if self.store.last_write:
            await self.store.set(key, self._codec.dump(value, key), ttl=ttl, op_id=op_id)
            return
        await self.store.update(key, self._overwrite(key, value), default=_EMPTY, ttl=ttl, op_id=op_id)

    async def compare_and_set(
        self, key: str, value: T, etag: ETag | Absent, *, ttl: TTL = CLEAR, op_id: str | None = None
    ) -> None:
        """
        See ``TypedStateStore.compare_and_set``.
        """
        raw = self._codec.dump(value, key)
        if (
            isinstance(check_etag(etag, "compare_and_set"), ETag)
            and (now := await self.store.read(key)).etag == etag
        ):
            raw = self._codec.renew(now.value, value, key)
        await self.store.compare_and_set(key, raw, etag, ttl=ttl, op_id=op_id)

    async def delete(self, key: str, *, etag: Any = NO_DEFAULT, op_id: str | None = None) -> None:
        """
        See ``TypedStateStore.delete``.
        """
        await self.store.delete(key, etag=etag, op_id=op_id)


class _Nothing:
    pass


_NOTHING: Final = _Nothing()
