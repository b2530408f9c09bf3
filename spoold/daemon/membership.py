"""This site as a member of a deployment: its key and certificate there, as one file.

In: a token once, the network, the wall clock. Out: what the line shows when it dials (the `Papers`
of `site.line`), renewed in time. File: `identity/upstream.json` (0600), written whole and synced
or not at all; the key is in it before anybody hears of it, so that no join is lost half way.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from uuid import UUID

import structlog
import trio
from cryptography import x509

from spoold.daemon import authority as authorities
from spoold.daemon import joining
from spoold.daemon.identity import write_file
from spoold.daemon.joining import Network, Token
from spoold.model.errors import IdentityError, OperationError
from spoold.net.context import client_context
from spoold.net.stream import Stream
from spoold.net.tls import TlsStream
from spoold.provider.course import Lost

log = structlog.get_logger("spoold.site")

FILE = "upstream.json"
SERVERS_MAX = 16
ASK_INTERVAL_S = 5.0  # while it waits for an approval
LOOK_INTERVAL_S = 3600.0
RENEW_AGAIN_S = 60.0
NAMES_AGAIN_S = 3600.0  # how often names are asked for that others have
RENEWED_AT = 2 / 3  # of a certificate's life


@dataclass(frozen=True, slots=True)
class Member:
    """What the file holds. Without `certificate_pem` it waits for its approval."""

    key_pem: str
    name: str = ""
    certificate_pem: str = ""
    server_pem: str = ""
    ca_pem: str = ""
    servers: tuple[str, ...] = ()
    joined_us: int = 0


class Membership:
    """`offset_us` tells how far the upstream's clock is ahead: certificates live by that clock."""

    def __init__(
        self,
        data_dir: Path,
        guid: UUID,
        name: str,
        names: Sequence[str],
        servers: Sequence[str],
        network: Network,
        wall_clock: Callable[[], int],
        offset_us: Callable[[], int | None],
    ) -> None:
        """`names` are those under which this site wants to serve.

        Raises:
            IdentityError: the file is damaged, or cannot be read.
        """
        self._path = data_dir / "identity" / FILE
        self._guid = guid
        self._name = name
        self._names = tuple(names)
        self._configured = tuple(servers)
        self._network = network
        self._wall_clock = wall_clock
        self._offset_us = offset_us
        self._changed = trio.Event()
        self._asking = trio.Lock()
        self._names_due_s = float("-inf")
        self.listeners: list[Callable[[], None]] = []  # told when there are other certificates
        self.member = _read(self._path)

    # -- the papers of the line -------------------------------------------------------------------

    @property
    def is_joined(self) -> bool:
        return self.member is not None and bool(self.member.certificate_pem)

    @property
    def not_after_us(self) -> int | None:
        """Until when the certificate is good, by the upstream's clock."""
        if self.member is None or not self.member.certificate_pem:
            return None
        pem = self.member.certificate_pem.encode()
        return authorities.microseconds(x509.load_pem_x509_certificate(pem).not_valid_after_utc)

    async def wait_joined(self) -> None:
        """Return when there is a certificate; an open approval is asked for until then."""
        while not self.is_joined:
            if self.member is not None and self.member.servers:
                for server in self.servers():
                    if await self.renew(server):
                        return
            with trio.move_on_after(ASK_INTERVAL_S if self.member else float("inf")):
                await self._changed.wait()

    def servers(self) -> Sequence[str]:
        learned = self.member.servers if self.member is not None else ()
        return tuple(dict.fromkeys((*self._configured, *learned)))[:SERVERS_MAX]

    def learn(self, endpoints: Sequence[str]) -> None:
        """What an application server says of where application servers are."""
        member = self.member
        if member is None:
            return
        known = tuple(dict.fromkeys((*endpoints, *member.servers)))[:SERVERS_MAX]
        if known != member.servers:
            try:
                self._write(replace(member, servers=known))
            except IdentityError as error:  # on a full disk it learns that another time
                log.warning("servers_not_kept", reason=str(error))

    def context(self) -> ssl.SSLContext:
        """As itself, to servers of the deployment by their names.

        Times are not looked at: the CA is known by itself, and a clock that is wrong here must not
        end the line.
        """
        member = self.member
        assert member is not None
        return client_context(
            ca_pem=member.ca_pem.encode(),
            chain_pem=member.certificate_pem.encode(),
            key_pem=member.key_pem.encode(),
            checks_times=False,
        )

    def believe(self, stream: Stream) -> None:
        """Raises Lost: at the end of `stream` is no application server of the deployment."""
        assert isinstance(stream, TlsStream)
        assert self.member is not None
        joining.check_upstream(stream.peer_certificate_der(), self.member.ca_pem)

    # -- what this site serves with --------------------------------------------------------------

    @property
    def chain(self) -> tuple[bytes, bytes] | None:
        """Certificate and key (PEM) for its own ports, as the deployment's CA has signed them."""
        member = self.member
        if member is None or not member.server_pem:
            return None
        return member.server_pem.encode(), member.key_pem.encode()

    @property
    def ca_pem(self) -> bytes:
        """The CA certificates of the deployment; empty before it has joined."""
        return self.member.ca_pem.encode() if self.is_joined and self.member else b""

    def trusted(self) -> tuple[x509.Certificate, ...]:
        """The same, to judge clients by."""
        return tuple(x509.load_pem_x509_certificates(self.ca_pem)) if self.ca_pem else ()

    async def renew(self, server: str) -> bool:
        """Ask for a certificate by the known key; whether there is another one now."""
        member = self.member
        if member is None:
            return False
        before = member.certificate_pem
        try:
            await self._ask(server, None)
        except (Lost, OperationError, IdentityError) as error:
            log.warning("certificate_not_renewed", server=server, reason=str(error))
            return False
        return self.member is not None and self.member.certificate_pem not in ("", before)

    async def run(self) -> None:
        """Renew the certificates in time, for ever; and when they lack names, which were another
        node's so far, or stand in the configuration only now.
        """
        while True:
            await self.wait_joined()
            due_s = (self._due_us() - self._now_us()) / 1e6
            if self._names_lacking():
                due_s = min(due_s, self._names_due_s - trio.current_time())
            if due_s > 0:
                await trio.sleep(min(due_s, LOOK_INTERVAL_S))
                continue
            self._names_due_s = trio.current_time() + NAMES_AGAIN_S
            for server in self.servers():
                if await self.renew(server):
                    log.info("certificate_renewed", server=server)
                    break
            if names := self._names_lacking():
                log.warning("names_lacking", names=names, next_s=NAMES_AGAIN_S)
            await trio.sleep(RENEW_AGAIN_S)

    def _names_lacking(self) -> list[str]:
        """The names under which this site wants to serve, and is not believed by its clients."""
        if self.member is None or not self.member.server_pem:
            return []
        known = set(joining.names_in(self.member.server_pem))
        wanted = joining.host_names(map(authorities.general_name, self._names))
        return [one for one in wanted if one not in known]

    def _now_us(self) -> int:
        return self._wall_clock() + (self._offset_us() or 0)

    def _due_us(self) -> int:
        assert self.member is not None
        certificate = x509.load_pem_x509_certificate(self.member.certificate_pem.encode())
        start = authorities.microseconds(certificate.not_valid_before_utc)
        end = authorities.microseconds(certificate.not_valid_after_utc)
        return int(start + RENEWED_AT * (end - start))

    # -- joining -----------------------------------------------------------------------------------

    async def join(self, server: str, token: Token) -> Member:
        """Join the deployment of `server`; without a certificate in the answer it is not approved.

        Raises:
            Lost: the server is not there, or not to be believed. OperationError: it refused.
            IdentityError: the file cannot be written.
        """
        if self.is_joined:
            raise OperationError(
                "conflict",
                f"this site has joined already, as {self.member and self.member.name}.",
                "To join another deployment, or this one when it was restored to before that, "
                f"stop it and move {self._path} away.",
            )
        await self._ask(server, token)
        assert self.member is not None
        return self.member

    async def _ask(self, server: str, token: Token | None) -> None:
        """Ask for a certificate, and keep what was answered."""
        async with self._asking:
            member = self.member or Member(authorities.key_pem_of(joining.make_key()).decode())
            if token is None and not member.ca_pem:
                raise Lost("this site has not joined yet")
            if member is not self.member:
                self._write(member)
            [key] = authorities.private_keys(member.key_pem.encode())
            args: dict[str, str] = {"request": joining.make_request(self._guid, key, self._names)}
            fingerprint = None
            if token is not None:
                args["token"] = str(token)
                fingerprint = token.fingerprint
            refusal: OperationError | None = None
            ca_pem = "" if token is not None else member.ca_pem
            async with joining.open_door(
                self._network, server, self._name, fingerprint=fingerprint, ca_pem=ca_pem
            ) as (connection, found_pem):
                member = replace(member, ca_pem=found_pem)
                self._write(member)  # so that it can go on without the token
                try:
                    answer = await joining.ask(connection, args)
                except OperationError as error:
                    refusal = error
            if refusal is not None:
                raise refusal
            self._names_due_s = trio.current_time() + NAMES_AGAIN_S
            found = dict.fromkeys((server, *joining.servers_of(answer), *member.servers))
            self._write(
                replace(
                    member,
                    name=answer["name"],
                    certificate_pem=answer["certificate_pem"] or member.certificate_pem,
                    server_pem=answer["server_pem"] or member.server_pem,
                    ca_pem=answer["ca_pem"],
                    servers=tuple(found)[:SERVERS_MAX],
                    joined_us=member.joined_us or self._wall_clock(),
                )
            )

    def _write(self, member: Member) -> None:
        try:
            write_file(self._path, json.dumps(asdict(member), indent=1).encode())
        except OSError as error:
            raise IdentityError(
                "write", str(self._path), error.strerror or error, "The daemon's user must own it."
            ) from error
        before, self.member = self.member, member
        if before is None or (before.server_pem, before.ca_pem) != (
            member.server_pem,
            member.ca_pem,
        ):
            for listener in self.listeners:
                listener()
        self._changed.set()
        self._changed = trio.Event()


def _read(path: Path) -> Member | None:
    try:
        found = json.loads(path.read_text("utf-8"))
        member = Member(**{**found, "servers": tuple(found["servers"])})
        authorities.private_keys(member.key_pem.encode())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise IdentityError(
            "read", str(path), error.strerror or error, "The daemon's user must be able to."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise IdentityError(
            "read",
            str(path),
            f"it is damaged ({error})",
            "Restore it from a backup, or move it away and join again with a new token.",
        ) from error
    return member
