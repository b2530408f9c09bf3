"""Where a server is, and how to get there: clear, TLS, TLS with a client certificate, or local.

In: "host:port" or "unix:/path", and files in PEM. Out: connected streams.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spoold.model.errors import ConfigError
from spoold.net.address import Address, parse_address
from spoold.net.context import client_context

if TYPE_CHECKING:
    from spoold.net.stream import Stream

APPLICATION = "application"  # the role of a server that speaks for its deployment

Pem = str | os.PathLike[str]


class Network(Protocol):
    """What a provider needs of the world."""

    async def connect(self, host: str, port: int, *, timeout_s: float) -> Stream:
        """Raises OSError when there is no connection within `timeout_s`."""
        ...

    async def connect_tls(
        self, host: str, port: int, context: ssl.SSLContext, *, timeout_s: float
    ) -> Stream: ...


class Credentials(Protocol):
    """Whom a provider believes, and what it shows of itself."""

    def context(self) -> ssl.SSLContext:
        """Raises:
        IdentityError: a key or certificate cannot be used. OSError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tls:
    """Without `ca_file` the CAs of this machine are trusted. `certificate_file` (with the key in
    it, or in `key_file`) is shown to servers that ask for one.
    """

    ca_file: Pem | None = None
    certificate_file: Pem | None = None
    key_file: Pem | None = None

    def context(self) -> ssl.SSLContext:
        """Raises:
        IdentityError: a file cannot be used. OSError: it cannot be read.
        """
        return client_context(
            ca_pem=_read(self.ca_file),
            chain_pem=_read(self.certificate_file),
            key_pem=_read(self.key_file),
        )


def _read(file: Pem | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`str` of it is what was parsed."""

    text: str
    where: Address | Path

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The endpoint that `text` names.

        Raises:
            ConfigError: it names none.
        """
        kind, colon, path = text.partition(":")
        if colon and kind == "unix":
            return cls(text, Path(path))
        where = parse_address(text)
        if not where.port:
            advice = "Name the port that a server listens on, 9191 for example."
            raise ConfigError("read the address", repr(text), "nothing listens on port 0", advice)
        return cls(text, where)

    def __str__(self) -> str:
        return self.text

    async def connect(
        self, network: Network, context: ssl.SSLContext | None, timeout_s: float
    ) -> Stream:
        """A connected stream, over TLS when there is a context and this is no local socket.

        Raises:
            OSError: there is no connection, or one side refused the other.
        """
        where = self.where
        if isinstance(where, Path):
            from spoold.net.connect import connect_unix

            return await connect_unix(where, timeout_s=timeout_s)
        if context is None:
            return await network.connect(where.host, where.port, timeout_s=timeout_s)
        return await network.connect_tls(where.host, where.port, context, timeout_s=timeout_s)


class Roster:
    """The endpoints that a provider may use, `most` at most: those that it was given come first, in
    their order, and stay; then those that servers name, in theirs, as long as they are named.

    Application servers speak for the deployment: what they say last, holds. A site names itself,
    and that holds until an application server speaks again.
    """

    def __init__(self, given: Iterable[Endpoint], most: int) -> None:
        self._given = {one.text: one for one in given}
        self._named: dict[str, Endpoint] = {}
        self._by_site: dict[str, Endpoint] = {}
        self._deployment: frozenset[str] = frozenset()
        self._most = most

    def hear(self, name: str, role: object, endpoints: object) -> None:
        """The server at `name`, of this role (as in its welcome), names endpoints.

        One that is none is the server's mistake, and no reason to print less.
        """
        found: dict[str, Endpoint] = {}
        for text in endpoints if isinstance(endpoints, list) else ():
            if isinstance(text, str) and len(found) < self._most:
                with suppress(ConfigError):
                    found[text] = Endpoint.parse(text)
        if role == APPLICATION:
            self._named, self._by_site = found, {}
            self._deployment = frozenset((name, *found))
        else:
            self._by_site = found

    def kin_of(self, name: str) -> frozenset[str]:
        """Whom the application server that spoke last named together with `name`, or as its own."""
        return self._deployment if name in self._deployment else frozenset()

    def listed(self) -> list[Endpoint]:
        known = self._by_site | self._named | self._given
        names = dict.fromkeys((*self._given, *self._named, *self._by_site))
        return [known[name] for name in names][: max(self._most, len(self._given))]
