"""
Servers for tests come up where they can, and say why where they cannot.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.sidecar.errors import ProcessStartError
from toolkit.testing.servers import RedisServer


class Moody(RedisServer):
    """
    A server whose data cannot be prepared some times.
    """

    @classmethod
    def find(cls) -> dict[str, str]:
        return {"redis-server": "true"}

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures, self.tries = failures, 0

    def _prepare(self) -> None:
        self.tries += 1
        assert list(self.data.iterdir()) == []
        (self.data / "half").touch()
        if self.tries <= self.failures:
            raise ProcessStartError("ended early", log_path=Path("log"), log_tail="")

    def _start_on_a_free_port(self) -> None:
        """No program has to run for this."""

    def kill(self) -> None:
        """Nor is there one to end."""


def test_data_that_could_not_be_prepared_are_prepared_anew() -> None:
    """An installer that ends early is tried again, in an empty directory."""
    with Moody(failures=2) as server:
        assert server.tries == 3


def test_an_installer_that_never_works_is_told() -> None:
    """It is not tried for ever, and nothing is left behind."""
    server = Moody(failures=99)
    with pytest.raises(ProcessStartError, match="ended early"):
        server.__enter__()
    assert server.tries == 3
    assert not server._directory.exists()
