"""
The waiting for a late sidecar, without the waiting.
"""

from __future__ import annotations

import time
from typing import Any, Final

from toolkit.core.model import Reply
from toolkit.dapr.address import Address
from toolkit.dapr.channel import component_of
from toolkit.errors import SidecarUnavailableError, StoreError, UnknownStoreError
from toolkit.ports import Component

# A component that is still being initialised shows up in the metadata a moment after the API answers.
_SETTLING: Final = 1.0


class Startup:
    """
    What to think of each answer to a metadata call.
    """

    def __init__(self, store: str, address: Address, timeout: float) -> None:
        self.store, self.address, self.timeout = store, address, timeout
        self.started = time.monotonic()
        self.answered: float | None = None
        self.last = "no answer yet"

    @property
    def over(self) -> bool:
        return time.monotonic() - self.started >= self.timeout

    def judge(self, answer: Any) -> Component | None:
        """
        The component, or ``None`` to ask again.

        Raises:
            SidecarUnavailableError: The time is up; says the last reason.
            UnknownStoreError: The sidecar is up and has no such store.
            StoreError: The sidecar refuses the token.
        """
        if isinstance(answer, Reply):
            return self._failed(answer)
        component, names = component_of(self.store, answer)
        if component is not None:
            return component
        self.answered = self.answered or time.monotonic()
        if time.monotonic() - self.answered < min(_SETTLING, self.timeout):
            return None
        loaded = ", ".join(names) if names else "none"
        raise UnknownStoreError(
            f"the sidecar at {self.address} has no state store {self.store!r}; loaded for this app: {loaded}. "
            f"A component with `scopes` for other app ids is not among them; check its name, its scopes and --app-id",
            available=names,
        )

    def _failed(self, answer: Reply) -> Component | None:
        if answer.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            raise StoreError(
                f"the sidecar at {self.address} refuses the Dapr API token ({answer.code}): check api_token="
            )
        if answer.code in ("UNIMPLEMENTED", "NOT_FOUND"):
            return Component(self.store, "", "")
        self.last = f"{answer.code}: {answer.text[:160]}"
        if self.over:
            raise SidecarUnavailableError(
                f"no Dapr sidecar answered at {self.address} within {self.timeout:g} s ({self.last}); "
                f"start it (`occ run -- CMD`, `dapr run`), or set DAPR_GRPC_ENDPOINT or address="
            )
        return None
