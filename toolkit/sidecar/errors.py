"""
What can go wrong while a sidecar is found, built, started or run.

These are errors of the development tools, not of state: none of them is a ``StateError``. Each message says what
happened and what to do, so that a command can print it as it is.
"""

from __future__ import annotations

from pathlib import Path


class SidecarError(Exception):
    """
    The root of the errors of this package.
    """


class SidecarNotFoundError(SidecarError):
    """
    No usable daprd, placement or scheduler binary is on this machine.
    """


class SidecarVersionError(SidecarError):
    """
    The binary that was asked for is outside the supported range.
    """


class SidecarBuildError(SidecarError):
    """
    The sidecar could not be built from its sources.
    """


class ServerUnavailable(SidecarError):  # noqa: N818 - a fact about the machine, shown as a skip reason
    """
    A server that a test or a component needs is not installed here; the message names the package.
    """


class ProcessStartError(SidecarError):
    """
    A started process ended, or did not become ready in time; the message ends with the tail of its log.

    Attributes:
        log_path: The whole log.
        log_tail: Its last lines.
    """

    def __init__(self, message: str, *, log_path: Path, log_tail: str) -> None:
        shown = (
            f"{message}\n--- last lines of its log ({log_path.name}) ---\n{log_tail}" if log_tail else message
        )
        super().__init__(shown)
        self.log_path, self.log_tail = log_path, log_tail


class ComponentFileError(SidecarError):
    """
    A component file cannot be read, does not parse, or is not a Dapr resource.

    Attributes:
        path: The file.
        line: The line counted from 1, or 0 when the whole file is meant.
    """

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path}:{line}: {reason}" if line else f"{path}: {reason}")
        self.path, self.line, self.reason = path, line, reason
