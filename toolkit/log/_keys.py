"""
How a key appears in the log: as it is, hashed, or as its template; and the race a write took part in.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from toolkit.log._settings import LogSettings, from_environment

MAX_TEMPLATES: Final = 100
OTHER: Final = "_other"
# A plain log hides nothing, so its races need no secret; a fixed key keeps all processes in step.
_PUBLIC: Final = b"dapr-occ race"

_VARIABLE_PART: Final = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?<![A-Za-z0-9])(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}(?![A-Za-z0-9])"
    r"|[0-9]+"
)


def hasher(secret: bytes, person: bytes) -> Callable[[str], str]:
    """
    Make a keyed 64-bit hash that answers 16 hex digits; *person* keeps keys, races and operation ids apart.
    """
    base = hashlib.blake2b(digest_size=8, key=hashlib.blake2b(secret, digest_size=32).digest(), person=person)

    def hashed(text: str) -> str:
        one = base.copy()
        one.update(text.encode("utf-8", "surrogatepass"))
        return one.hexdigest()

    return hashed


def key_hasher(secret: bytes) -> Callable[[str], str]:
    """
    The hash of keys in ``OCC_LOG_KEYS=hash``; readers use it to look up a key they know.
    """
    return hasher(secret, b"occ-key")


def op_hasher(secret: bytes) -> Callable[[str], str]:
    """
    The hash of callers' operation ids in ``OCC_LOG_KEYS=hash``.
    """
    return hasher(secret, b"occ-op")


def compile_template(template: str) -> re.Pattern[str]:
    """
    Turn ``order-{id}`` into a pattern; a ``{name}`` matches one or more characters.
    """
    parts = re.split(r"\{[^{}]*\}", template)
    return re.compile(".+".join(re.escape(part) for part in parts), re.DOTALL)


class KeyNames:
    """
    Names keys as the settings ask; safe to call from several threads.
    """

    def __init__(self, settings: LogSettings) -> None:
        secret = settings.secret if settings.keys == "hash" else _PUBLIC
        self.mode = settings.keys
        self.hash_key = key_hasher(secret)
        self.hash_op = op_hasher(secret)
        self.race = hasher(secret, b"occ-race")
        self._declared: Sequence[tuple[str, re.Pattern[str]]] = [
            (template, compile_template(template)) for template in settings.templates
        ]
        self._known: set[str] = set()
        self.template = lru_cache(maxsize=4096)(self._template)

    def name(self, key: str) -> str:
        """
        The key as it is logged.
        """
        if self.mode == "plain":
            return key
        return self.hash_key(key) if self.mode == "hash" else self.template(key)

    def op(self, op_id: str) -> str:
        """
        The operation id as it is logged.
        """
        return op_id if self.mode == "plain" else self.hash_op(op_id)

    def _template(self, key: str) -> str:
        for template, pattern in self._declared:
            if pattern.fullmatch(key):
                return template
        if self.mode != "plain":
            # Only what the user declared is known to hold nothing personal.
            return OTHER
        guess = _VARIABLE_PART.sub("{id}", key[:200])
        if guess in self._known:
            return guess
        if len(self._known) >= MAX_TEMPLATES:
            return OTHER
        self._known.add(guess)
        return guess


def metric_label(templates: Sequence[str]) -> Callable[[str], str]:
    """
    Make the function from a key to the label it has in metrics and traces, which other people read than the log.

    A key is never its own label: one that is like no template and has no part that varies, such as a name, is ``_other``
    until it is declared. Where the log hides its keys (``OCC_LOG_KEYS``), only declared templates are labels.
    """
    try:
        settings = from_environment(overrides={"templates": tuple(templates)} if templates else None)
    except ValueError:
        # The log itself says what is wrong with the environment; here nothing is shown rather than too much.
        settings = LogSettings(keys="template", templates=tuple(templates))
    template, declared = KeyNames(settings).template, frozenset(settings.templates)

    def label(key: str) -> str:
        found = template(key)
        return OTHER if found == key and found not in declared else found

    return label
