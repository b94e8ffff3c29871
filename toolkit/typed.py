"""
Stored objects as instances of a class: dataclasses, msgspec structs, pydantic models, and what else msgspec converts.

Members of a stored object that the class does not declare are carried over when the object is written back, at every
level of nested objects, so that two versions of a program can share a value. They are found without looking at the
class: whatever an instance does not give back of what it was made from is not its own.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, get_origin, overload

import msgspec

from toolkit._checks import check_change, check_etag, name_of
from toolkit.core.jobs import NO_DEFAULT
from toolkit.core.model import CLEAR, KEEP, TTL, Absent, Entry, ETag, Marker
from toolkit.errors import CorruptValueError, UnencodableValueError

if TYPE_CHECKING:
    from toolkit.store import AsyncStateStore, StateStore

T = TypeVar("T")
D = TypeVar("D")

_EMPTY: Final[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class TypedEntry(Entry, Generic[T]):
    """
    An ``Entry`` whose value is an instance of the class; ``None`` when the key is missing.
    """

    value: T | None


class Codec(Generic[T]):
    """
    Between JSON values and instances of a class.
    """

    def __init__(self, type: type[T]) -> None:
        self.type = type
        self.name: str = getattr(type, "__name__", None) or repr(type)
        self._load, self._dump = _pydantic(type) or _msgspec(type)

    def load(self, value: Any, key: str) -> T:
        """
        An instance of the class from what is stored.

        Raises:
            CorruptValueError: It is no such instance; names the field.
        """
        try:
            loaded: T = self._load(value)
        except Exception as error:
            if (said := _complaint(error)) is None:
                raise
            raise CorruptValueError(
                f"key {key!r}: what is stored is no {self.name}: {said}; repair the value, or declare what is there",
                key=key,
            ) from None  # the original quotes the value
        return loaded

    def dump(self, value: T, key: str) -> Any:
        """
        What to store for an instance; only what would read back as one.

        Raises:
            UnencodableValueError: It cannot be stored; names the field.
        """
        if _is_class(self.type) and not isinstance(value, self.type):
            raise UnencodableValueError(
                f"key {key!r}: a {type(value).__name__} is no {self.name}; pass an instance", key=key
            )
        try:
            dumped = self._dump(value)
            self._load(dumped)
        except Exception as error:
            said = _complaint(error) or (str(error) if isinstance(error, TypeError | ValueError) else None)
            if said is None:
                raise
            raise UnencodableValueError(f"key {key!r}: this {self.name} cannot be stored: {said}", key=key) from None
        return dumped

    def renew(self, stored: Any, value: T, key: str) -> Any:
        """
        What to store for an instance in place of what is stored.
        """
        dumped = self.dump(value, key)
        if not isinstance(stored, dict) or not isinstance(dumped, dict):
            return dumped
        stored, dumped = cast("dict[str, Any]", stored), cast("dict[str, Any]", dumped)
        strange = self._strange(stored)
        # What is no such instance and is overwritten with one keeps the members that this leaves free.
        return {**stored, **dumped} if strange is None else _with(dumped, strange)

    def _strange(self, stored: dict[str, Any]) -> dict[str, Any] | None:
        """
        The members of a stored object that are not the class's own; ``None`` when it is no such instance at all.
        """
        try:
            own: dict[str, Any] = self._dump(self._load(stored))
        except Exception as error:
            if _complaint(error) is None:
                raise
            return None
        return _without(stored, own)


def _without(stored: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """
    What is in one object and not in the other, nested objects likewise.
    """
    rest: dict[str, Any] = {}
    for name, value in stored.items():
        if name not in own:
            rest[name] = value
        elif isinstance(value, dict) and isinstance(own[name], dict):
            inner = _without(cast("dict[str, Any]", value), own[name])
            if inner:
                rest[name] = inner
    return rest


def _with(new: dict[str, Any], strange: dict[str, Any]) -> dict[str, Any]:
    """
    The new object and, where it has room for them, the strange members of the old one.
    """
    whole = dict(new)
    for name, value in strange.items():
        if name not in new:
            whole[name] = value
        elif isinstance(value, dict) and isinstance(new[name], dict):
            whole[name] = _with(new[name], cast("dict[str, Any]", value))
    return whole


_Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def _msgspec(type: Any) -> _Pair:
    try:
        known = not isinstance(msgspec.inspect.type_info(type), msgspec.inspect.CustomType)
    except TypeError:
        known = False
    if not known:
        raise TypeError(f"typed({type!r}): a dataclass, a msgspec.Struct or a pydantic model is needed")
    load = functools.partial(msgspec.convert, type=type, str_keys=True)
    return (
        (lambda value: _complete(load(value))) if is_dataclass(type) else load,
        functools.partial(msgspec.to_builtins, str_keys=True),
    )


def _complete(value: Any) -> Any:
    """
    Give fresh instances of dataclasses the defaults that msgspec leaves on the class, so that they are stored too.
    """
    if is_dataclass(value) and hasattr(value, "__dict__"):
        own = vars(value)
        for field in fields(value):
            if field.name not in own and hasattr(value, field.name):
                own[field.name] = getattr(value, field.name)
        for part in own.values():
            _complete(part)
    elif isinstance(value, list | tuple):
        for part in cast("list[Any]", value):
            _complete(part)
    elif isinstance(value, dict):
        for part in cast("dict[Any, Any]", value).values():
            _complete(part)
    return value


def _pydantic(type: Any) -> _Pair | None:
    """
    Pydantic's own conversion for its models and dataclasses; whoever has one has loaded pydantic.
    """
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is None or not hasattr(type, "__pydantic_validator__"):
        return None
    adapter = pydantic.TypeAdapter(type)
    # As from JSON: a strict model takes a text for a date there.
    return (
        lambda value: adapter.validate_json(msgspec.json.encode(value)),
        lambda value: adapter.dump_python(value, mode="json", by_alias=True, warnings=False),
    )


def _is_class(type: Any) -> bool:
    """
    Whether ``isinstance`` tells: not so for ``list[int]`` and typed dictionaries.
    """
    return inspect.isclass(type) and get_origin(type) is None and not hasattr(type, "__required_keys__")


def _complaint(error: Exception) -> str | None:
    """
    What a conversion complains of, and where, without the value itself; ``None`` for any other error.
    """
    if isinstance(error, msgspec.ValidationError):
        what, _, where = str(error).rpartition(" - at `")
        said = what or str(error)
        said = "no value of the enum" if said.startswith("Invalid enum value") else said
        return f"field {where.rstrip('`').removeprefix('$').lstrip('.')!r}: {said}" if what else said
    if type(error).__name__ == "ValidationError" and type(error).__module__.startswith("pydantic"):
        first: dict[str, Any] = cast("Any", error).errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"field {where!r}: {first['msg']}" if where else str(first["msg"])
    return None


_codec: Final = functools.lru_cache(maxsize=256)(Codec[Any])


class _Typed(Generic[T]):
    """
    What both colours share.
    """

    def __init__(self, type: type[T]) -> None:
        self.type = type
        self._codec: Codec[T] = _codec(cast("Any", type))

    def _entry(self, entry: Entry) -> TypedEntry[T]:
        value = self._codec.load(entry.value, entry.key) if entry.exists else None
        return TypedEntry(entry.key, value, entry.etag, entry.exists)

    def _change(self, key: str, change: Callable[[T], Any]) -> Callable[[Any], Any]:
        check_change(change)
        codec = self._codec

        def changed(stored: Any) -> Any:
            # None is what a default=None gives.
            after = change(cast("T", stored) if stored is None else codec.load(stored, key))
            return after if after is None or isinstance(after, Marker) else codec.renew(stored, after, key)

        # The operation's name in the log, and part of what an op_id belongs to.
        changed.__qualname__ = name_of(change)
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
        return self._after(key, self.store.update(key, self._change(key, change), default=start, ttl=ttl, op_id=op_id))

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
        if isinstance(check_etag(etag, "compare_and_set"), ETag) and (now := self.store.read(key)).etag == etag:
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
        if isinstance(check_etag(etag, "compare_and_set"), ETag) and (now := await self.store.read(key)).etag == etag:
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
