"""Who comes in: a principal from what the transport vouches for, and nothing else.

In: a connected stream, or a token that came over TLS. Out: a `Principal`, or an `OperationError`.
Whoever is revoked is refused from the commit on, and what was opened with that credential ends.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import structlog
from cryptography import x509

from spoold.daemon.authority import described
from spoold.daemon.identity import NodeIdentity, PeerIdentity, identify
from spoold.daemon.operations.context import Services
from spoold.model.errors import IdentityError, OperationError
from spoold.model.node import LineState, NodeState
from spoold.model.principal import Port, Principal, Role
from spoold.net import listen
from spoold.net.stream import Stream
from spoold.net.tcp import SocketStream
from spoold.net.tls import TlsStream
from spoold.spool import nodes
from spoold.spool.store import Event, MfdChanged, NodeChanged, ProviderRevoked, UserChanged

log = structlog.get_logger("spoold.daemon")

GRACE_US = 30 * 86_400_000_000  # for certificates that end while nobody can renew them


class Revocation(Protocol):
    def __call__(self, serials: tuple[str, ...], identity: str) -> None:
        """No handshake with one of these, and no connection of `identity` by certificate."""
        ...


class Principals:
    """`start` before anybody comes in. `group` is that of the local administrators. `on_refused`
    hears an event, from where, and what certificate was shown.
    """

    def __init__(
        self,
        services: Services,
        identity: NodeIdentity,
        group: int | None,
        on_revoked: Revocation,
        on_refused: Callable[[str, str, str], None],
    ) -> None:
        self._services = services
        self._identity = identity
        self._group = group
        self._on_revoked = on_revoked
        self._on_refused = on_refused
        self._user_changes = 0
        self._by_token: dict[Stream, str] = {}  # connections that a token opened: whose it is
        self.revoked: set[str] = set()

    async def start(self) -> None:
        """Learn what is revoked, and follow revocations from now on."""
        self.revoked.update(await self._services.reader.revoked_serials())
        self._services.journal.listen(self._follow)

    def _follow(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is ProviderRevoked:
                self._refuse(event.serials, f"provider:{event.guid}")
            elif type(event) is UserChanged:
                self._user_changes += 1
                if event.ends_connections:
                    self._refuse(event.serials, f"user:{event.guid}")
            elif type(event) is MfdChanged:
                if event.mfd.revoked:
                    self._refuse(event.serials, event.mfd.identity)
                if event.ends_tokens:
                    self._cut(event.mfd.identity)
            elif type(event) is NodeChanged and event.serials:
                self._refuse(event.serials, event.node.identity)

    def _refuse(self, serials: tuple[str, ...], identity: str) -> None:
        self.revoked.update(serials)
        self._on_revoked(serials, identity)

    def _cut(self, identity: str) -> None:
        for stream in [one for one, whose in self._by_token.items() if whose == identity]:
            stream.abort()

    # -- by the transport --------------------------------------------------------------------

    async def anybody(self, stream: Stream) -> Principal:
        """Without credentials: an address."""
        port = Port.TLS if isinstance(stream, TlsStream) else Port.CLEAR
        return _at(host_of(stream.peer), port)

    async def joiner(self, stream: Stream) -> Principal:
        """A node that shows no certificate, and may ask for one."""
        host = host_of(stream.peer)
        return Principal(f"address:{host}", Port.JOIN, frozenset({Role.JOINER}), address=host)

    async def certified(self, stream: Stream) -> Principal:
        """By a certificate of the deployment CA that is enrolled and not revoked."""
        assert isinstance(stream, TlsStream)
        der = stream.peer_certificate_der()
        try:
            peer = identify(der, self._trusted()) if der is not None else None
        except IdentityError as error:
            log.warning("certificate_unknown", client=stream.peer, reason=str(error))
            peer = None
        host = host_of(stream.peer)
        principal = None
        if peer is not None and not self._is_in_time(peer):
            log.warning("certificate_expired", client=stream.peer, serial=peer.serial)
            peer = None
        if peer is not None and peer.kind == "provider":
            principal = await self._provider(peer, host)
        elif peer is not None and peer.kind == "user":
            principal = await self._user(peer, host)
        elif peer is not None and peer.kind == "device":
            principal = self._device(peer, host)
        elif peer is not None and peer.kind == "node":
            principal = await self._node(peer, host)
        if principal is not None:
            return principal
        shown = "" if der is None else described(der)
        self._on_refused("certificate_refused", stream.peer, shown)
        advice = "See `spoold provider enrol`, `spoold user enrol` and `spoold device enrol`."
        if peer is not None and peer.kind == "node":
            advice = "A site that joined after the backup that was restored here joins again."
        raise OperationError("forbidden", "the certificate is of nobody enrolled here.", advice)

    def _is_in_time(self, peer: PeerIdentity) -> bool:
        """Where TLS has not looked: at a site, certificates end later while it is on its own."""
        line = self._services.line
        if line is None:
            return True
        grace_us = GRACE_US if line.state is LineState.GONE else 0
        return self._services.wall_clock() <= peer.not_after_us + grace_us

    def _trusted(self) -> Sequence[x509.Certificate]:
        """The CAs whose certificates count: at a site, those of its deployment as well."""
        membership = self._services.membership
        others = () if membership is None else membership.trusted()
        return (*self._identity.authority.trusted, *others)

    async def _provider(self, peer: PeerIdentity, host: str) -> Principal | None:
        for provider in await self._services.reader.providers():
            # Revoked since this was read is revoked, too: `cut` has not seen this connection.
            is_revoked = provider.revoked or not self.revoked.isdisjoint(provider.serials)
            is_revoked = is_revoked or peer.serial in self.revoked
            if provider.guid == peer.guid and not is_revoked:
                return Principal(
                    f"provider:{provider.guid}",
                    Port.MUTUAL,
                    frozenset({Role.PROVIDER}),
                    provider.name,
                    provider.may_assert,
                    host,
                )
        return None

    async def _user(self, peer: PeerIdentity, host: str) -> Principal | None:
        """The user as of now: with a change since this was read it is read again."""
        changes = -1
        while changes != self._user_changes:
            changes = self._user_changes
            user = await self._services.reader.user_by_guid(peer.guid)
        if user is None or user.disabled or peer.serial in self.revoked:
            return None
        return Principal(
            user.identity,
            Port.MUTUAL,
            user.free_roles,
            user.name,
            (),
            host,
            "certificate",
            user.scopes,
        )

    def _device(self, peer: PeerIdentity, host: str) -> Principal | None:
        mfd = self._services.mfds.by_guid(peer.guid)
        if mfd is None or peer.serial in self.revoked:
            return None
        roles = frozenset({Role.DEVICE})
        return Principal(mfd.identity, Port.MUTUAL, roles, mfd.name, (), host, "certificate")

    async def _node(self, peer: PeerIdentity, host: str) -> Principal | None:
        node = await self._services.reader.look(nodes.find, peer.guid)
        # Revoked since this was read is revoked, too: `cut` has not seen this connection.
        if node is None or node.state is not NodeState.APPROVED or peer.serial in self.revoked:
            return None
        roles = frozenset({Role.SITE})
        return Principal(node.identity, Port.MUTUAL, roles, node.name, (), host, "certificate")

    async def local(self, stream: Stream) -> Principal:
        """By the kernel's word: root, our own user, and the group spoold administer."""
        assert isinstance(stream, SocketStream)
        credentials = listen.peer_credentials(stream.socket)
        may = credentials.uid in (0, os.geteuid()) or (
            self._group is not None and self._group in credentials.groups
        )
        roles = frozenset({Role.ADMIN}) if may else frozenset[Role]()
        return Principal(
            f"uid:{credentials.uid}", Port.CONTROL, roles, _user_name(credentials.uid), ("*",) * may
        )

    # -- by a token --------------------------------------------------------------------------

    def by_token(self, token: str, principal: Principal) -> Principal:
        """The MFD that shows `token`, where `principal` was without credentials so far.

        Raises:
            OperationError: `unauthorized`; or `forbidden` at a door where no token counts.
        """
        if principal.port is not Port.TLS:
            raise OperationError(
                "forbidden",
                "a device token counts on the TLS port only.",
                "Revoke it if it came in the clear: others may have read it.",
            )
        mfd = self._services.mfds.by_token(token)
        if mfd is None:
            self._on_refused("token_refused", principal.address, "")
            raise OperationError(
                "unauthorized",
                "this token is of nobody enrolled here.",
                "See `spoold device list`.",
            )
        roles = frozenset({Role.DEVICE})  # nobody else: its name is no user's
        return Principal(
            mfd.identity, Port.TLS, roles, mfd.name, (), principal.address, "token"
        )  # fmt: skip

    def show(self, token: str, principal: Principal, stream: Stream) -> Principal:
        """As `by_token`, for a connection that ends when the token does; `leave` follows."""
        found = self.by_token(token, principal)
        self._by_token[stream] = found.identity
        return found

    def leave(self, stream: Stream) -> None:
        """This connection is over."""
        self._by_token.pop(stream, None)


@lru_cache(maxsize=4096)
def _at(host: str, port: Port) -> Principal:
    """Whoever is at this address: one for all its connections."""
    return Principal(f"address:{host}", port, address=host)


def host_of(peer: str) -> str:
    """The host of an address with its port."""
    return peer.rpartition(":")[0].strip("[]")


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
