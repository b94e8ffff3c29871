"""
Where the sidecar is and how to show who we are: addresses, TLS, API tokens.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

TokenSource: TypeAlias = str | Path | Callable[[], str]

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 50001
TOKEN_HEADER: Final = "dapr-api-token"  # noqa: S105  the name of a header


@dataclass(frozen=True, slots=True)
class Address:
    """
    A gRPC target and whether to speak TLS to it.
    """

    target: str
    tls: bool = False

    def __str__(self) -> str:
        return self.target


def address_of(text: str | None = None, environ: Mapping[str, str] = os.environ) -> Address:
    """
    The sidecar's address from an argument, or from what Dapr puts into the environment.

    Takes ``host``, ``host:port``, ``[::1]:port``, ``http://``, ``https://``, ``dns:``, ``unix:`` and ``?tls=true``;
    without an argument ``DAPR_GRPC_ENDPOINT``, then ``DAPR_RUNTIME_HOST`` with ``DAPR_GRPC_PORT``.

    Raises:
        ValueError: The text is no address.

    >>> address_of("https://dapr.example:443")
    Address(target='dapr.example:443', tls=True)
    """
    text = text or environ.get("DAPR_GRPC_ENDPOINT")
    if not text:
        host = environ.get("DAPR_RUNTIME_HOST") or DEFAULT_HOST
        return Address(_with_port(f"{_bracketed(host)}:{environ.get('DAPR_GRPC_PORT') or DEFAULT_PORT}", 0))
    bare, _, query = text.strip().partition("?")
    tls = parse_qs(query).get("tls", ["false"])[-1].lower() == "true"
    if bare.startswith(("unix:", "unix-abstract:", "vsock:")):
        return Address(bare, tls)
    if bare.startswith("dns:") or "://" not in bare:
        return Address(_with_port(bare, DEFAULT_PORT), tls)
    parts = urlsplit(bare)
    if parts.scheme not in ("http", "https", "grpc", "grpcs") or not parts.netloc:
        raise ValueError(
            f"{text!r} is not a sidecar address: use host:port, http(s)://host:port or unix:path"
        )
    secure = parts.scheme in ("https", "grpcs")
    return Address(_with_port(parts.netloc, 443 if secure else 80), tls or secure)


def _bracketed(host: str) -> str:
    """
    A host as a target names it; an IPv6 address is told from its port by brackets.
    """
    if host.count(":") < 2:
        return host
    import ipaddress  # for the few who write one

    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host


def _with_port(host: str, port: int) -> str:
    host = _bracketed(host)
    tail = host.rsplit("]", 1)[-1] if "]" in host else host.removeprefix("dns:").rsplit("/", 1)[-1]
    if ":" in tail:
        number = tail.rsplit(":", 1)[1]
        if not number.isdigit() or not 0 < int(number) < 65536:
            raise ValueError(f"{host!r} is not a sidecar address: {number!r} is no port")
        return host
    return f"{host}:{port}"


@dataclass(slots=True)
class Token:
    """
    The Dapr API token, from wherever it comes; shown nowhere.

    A path is read and a callable is called for every call, so that tokens can rotate; the environment is read for the
    first call alone.
    """

    source: TokenSource | None = field(default=None, repr=False)
    _header: tuple[tuple[str, str], ...] | None = field(default=None, init=False, repr=False, compare=False)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """
        The gRPC metadata that carries the token; empty without one.
        """
        if self._header is not None:
            return self._header
        token = self._read()
        header = ((TOKEN_HEADER, token),) if token else ()
        if self.source is None or isinstance(self.source, str):
            self._header = header
        return header

    def __post_init__(self) -> None:
        if isinstance(self.source, str):
            _clean(self.source)
        elif self.source is not None and not isinstance(self.source, Path) and not callable(self.source):
            raise TypeError(
                f"api_token=: a text, a pathlib.Path or a function that gives a text, not {type(self.source).__name__}"
            )

    @classmethod
    def of(cls, source: TokenSource | Token | None) -> Token:
        """
        A token as it was given; one that was wrapped before stays as it is.
        """
        return source if isinstance(source, Token) else cls(source)

    def _read(self) -> str:
        source = self.source if self.source is not None else os.environ.get("DAPR_API_TOKEN", "")
        if isinstance(source, Path):
            try:
                return _clean(source.read_text())
            except OSError as error:
                raise ValueError(
                    f"the Dapr API token file {source} cannot be read: {error.strerror}"
                ) from None
            except UnicodeDecodeError:
                raise ValueError(f"the Dapr API token file {source} is no text") from None
        if isinstance(source, str):
            return _clean(source)
        try:
            given = source()
        except Exception as error:  # noqa: BLE001  whatever it says may quote what it was after
            raise ValueError(
                f"the function that gives the Dapr API token failed with {type(error).__name__}"
            ) from None
        return _clean(given)

    def __str__(self) -> str:
        return "***" if self.source is not None else ""


def _clean(token: object) -> str:
    """
    A token as a header carries it, without the line's end that files and variables often have.

    gRPC would quote a token it cannot send.
    """
    if not isinstance(token, str):
        raise TypeError(f"the Dapr API token has to be a text, and came as {type(token).__name__}")
    bare = token.strip()
    if not (bare.isascii() and bare.isprintable()):
        raise ValueError(
            "the Dapr API token (not shown) has characters that no header can carry; check its source"
        )
    return bare
