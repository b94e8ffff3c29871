"""
What both colours of a state store share: settings, checks, and the making of jobs.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from toolkit._checks import check_key
from toolkit._inside import forks, in_body, inside, running
from toolkit._rights import AccessRule, allowed, anywhere, check_access, right_name
from toolkit.codec import ValueCodec, check_codec
from toolkit.core.events import Event
from toolkit.core.jobs import Rules
from toolkit.core.model import Access
from toolkit.core.policy import RetryPolicy
from toolkit.core.recovery import mend
from toolkit.core.site import Site, Writers
from toolkit.core.steps import Steps
from toolkit.dapr.address import Token, TokenSource
from toolkit.errors import AccessDeniedError, InvalidKeyError, UnsafeStoreError
from toolkit.log import emit, listening, validate_environment
from toolkit.ports import Component
from toolkit.stores import Profile, find
from toolkit.stores.saved import choose

if TYPE_CHECKING:
    from toolkit.facade import BaseDapr

# Records of transactions and the guard of sweeps live beside the data; nobody but the protocol writes them.
RECORD_PREFIXES: Final = ("_occ-tx-", "_occ-op-", "_occ-sweep")

# What another store object of the same settings is made with, beside its place.
_SETTINGS: Final = (
    "access",
    "retry",
    "envelope",
    "codec",
    "op_window",
    "op_ttl",
    "lease",
    "clock_skew",
    "accept_unverified",
    "last_write",
)

# Keys remembered as fit to be written.
_VETTED: Final = 4096


class BaseStateStore:
    """
    Settings and checks; see ``StateStore``.
    """

    _WITH = "with StateStore(...)"

    def __init__(
        self,
        name: str,
        *,
        dapr: BaseDapr | None = None,
        address: str | None = None,
        api_token: TokenSource | Token | None = None,
        startup_timeout: float | None = None,
        access: AccessRule | None = None,
        retry: RetryPolicy | None = None,
        envelope: bool = False,
        codec: ValueCodec | None = None,
        op_window: float = 600,
        op_ttl: float = 604800,
        lease: float = 3.0,
        clock_skew: float = 5.0,
        profile: Profile | Path | str | None = None,
        accept_unverified: bool = False,
        last_write: bool = False,
        port: Any = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"StateStore({name!r}): the name of a Dapr state store component, as text")
        if profile is not None and not isinstance(profile, Profile | Path | str):
            raise TypeError(
                f"StateStore({name!r}, profile={profile!r}): a Profile, a file of one, or a short name"
            )
        self.name = name
        if dapr is not None:
            address = dapr._address if address is None else address  # noqa: SLF001  one package
            api_token = dapr._api_token if api_token is None else api_token  # noqa: SLF001  one package
            startup_timeout = dapr.startup_timeout if startup_timeout is None else startup_timeout
            access = dapr.access if access is None else access
        self.startup_timeout = 60.0 if startup_timeout is None else startup_timeout
        self.access: AccessRule = Access.ALL if access is None else check_access(access)
        self.retry = retry or RetryPolicy()
        self.envelope, self.op_window, self.op_ttl, self.lease = envelope, op_window, op_ttl, lease
        self.clock_skew, self.accept_unverified, self.last_write = clock_skew, accept_unverified, last_write
        self.codec = check_codec(codec)
        self._address, self._api_token = address, Token.of(api_token)
        self._profile_choice, self._port_choice = profile, port
        self._site: Site | None = None
        # While the store is being closed: what transactions under way still work with.
        self._leaving: Site | None = None
        self._forks = 0
        self._calls = itertools.count(1)
        self._call_prefix = ""
        # Keys that may be written, so that each is looked at once; the profile is known by then.
        self._vetted: set[str] = set()
        self._mended: set[tuple[str, str]] = set()
        self._protects = False

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<{type(self).__name__} {self.name!r} ({state})>"

    @property
    def is_open(self) -> bool:
        """
        Whether the store has been entered and not been closed since.
        """
        # A copy that a fork left behind is not open: the connection belongs to the parent.
        return self._site is not None and self._forks == forks.count

    @classmethod
    def like(cls, other: BaseStateStore, *, startup_timeout: float | None = None) -> Self:
        """
        A store object with the name, place, token, rights and settings of another of either colour; not open yet, with a
        connection of its own. ``startup_timeout``: seconds to wait for the sidecar, instead of the other's.

        >>> from toolkit import AsyncStateStore, RetryPolicy, StateStore
        >>> store = StateStore("orders", retry=RetryPolicy(deadline=2.0))
        >>> AsyncStateStore.like(store).retry.deadline
        2.0
        """
        return cls(
            other.name,
            address=other._address,
            api_token=other._api_token,
            startup_timeout=other.startup_timeout if startup_timeout is None else startup_timeout,
            profile=other._profile_choice,
            port=other._port_choice,
            **{name: getattr(other, name) for name in _SETTINGS},
        )

    # -- opening ---------------------------------------------------------------------------------------------------

    def _opened(self, component: Component) -> Site:
        validate_environment()
        profile = self._choose_profile(component)
        self._protects = profile.accepted and not self.last_write
        self._vetted.clear()
        self._forks = forks.count
        self._call_prefix = secrets.token_hex(4)
        rules = Rules(
            can_create=profile.safe_create,
            create_reasons=profile.reasons or ("Several creators could all win.",),
            has_ttl=profile.has_ttl,
            envelope=self.envelope,
            op_window=self.op_window,
        )
        return Site(
            store=self.name,
            profile=profile,
            rules=rules,
            policy=self.retry,
            writers=Writers(lambda: secrets.token_hex(8)),
            observed=listening,
            skew=self.clock_skew,
            op_ttl=self.op_ttl,
            lease=self.lease,
            # A port of the user's own stands for a store he vouches for.
            accept_unverified=self.accept_unverified or self._port_choice is not None,
            running=running,
        )

    def _choose_profile(self, component: Component) -> Profile:
        if self._profile_choice is not None:
            return choose(self._profile_choice)
        if not component.type:
            raise UnsafeStoreError(
                f"the sidecar does not tell what {self.name!r} is (its metadata API is off); "
                f"pass profile='redis' or the like",
                reasons=("The metadata API of the sidecar is switched off.",),
            )
        return find(component.type, component.version)

    def _warn_last_write(self) -> None:
        if self.last_write and listening():
            emit(
                Event(
                    "occ.warning",
                    {"store": self.name, "message": "opened with last_write: writes are unprotected"},
                )
            )

    # -- checks ----------------------------------------------------------------------------------------------------

    def _live(self) -> Site:
        """
        The open site, or a RuntimeError that says what is wrong with this call's place or time.
        """
        site = self._site
        if site is None or self._forks != forks.count or getattr(inside, "where", None) is not None:
            site = self._misplaced(site)
        return site

    def _misplaced(self, site: Site | None) -> Site:
        if site is None:
            raise RuntimeError(f"{self!r} is not open: use it inside `{self._WITH} as store:`")
        if self._forks != forks.count:
            raise RuntimeError(
                f"store {self.name!r} was opened before a fork: open it in the child process, which is better started "
                f"by spawn or forkserver (a fork while gRPC is at work leaves the child a broken one)"
            )
        where = getattr(inside, "where", None)
        if where is not None:
            raise RuntimeError(
                f"a call on store {self.name!r} inside a {where}: it may run more than once and must not do I/O; "
                f"read before the call, or use store.transact for several keys"
            )
        return site

    def _writing(self, call: str) -> None:
        """
        A write beside ``tx`` would be done once per run of the body, and not undone.
        """
        body = in_body.get()
        if body is not None:
            raise RuntimeError(
                f"{call} on store {self.name!r} inside the transaction body {body}: use tx, which is undone and re-run "
                f"with it; to nest a body, call it with tx"
            )

    def check_in_transaction(self, key: str, right: Access, call: str) -> None:
        """
        What every ``tx`` call checks first.
        """
        site = self._site or self._leaving
        # Asked many times in one body: whether this is the right loop and process was asked when it began.
        if site is None or self._forks != forks.count or getattr(inside, "where", None) is not None:
            site = self._misplaced(site)
        if type(key) is not str or key not in self._vetted:
            self._vet(key, site)
        if self.access is not Access.ALL:
            self._require(key, right, call)

    def _vet(self, key: str, site: Site) -> None:
        """
        Refuse a key that nobody may write.
        """
        self._check_key(key, site)
        if key.startswith(RECORD_PREFIXES):
            raise InvalidKeyError(
                f"key {key!r}: this name belongs to the toolkit's transaction records", key=key
            )
        if len(self._vetted) >= _VETTED:
            self._vetted.clear()
        self._vetted.add(str(key))

    def _check_key(self, key: str, site: Site) -> None:
        check_key(key)
        profile = site.profile
        if profile.max_key and len(key.encode()) > profile.max_key:
            raise InvalidKeyError(
                f"key {key[:40]!r}…: {len(key.encode())} bytes, this store takes {profile.max_key}", key=key
            )
        if profile.key_pattern and not re.fullmatch(profile.key_pattern, key):
            raise InvalidKeyError(
                f"key {key!r}: this store takes only keys like {profile.key_pattern}", key=key
            )

    def _allowed(self, key: str) -> Access:
        # Records are written on behalf of other keys: they are for every handle that may write at all.
        return anywhere(self.access) if key.startswith(RECORD_PREFIXES) else allowed(self.access, key)

    def _mending(self, key: str, tx: str, record: str) -> Callable[[float], Steps[None]] | None:
        """
        How to finish what a dead transaction left on a key; ``None`` when that is not this handle's business.
        """
        site = self._site
        if site is None or (tx, key) in self._mended or not self._may_write(key):
            return None
        if len(self._mended) >= _VETTED:
            self._mended.clear()
        self._mended.add((tx, key))
        return lambda mono: mend(site, key, tx, record, mono + self.retry.deadline, self._may_write)

    def _may_write(self, key: str) -> bool:
        return self.access is Access.ALL or Access.WRITE in self._allowed(key)

    def _require(self, key: str, right: Access, call: str) -> None:
        if self.access is Access.ALL or right in self._allowed(key):
            return
        if listening():
            emit(
                Event(
                    "occ.access_denied",
                    {"store": self.name, "key": key, "op": call, "access": right_name(right)},
                )
            )
        raise AccessDeniedError(
            f"key {key!r}: {call} needs {right_name(right)} on store {self.name!r}, which this handle was not given; "
            f"open it with access={' | '.join(f'Access.{part.name}' for part in right)} or more",
            key=key,
        )

    def _protected(self, site: Site, call: str, key: str = "") -> None:
        """
        Refuse a write the store cannot protect.
        """
        profile = site.profile
        what = f"key {key!r}: {call}" if key else call
        if self.last_write:
            raise UnsafeStoreError(
                f"{what} needs ETags, and store {self.name!r} was opened with last_write=True: "
                f"only get, set and delete, without protection",
                reasons=("Opened for last-write only.",),
            )
        if not profile.accepted:
            reasons = " ".join(profile.reasons)
            raise UnsafeStoreError(
                f"{what} on {profile.type} {profile.version} cannot be protected: {reasons} "
                f"Reading works; for unprotected writes open it with last_write=True",
                reasons=profile.reasons,
            )
