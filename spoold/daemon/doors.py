"""Which door is bound where, who may come in by it, and what is spoken behind it.

In: the configuration's addresses, sockets from systemd. Out: bound sockets with their rules, and a
handler for each protocol. Who somebody is comes from the transport alone; see `principals`.
"""

from __future__ import annotations

import grp
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold import __version__
from spoold.codec.raw import Protocol
from spoold.daemon import joining
from spoold.daemon.config import Config, EndsOn
from spoold.daemon.identity import NodeIdentity, read_chain
from spoold.daemon.ipp_node import open_ipp
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.table import Table
from spoold.daemon.principals import Principals
from spoold.intake import frames, frames_link, http, ipp_icon, lpd, raw
from spoold.intake.acceptance import Acceptance
from spoold.intake.ipp import Ipp
from spoold.intake.listener import Handler, Listener, Opening, Rules
from spoold.intake.raw import Ending
from spoold.model.errors import ConfigError, IdentityError
from spoold.model.principal import Port
from spoold.model.record import Kind
from spoold.net import listen
from spoold.net.address import Address
from spoold.net.tls import LiveContext, server_context
from spoold.spool.store import AddRecord
from spoold.web.mfd_api import MfdApi

log = structlog.get_logger("spoold.daemon")

GROUP = "spoold"  # its members may use the control socket
# Refused certificates are records; a flood of them is one record a second, and a log line each.
REFUSAL_RECORD_INTERVAL_S = 1.0
LPD = "lpd"
RENEW_INTERVAL_S = 6 * 3600.0  # between looks whether this node's own certificate is due
JOIN_S = 60.0  # how long somebody without a certificate may stay to ask for one


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening socket. `address` is (host, port), or None for the control socket."""

    label: str
    where: str
    sock: socket.socket
    rules: Rules
    address: tuple[str, int] | None


class Doors:
    """Everything between the sockets and the rooms. `control` is the path of the local socket."""

    def __init__(
        self,
        services: Services,
        identity: NodeIdentity,
        acceptance: Acceptance,
        table: Table,
        config: Callable[[], Config],
        nursery: trio.Nursery,
    ) -> None:
        self._services = services
        self._identity = identity
        self._acceptance = acceptance
        self._table = table
        for_mfds = [one for name, one in table.operations.items() if name.startswith("mfd.")]
        self.apis: tuple[http.Api, ...] = (MfdApi(table, for_mfds, __version__),)
        self._config = config
        self._nursery = nursery
        self._tls: LiveContext | None = None
        self._mutual: LiveContext | None = None
        self._joining: LiveContext | None = None
        self._recorded_at = float("-inf")
        self.listener: Listener | None = None
        self.ipp: Ipp | None = None
        self._ports: dict[Port, int] = {}
        runtime = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        self.control = Path(runtime or config().node.data_dir) / "control"
        self._group = _group_id(GROUP)
        self._principals = Principals(
            services, identity, self._group, self._refuse_from_now_on, self.note_refused
        )

    async def start(self) -> None:
        """Learn who may come in, and follow that from now on."""
        await self._principals.start()
        if self._services.membership is not None:
            self._services.membership.listeners.append(self._rebuild)
        self.ipp = await open_ipp(
            self._services, self._table, self._acceptance, self._config, self._ports
        )

    def _refuse_from_now_on(self, serials: tuple[str, ...], identity: str) -> None:
        """No handshake with one of these; whatever somebody opened with another ends, too."""
        if serials and self._mutual is not None:
            self._mutual.rebuild()
        if self.listener is not None:
            self.listener.cut(identity)

    # -- sockets -----------------------------------------------------------------------------

    def bind(self, handed: dict[str, list[socket.socket]]) -> list[Bound]:
        """Bind every address of the configuration, and the control socket.

        Raises:
            ConfigError: one cannot be bound; those before it are closed again.
        """
        bound: list[Bound] = []
        wanted = list(self._wanted())
        _refuse_unused(handed, {address.socket_name for _, address, _ in wanted} | {"control"})
        try:
            for label, address, rules in wanted:
                rules.proxy_from = self._config().listen.proxy_from
                for sock in _sockets(address, handed):
                    name = sock.getsockname()
                    where = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
                    bound.append(Bound(label, where, sock, rules, (name[0], name[1])))
                    if rules.only is None:
                        self._ports.setdefault(rules.port, name[1])
            sock, self.control = _control_socket(handed, self.control, self._group)
            rules = Rules(Port.CONTROL, self._principals.local, only=Protocol.FRAMES)
            bound.append(Bound("control", str(self.control), sock, rules, None))
        except BaseException:
            for one in bound:
                one.sock.close()
            raise
        return bound

    def _wanted(self) -> Iterator[tuple[str, Address, Rules]]:
        """Every address of the configuration, and what holds there."""
        found = self._config().listen
        anybody = self._principals.anybody
        printer, ending = found.raw_printer, _ending(found.ends_on)
        for address in found.clear:
            yield "clear", address, Rules(Port.CLEAR, anybody, None, printer, ending)
        if found.tls:
            own = self._config().tls
            files = [one for one in (own.certificate, own.key) if one is not None]
            self._tls = LiveContext(self._tls_context, files)
            secured = _current(self._tls)
            for address in found.tls:
                yield "tls", address, Rules(Port.TLS, anybody, secured, printer, ending)
        if found.mutual:
            self._mutual = LiveContext(self._mutual_context)
            secured, certified = _current(self._mutual), self._principals.certified
            by_name = {joining.JOIN_NAME: self._join_rules()}
            for address in found.mutual:
                rules = Rules(Port.MUTUAL, certified, secured, printer, ending, by_name=by_name)
                yield "mutual", address, rules
        for address in found.lpd:
            yield LPD, address, Rules(Port.CLEAR, anybody, only=LPD)
        for one in found.raw:
            ending = _ending(one.ends_on)
            rules = Rules(Port.CLEAR, anybody, None, one.printer, ending, Protocol.RAW)
            yield f"raw {one.printer}", one.address, rules

    def _join_rules(self) -> Rules:
        """Who has no certificate yet, or one that is too old, may ask for one, and that is all."""
        self._joining = LiveContext(self._join_context)
        joiner, secured = self._principals.joiner, _current(self._joining)
        return Rules(Port.JOIN, joiner, secured, only=Protocol.FRAMES)

    async def watch_certificates(self) -> None:
        """Renew this node's own in time, and take other files over when they change, for ever."""
        async with trio.open_nursery() as nursery:
            if self._tls is not None:
                nursery.start_soon(self._tls.run, _tell_reload)
            while True:
                await trio.sleep(RENEW_INTERVAL_S)
                try:
                    if self._identity.renew():
                        self._rebuild()
                        log.info("node_certificate_renewed")
                except IdentityError as error:
                    log.error("node_certificate_not_renewed", reason=str(error))

    def _tls_context(self) -> ssl.SSLContext:
        own = self._config().tls
        chain, key = self._chain()
        if own.certificate is not None and own.key is not None:
            chain, key = read_chain(own.certificate, own.key)
        return server_context(chain, key)

    def _chain(self) -> tuple[bytes, bytes]:
        """What this node serves with: as a site, what the CA of its deployment has signed."""
        membership = self._services.membership
        given = None if membership is None else membership.chain
        return given or (self._identity.chain_pem, self._identity.key_pem)

    def _mutual_context(self) -> ssl.SSLContext:
        """A site has no list of what the deployment's CA has revoked that OpenSSL would take, and
        goes on with certificates whose time is over while nobody can renew them: there `Principals`
        judges both, after the handshake.
        """
        authority, membership = self._identity.authority, self._services.membership
        others = b"" if membership is None else membership.ca_pem
        crl = None if others else authority.crl(self._principals.revoked)
        ca_pem = authority.ca_pem + b"\n" + others
        return server_context(
            *self._chain(), client_ca_pem=ca_pem, crl_pem=crl, checks_times=not others
        )

    def _join_context(self) -> ssl.SSLContext:
        return server_context(self._identity.chain_pem, self._identity.key_pem)

    def _rebuild(self) -> None:
        """Other certificates are in force from the next handshake on."""
        for context in (self._tls, self._mutual, self._joining):
            if context is not None:
                context.rebuild()

    # -- who is refused ----------------------------------------------------------------------

    def note_refused(self, event: str, peer: str, certificate: str = "") -> None:
        """A refusal at the door: a log line always, a record now and then. `certificate` is there
        where TLS has let it through: what is refused in the handshake nobody sees.
        """
        shown = {"certificate": certificate} if certificate else {}
        log.warning(event, client=peer, **shown)
        now = trio.current_time()
        if event == "certificate_refused" and now - self._recorded_at >= REFUSAL_RECORD_INTERVAL_S:
            self._recorded_at = now
            # What answers it has is not looked at: on a full disk the log line must do.
            self._nursery.start_soon(
                self._services.journal.commit_all,
                [
                    AddRecord(
                        Kind.CERTIFICATE_REFUSED,
                        {},
                        self._services.wall_clock(),
                        personal={"peer": peer} | shown,
                    )
                ],
            )

    # -- what is spoken ----------------------------------------------------------------------

    def handlers(self) -> dict[Protocol | str, Handler]:
        return {
            Protocol.RAW: self._raw,
            Protocol.FRAMES: self._frames,
            Protocol.HTTP: self._http,
            LPD: self._lpd,
        }

    def _raw(self, opening: Opening) -> Awaitable[None]:
        rules = opening.rules
        return raw.serve_raw(
            opening.stream,
            opening.head,
            opening.is_ended,
            rules.raw_printer,
            rules.ending,
            opening.principal,
            self._acceptance,
            self._config().limits,
            opening.watch,
        )

    def _frames(self, opening: Opening) -> Awaitable[None]:
        _let_handler_watch(opening)
        config = self._config()
        endpoints = self._services.endpoints.told_to(opening.principal.address)
        serving = frames.serve_frames(
            opening.stream,
            opening.head,
            opening.principal,
            self._acceptance,
            self._table,
            _node(self._services.node_guid, config.node.name, config.node.role, tuple(endpoints)),
            _settings(
                config.limits.header_deadline_s,
                config.limits.idle_deadline_s,
                config.drain.deadline_s,
            ),
            opening.watch,
            self._principals,
        )
        return _within(JOIN_S, serving) if opening.rules.port is Port.JOIN else serving

    def _http(self, opening: Opening) -> Awaitable[None]:
        _let_handler_watch(opening)
        config = self._config()
        tls = self._tls
        site = http.Site(
            self._answer,
            self.ipp,
            self._services.logins,
            None if tls is None else lambda: tls.current,
            ipp_icon.FILES,
            self._principals.by_token,
            self.apis,
        )
        return http.serve_http(
            opening.stream, opening.head, opening.principal, site, config.limits, opening.watch
        )

    def _answer(self, path: str) -> tuple[int, dict[str, Any]]:
        printer = None if self.ipp is None else self.ipp.about(path)
        if printer is not None:
            return 200, printer
        return 404, {"error": "not-found", "advice": "Print to /printers/NAME by IPP."}

    def _lpd(self, opening: Opening) -> Awaitable[None]:
        _let_handler_watch(opening)
        return lpd.serve_lpd(
            opening.stream,
            opening.principal,
            self._acceptance,
            self._config().limits,
            self._queue_state,
        )

    async def _queue_state(self, name: str, is_long: bool) -> bytes:
        """RFC 1179 5.3, 5.4: what waits on a queue; titles and names are personal."""
        known = await self._services.catalogue.look()
        printer = known.by_name.get(name)
        if printer is None:
            return b"unknown printer\n"
        counts = (await self._services.reader.counts()).get(printer.id, {})
        lines = [f"{name}: {sum(counts.values())} jobs"]
        if is_long:
            lines += [f"  {state}: {count}" for state, count in sorted(counts.items())]
        return "".join(line + "\n" for line in lines).encode()


