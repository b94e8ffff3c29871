"""
Find, build, start and stop a real Dapr sidecar, for development and tests.
"""

from toolkit.sidecar.binaries import SUPPORTED, TESTED, Binaries, find
from toolkit.sidecar.control_plane import ControlPlane
from toolkit.sidecar.errors import (
    ComponentFileError,
    ProcessStartError,
    ServerUnavailable,
    SidecarBuildError,
    SidecarError,
    SidecarNotFoundError,
    SidecarVersionError,
)
from toolkit.sidecar.ports import free_ports
from toolkit.sidecar.resources import component, read_resources
from toolkit.sidecar.sidecar import Sidecar

__all__ = [
    "SUPPORTED",
    "TESTED",
    "Binaries",
    "ComponentFileError",
    "ControlPlane",
    "ProcessStartError",
    "ServerUnavailable",
    "Sidecar",
    "SidecarBuildError",
    "SidecarError",
    "SidecarNotFoundError",
    "SidecarVersionError",
    "component",
    "find",
    "free_ports",
    "read_resources",
]
