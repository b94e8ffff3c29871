"""
What the conflict log is told: where to write, how to name keys, how much to keep.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

KeyMode: TypeAlias = Literal["plain", "hash", "template"]

KEY_MODES: Final[tuple[str, ...]] = get_args(KeyMode)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """
    How the conflict log names keys and how much of it is kept.

    Attributes:
        keys: ``plain`` logs keys and operation ids as they are, ``hash`` logs keyed hashes of both and no ETags,
            ``template`` logs only the template a key matches.
        secret: The secret of ``hash``; the same in all processes whose logs are read together. Never logged.
        templates: Key templates such as ``order-{id}``; first match wins.
        sample: The share of conflicts and commits kept, or ``auto`` (all below 200 lines a second, then less).
        summary_every: Seconds between two ``occ.summary`` lines; 0 writes none.
        warn_attempt: The lost attempt from which a conflict is a warning; 0 never.
        app: The Dapr app id; by default ``OCC_LOG_APP`` or ``APP_ID``.
        writer: Who writes, for "who lost to whom"; by default ``OCC_LOG_WRITER``, the app, or the instance.
    """

    keys: KeyMode = "plain"
    secret: bytes = field(default=b"", repr=False)
    templates: tuple[str, ...] = ()
    sample: float | Literal["auto"] = 1.0
    summary_every: float = 10.0
    warn_attempt: int = 3
    app: str = ""
    writer: str = ""

    def __post_init__(self) -> None:
        if self.keys not in KEY_MODES:
            raise ValueError(f"keys={self.keys!r} is none of {', '.join(KEY_MODES)} (OCC_LOG_KEYS)")
        if self.keys == "hash" and not self.secret:
            raise ValueError(
                "hashed keys need a secret that all processes share: set OCC_LOG_SECRET or pass secret=; "
                "without one the hashes could be undone by guessing keys"
            )
        if self.sample != "auto" and not 0.0 < self.sample <= 1.0:
            raise ValueError(
                f"sample={self.sample!r} is neither 'auto' nor above 0 and at most 1 (OCC_LOG_SAMPLE)"
            )
        if self.summary_every < 0:
            raise ValueError(f"summary_every={self.summary_every!r} is negative (OCC_LOG_SUMMARY)")


def parse_sample(text: str) -> float | Literal["auto"]:
    """
    Read ``auto`` or a number.
    """
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"OCC_LOG_SAMPLE={text!r} is neither 'auto' nor a number") from None


def _seconds(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name}={text!r} is not a number of seconds") from None


def from_environment(
    environ: Mapping[str, str] | None = None, *, overrides: Mapping[str, Any] | None = None
) -> LogSettings:
    """
    Read the ``OCC_LOG_*`` variables; *overrides* are arguments of a call and win.

    Raises:
        ValueError: A variable makes no sense; the message names it and the cure.
    """
    env = os.environ if environ is None else environ
    given = dict(overrides or {})
    found: dict[str, Any] = {
        "keys": env.get("OCC_LOG_KEYS", "") or "plain",
        "secret": env.get("OCC_LOG_SECRET", "").encode(),
        "templates": tuple(
            part.strip() for part in env.get("OCC_LOG_TEMPLATES", "").split(",") if part.strip()
        ),
        "app": env.get("OCC_LOG_APP", "") or env.get("APP_ID", ""),
        "writer": env.get("OCC_LOG_WRITER", ""),
    }
    if "sample" not in given:
        found["sample"] = parse_sample(env.get("OCC_LOG_SAMPLE", "") or "1")
    if "summary_every" not in given:
        found["summary_every"] = _seconds("OCC_LOG_SUMMARY", env.get("OCC_LOG_SUMMARY", "") or "10")
    return LogSettings(**(found | given))