def _current(context: LiveContext) -> Callable[[], ssl.SSLContext]:
    return lambda: context.current


@lru_cache(maxsize=64)
def _node(guid: UUID, name: str, role: str, endpoints: tuple[str, ...]) -> frames.Node:
    """What a welcome says of this node; one for all connections from the same network."""
    return frames.Node(str(guid), name, role, f"spoold/{__version__}", endpoints)


@lru_cache(maxsize=1)
def _settings(
    hello_deadline_s: float, upload_idle_deadline_s: float, drain_s: float
) -> frames_link.Settings:
    return frames_link.Settings(
        hello_deadline_s=hello_deadline_s,
        upload_idle_deadline_s=upload_idle_deadline_s,
        drain_s=drain_s,
    )


async def _within(seconds: float, serving: Awaitable[None]) -> None:
    with trio.move_on_after(seconds):
        await serving


def _let_handler_watch(opening: Opening) -> None:
    """The protocol has deadlines and a way to stop of its own: nobody else closes it."""
    opening.watch.deadline = float("inf")
    opening.watch.is_quiet = False


def _ending(ends_on: EndsOn) -> Ending:
    return Ending(ends_on.kind, ends_on.idle_s)


def _group_id(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _sockets(address: Address, handed: dict[str, list[socket.socket]]) -> list[socket.socket]:
    if not address.socket_name:
        return listen.bind(address)
    found = handed.get(address.socket_name)
    if not found:
        raise ConfigError(
            "listen on",
            str(address),
            "systemd handed over no such socket",
            "Give the .socket unit this FileDescriptorName=, or write an address instead.",
        )
    for sock in found:
        listen.prepare(sock)
    return found


def _refuse_unused(handed: dict[str, list[socket.socket]], used: set[str]) -> None:
    """Whoever connected to a socket that nobody listens on would wait for ever."""
    for name in handed.keys() - used:
        raise ConfigError(
            "listen on",
            f"systemd:{name}",
            "[listen] has no use for the socket that systemd hands over",
            f'Disable that .socket unit, or name it: clear = ["systemd:{name}"].',
        )


def _control_socket(
    handed: dict[str, list[socket.socket]], path: Path, group_id: int | None
) -> tuple[socket.socket, Path]:
    """The socket of local commands, and where it lies."""
    for sock in handed.get("control", []):
        listen.prepare(sock)
        return sock, Path(sock.getsockname())
    can_give = group_id is not None and (
        os.geteuid() == 0 or group_id in {os.getegid(), *os.getgroups()}
    )
    return listen.bind_unix(path, group_id=group_id if can_give else None), path


def _tell_reload(error: object) -> None:
    if error is None:
        log.info("certificate_reloaded")
    else:
        log.error("certificate_not_reloaded", reason=str(error))
