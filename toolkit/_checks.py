"""
Checks of arguments: what cannot be meant is refused before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final

from toolkit.core.model import CLEAR, KEEP, Absent, ETag, Marker
from toolkit.errors import InvalidKeyError

# Flags of code objects as ``inspect`` names them: GENERATOR, COROUTINE, ITERABLE_COROUTINE, ASYNC_GENERATOR.
_UNUSUAL: Final = 0x20 | 0x80 | 0x100 | 0x200


def check_key(key: str) -> None:
    """
    Refuse what Dapr refuses, before anything is sent.

    Raises:
        TypeError: The key is no text.
        InvalidKeyError: It is empty, contains ``||``, or half a surrogate pair, which no encoding has.
    """
    if not isinstance(key, str):
        raise TypeError(f"a key is text, not {type(key).__name__}: {key!r}")
    if not key:
        raise InvalidKeyError("the key is empty; name the value", key=key)
    if "||" in key:
        raise InvalidKeyError(
            f"key {key!r}: '||' separates the app id from the key in Dapr; use another separator", key=key
        )
    if not _encodable(key):
        raise InvalidKeyError(
            f"key {key!r}: half a surrogate pair cannot be sent; decode the bytes it came from as UTF-8",
            key=key,
        )


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_etag(etag: Any, call: str) -> ETag | Absent:
    """
    Refuse what would silently make a conditional call unconditional.
    """
    if isinstance(etag, ETag) or etag is Marker.ABSENT:
        checked: ETag | Absent = etag
        return checked
    raise TypeError(
        f"{call}: etag must be an ETag or ABSENT, as entry.etag is; got {etag!r}. Use ETag.parse for text"
    )


def check_ttl(ttl: Any) -> None:
    """
    Refuse what is neither KEEP, CLEAR nor a positive number of seconds.
    """
    if ttl is KEEP or ttl is CLEAR:
        return
    if isinstance(ttl, bool) or not isinstance(ttl, int | float):
        raise TypeError(f"ttl must be KEEP, CLEAR or a number of seconds, not {ttl!r}")
    if not 0 < ttl < 1e10:
        raise ValueError(f"ttl must be a positive number of seconds, not {ttl!r}")


def check_op_id(op_id: Any) -> str:
    """
    Refuse an operation id that names nothing.
    """
    if not isinstance(op_id, str) or not op_id:
        raise TypeError(f"op_id must be a non-empty text that names the intended effect, not {op_id!r}")
    if not _encodable(op_id):
        raise ValueError(f"op_id {op_id!r} has half a surrogate pair; an id is text that can be encoded")
    return op_id


def check_receipt(receipt: Any) -> str:
    """
    Refuse what is no text, such as the error itself.
    """
    if not isinstance(receipt, str):
        raise TypeError(f"a receipt is text, as error.receipt is, not {receipt!r}")
    return receipt


def check_change(change: Any) -> str:
    """
    Refuse what is not a plain function; answers with its name for the log.
    """
    plain = change.__func__ if type(change) is MethodType else change
    if type(plain) is FunctionType and not plain.__code__.co_flags & _UNUSUAL:
        return plain.__qualname__
    _check_unusual(change)
    return name_of(change)


def _check_unusual(change: Any) -> None:
    import inspect  # not needed for functions and methods, and slow to import

    if not callable(change):
        raise TypeError(f"change must be a function from the value to the new value, not {change!r}")
    call = getattr(change, "__call__", None)  # noqa: B004  looks at the method of callable objects
    if inspect.iscoroutinefunction(change) or inspect.iscoroutinefunction(call):
        raise TypeError("change is async: it must be a plain function without I/O, in both colours")
    if inspect.isgeneratorfunction(change) or inspect.isasyncgenfunction(change):
        raise TypeError("change is a generator: it must return the new value")


def name_of(fn: Callable[..., Any]) -> str:
    """
    A low-cardinality name for the log.
    """
    name = getattr(fn, "__qualname__", None) or getattr(getattr(fn, "func", None), "__qualname__", None)
    return name or type(fn).__qualname__
