"""
The conflict log: events of the toolkit as JSON lines, through structlog, or into your own hooks.

Quiet until somebody listens: ``log_to(path)`` or ``OCC_LOG`` writes a file, a structlog configuration of the
application is used as it is, a hook receives every event. ``docs/reference/log.md`` has the schema.
"""

from toolkit.log._capture import capture
from toolkit.log._context import bind
from toolkit.log._emitter import add_hook, emit, listening, log_to, remove_hook, validate_environment
from toolkit.log._keys import key_hasher, op_hasher
from toolkit.log._settings import LogSettings

__all__ = [
    "LogSettings",
    "add_hook",
    "bind",
    "capture",
    "emit",
    "key_hasher",
    "listening",
    "log_to",
    "op_hasher",
    "remove_hook",
    "validate_environment",
]
