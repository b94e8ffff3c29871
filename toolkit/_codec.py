"""
Between stored JSON values and instances of a class, with the members that belong to somebody else.

A member is somebody else's when an instance made from the stored object does not give it back; that is found out without
looking at the class, at every level of nested objects.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields, is_dataclass
from typing import Any, Final, Generic, TypeVar, cast, get_origin

import msgspec

from toolkit.core.jobs import check_value
from toolkit.errors import CorruptValueError, UnencodableValueError

T = TypeVar("T")


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
            TypeError: It is None, a marker or awaitable.
            UnencodableValueError: It cannot be stored; names the field.
        """
        check_value(value, key, "value")
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
            raise UnencodableValueError(
                f"key {key!r}: this {self.name} cannot be stored: {said}", key=key
            ) from None
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


_NO_TYPE: Final = "typed({!r}): a dataclass, a msgspec.Struct or a pydantic model is needed"
_Pair = tuple[Callable[[Any], Any], Callable[[Any], Any]]


def _msgspec(type: Any) -> _Pair:
    try:
        known = not isinstance(msgspec.inspect.type_info(type), msgspec.inspect.CustomType)
    except TypeError:
        known = False
    if not known or type is None:
        raise TypeError(_NO_TYPE.format(type))
    load = functools.partial(msgspec.convert, type=type, str_keys=True)
    return (
        (lambda value: _complete(load(value))) if is_dataclass(type) else load,
        functools.partial(msgspec.to_builtins, str_keys=True),
    )


def _complete(value: Any) -> Any:
    """
    Give fresh instances of dataclasses the defaults that msgspec leaves on the class, so that they are stored too.
    """
    parts: Iterable[Any] = ()
    if is_dataclass(value) and hasattr(value, "__dict__"):
        own = vars(cast("object", value))
        for field in fields(value):
            if field.name not in own and hasattr(value, field.name):
                own[field.name] = getattr(value, field.name)
        parts = own.values()
    elif isinstance(value, list | tuple):
        parts = cast("Iterable[Any]", value)
    elif isinstance(value, dict):
        parts = cast("Any", value).values()
    for part in parts:
        _complete(part)
    return cast("Any", value)


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
        first: dict[str, Any] = cast("Any", error).errors(
            include_url=False, include_input=False, include_context=False
        )[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"field {where!r}: {first['msg']}" if where else str(first["msg"])
    return None


def codec_of(type: Any) -> Codec[Any]:
    """
    The codec of a class, made once.

    Raises:
        TypeError: It is no class that anything converts to.
    """
    if not isinstance(type, Hashable):
        raise TypeError(_NO_TYPE.format(type))
    return _made(type)


_made: Final = functools.lru_cache(maxsize=256)(Codec[Any])
