"""Printers marked as shared are announced to the network (DNS-SD), and only those.

In: what the journal tells of printers, the ports that were bound, the machine's addresses. Out:
services on the link that follow all three; a name that somebody else has makes room for another.
What goes wrong here is tried again and told in `told`: printing never depends on it. Nothing is
opened, and no library loaded, before the first printer is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog
import trio

from spoold.codec import dnssd
from spoold.codec.dnssd import Service
from spoold.codec.ipp_capabilities import capabilities
from spoold.model.printer import Printer
from spoold.spool.store import Event, PrinterChanged

if TYPE_CHECKING:
    from spoold.net.dnssd import Announcement, Interface, Responder

log = structlog.get_logger("spoold.daemon")

ADDRESSES_INTERVAL_S = 15.0  # how soon a machine that got another address is noticed
RETRY_FIRST_S, RETRY_MAX_S = 5.0, 300.0
NAMES_TRIED = 12
ANNOUNCED_MAX = 500  # a link that is told of more is busy with nothing else
FORGOTTEN_S = 1.5  # after a goodbye a name stays in caches for a second (RFC 6762 10.1)
AT_ONCE = 8
HANGS_S = 60.0
CLOSE_S = 3.0


class Settings(Protocol):
    """See the configuration."""

    @property
    def enabled(self) -> bool: ...
    @property
    def interfaces(self) -> tuple[str, ...]: ...


class Journal(Protocol):
    def listen(self, callback: Callable[[list[Event]], None]) -> None: ...
    def unlisten(self, callback: Callable[[list[Event]], None]) -> None: ...


class Reader(Protocol):
    async def printers(self) -> list[Printer]: ...


class Told(NamedTuple):
    """How a shared printer is announced: the name of its services, or why there are none; both
    are empty while that is being found out.
    """

    name: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where this node listens for IPP, as (host, port): in the clear, and over TLS."""

    clear: tuple[tuple[str, int], ...] = ()
    tls: tuple[tuple[str, int], ...] = ()


class Reach(NamedTuple):
    """Where clients on the link find this node: addresses, and the two ports (0: not there)."""

    addresses: tuple[str, ...] = ()
    clear: int = 0
    tls: int = 0


def reach_of(ports: Ports, addresses: Iterable[str]) -> Reach:
    """What of the machine's `addresses` is listened on. One name has one set of addresses: where
    the two ports differ in theirs, those that have both count, or else those that have TLS.
    """
    own = [ip_address(one) for one in addresses]

    def bound(which: Sequence[tuple[str, int]]) -> tuple[int, list[str]]:
        port = which[0][1] if which else 0
        hosts = {ip_address(host) for host, at in which if at == port}
        everywhere = {one.version for one in hosts if one.is_unspecified}
        reached = [str(one) for one in own if one in hosts or one.version in everywhere]
        return (port, reached) if reached else (0, [])

    clear, in_clear = bound(ports.clear)
    tls, over_tls = bound(ports.tls)
    if not clear or not tls:
        return Reach(tuple(in_clear or over_tls), clear, tls)
    both = tuple(one for one in over_tls if one in in_clear)
    return Reach(both, clear, tls) if both else Reach(tuple(over_tls), 0, tls)


def services_of(printer: Printer, name: str, host: str, reach: Reach) -> list[Service]:
    """What is announced of a printer under `name`."""
    plain = capabilities(printer.options, printer.accepted_formats)
    web = f"https://{host}:{reach.tls}" if reach.tls else f"http://{host}:{reach.clear}"
    txt = dnssd.txt_record(printer, plain, web=web, is_tls=bool(reach.tls))
    kinds = dnssd.subtypes(plain)
    ports = ((dnssd.IPP, reach.clear), (dnssd.IPPS, reach.tls))
    return [
        Service(kind, name, host, port, reach.addresses, txt, kinds) for kind, port in ports if port
    ]


@dataclass(slots=True)
class _Announced:
    """A printer that is announced, or about to be; `names` says how many were tried."""

    first_name: str
    names: int = 0
    name: str = ""
    announcement: Announcement | None = None
    trouble: str = ""


class Announcer:
    """Keeps the announcements of a node up, from `run` until `stop_nowait`."""

    def __init__(
        self,
        journal: Journal,
        reader: Reader,
        ports: Ports,
        node_name: str,
        host: str,
        settings: Callable[[], Settings],
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._ports = ports
        self._node_name = node_name
        self._host = host
        self._settings = settings
        self._shared: dict[int, Printer] = {}
        self._announced: dict[int, _Announced] = {}
        self._released: dict[str, float] = {}
        self._conflicts: set[str] = set()
        self._responder: Responder | None = None
        self._where: tuple[Interface, ...] = ()
        self._reach = Reach()
        self._trouble = ""
        self._failures = 0
        self._bell = trio.Event()
        self._scope = trio.CancelScope()
        self._threads = trio.CapacityLimiter(AT_ONCE)

    def told(self, printer_id: int) -> Told:
        """How the printer is announced now; empty for one that is not shared."""
        if printer_id not in self._shared:
            return Told()
        if not self._settings().enabled:
            return Told(trouble="dnssd.enabled is off in the configuration")
        one = self._announced.get(printer_id)
        if one is not None and one.announcement is not None:
            return Told(one.name)
        return Told(trouble=self._trouble or (one.trouble if one else ""))

    def stop_nowait(self) -> None:
        """Say goodbye; `run` returns."""
        self._scope.cancel()

    def wake(self) -> None:
        """The configuration has changed."""
        self._bell.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._journal.listen(self._hear)
        try:
            for printer in await self._reader.printers():
                self._learn(printer.id, printer)
            task_status.started()
            with self._scope:
                while True:
                    pause_s = await self._adjust()
                    with trio.move_on_after(pause_s):
                        await self._bell.wait()
                    self._bell = trio.Event()
        finally:
            self._journal.unlisten(self._hear)
            with trio.move_on_after(CLOSE_S, shield=True):
                await self._close()

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is PrinterChanged:
                self._learn(event.printer_id, event.printer)

    def _learn(self, printer_id: int, printer: Printer | None) -> None:
        if printer is not None and printer.shared:
            self._shared[printer_id] = printer
        elif self._shared.pop(printer_id, None) is None:
            return
        self._bell.set()

    # -- what is to be, and what is ------------------------------------------------------------

    async def _adjust(self) -> float:
        """Make what is announced what it should be; returns how long that holds, in seconds."""
        if not self._shared or not self._settings().enabled:
            await self._close()
            self._trouble = ""
            return float("inf")
        from spoold.net.dnssd import Unusable

        failed = ""
        try:
            await self._open()
            if self._responder is not None:
                await self._bring_up_to_date(self._responder)
        except* Unusable as group:
            failed = str(next(iter(group.exceptions)))
        if not failed:
            self._failures = 0
            return ADDRESSES_INTERVAL_S
        self._trouble = failed
        self._failures += 1
        log.warning("announcing_failed", reason=failed, failures=self._failures)
        await self._close()
        return min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(self._failures - 1, 10))

    async def _open(self) -> None:
        """A responder on the interfaces that the machine has now.

        Raises:
            Unusable: multicast DNS cannot be used.
        """
        from spoold.net import dnssd as multicast

        where = await self._in_thread(multicast.interfaces, self._settings().interfaces)
        reach = reach_of(self._ports, (text for one in where for text in one.addresses))
        if self._responder is not None and (where, reach) == (self._where, self._reach):
            return
        await self._close()
        self._where, self._reach = where, reach
        if not reach.addresses:
            self._trouble = (
                "no address on the network is listened on: see [listen], and [dnssd] interfaces"
            )
            return
        token = trio.lowlevel.current_trio_token()

        def tell(name: str) -> None:
            token.run_sync_soon(self._note_conflict, name, idempotent=True)

        self._responder = await self._in_thread(multicast.Responder, where, tell)
        self._trouble = ""

    async def _bring_up_to_date(self, responder: Responder) -> None:
        conflicts, self._conflicts = self._conflicts, set()
        names = sorted(self._shared, key=lambda id_: self._shared[id_].name)
        wanted = set(names[:ANNOUNCED_MAX])
        async with trio.open_nursery() as nursery:
            for id_ in [id_ for id_ in self._announced if id_ not in wanted]:
                nursery.start_soon(self._withdraw, responder, self._announced.pop(id_))
            for id_ in wanted:
                nursery.start_soon(self._keep, responder, id_, self._shared[id_], conflicts)

    async def _keep(
        self, responder: Responder, id_: int, printer: Printer, conflicts: set[str]
    ) -> None:
        """Have the printer announced as it is now."""
        from spoold.net.dnssd import Announcement

        first = dnssd.service_name(printer)
        one = self._announced.get(id_)
        if one is None:
            one = self._announced[id_] = _Announced(first)
        elif one.first_name != first:
            await self._withdraw(responder, one)
            one = self._announced[id_] = _Announced(first)
        if one.name in conflicts:
            log.warning("service_name_taken", printer=printer.name, name=one.name)
            await self._withdraw(responder, one, goodbye=False)
        if one.announcement is None:
            await self._publish(responder, printer, one)
            return
        services = services_of(printer, one.name, self._host, self._reach)
        before = one.announcement.services
        if tuple(services) == before:
            return
        if [replace(new, txt={}) for new in services] == [replace(old, txt={}) for old in before]:
            one.announcement = Announcement(services)
            await self._in_thread(responder.update, one.announcement)
        else:
            await self._withdraw(responder, one)
            one.names = 0
            await self._publish(responder, printer, one)

    async def _publish(self, responder: Responder, printer: Printer, one: _Announced) -> None:
        """Announce under the first name that nobody has; on failure `trouble` says so."""
        from spoold.net.dnssd import Announcement, NameTaken

        candidates = islice(dnssd.service_names(printer, self._node_name), one.names, NAMES_TRIED)
        for name in candidates:
            one.names += 1
            if any(name.lower() == other.name.lower() for other in self._announced.values()):
                continue
            one.name = name
            await trio.sleep_until(self._released.pop(name.lower(), 0.0))
            announcement = Announcement(services_of(printer, name, self._host, self._reach))
            try:
                await self._in_thread(responder.publish, announcement)
            except NameTaken:
                log.warning("service_name_taken", printer=printer.name, name=name)
                continue
            one.announcement, one.trouble = announcement, ""
            log.info("printer_announced", printer=printer.name, name=name)
            return
        one.name, one.names = "", 0
        one.trouble = "every name that was tried is taken; give it another --info"

    async def _withdraw(
        self, responder: Responder, one: _Announced, *, goodbye: bool = True
    ) -> None:
        announcement, one.announcement = one.announcement, None
        name, one.name = one.name, ""
        if announcement is not None:
            await self._in_thread(lambda: responder.withdraw(announcement, goodbye=goodbye))
            self._released[name.lower()] = trio.current_time() + FORGOTTEN_S
            log.info("printer_withdrawn", name=name)

    def _note_conflict(self, name: str) -> None:
        self._conflicts.add(name)
        self._bell.set()

    async def _close(self) -> None:
        responder, self._responder = self._responder, None
        self._announced.clear()
        if responder is not None:
            from spoold.net.dnssd import Unusable

            try:
                await self._in_thread(responder.close)
            except Unusable as error:
                log.warning("announcing_failed", reason=str(error))

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run what blocks. Whoever is told to stop does not wait for the network's seconds.

        Raises:
            Unusable: it failed, or hangs.
        """
        from spoold.net.dnssd import Unusable

        with trio.move_on_after(HANGS_S):
            return await trio.to_thread.run_sync(
                work, *args, abandon_on_cancel=True, limiter=self._threads
            )
        raise Unusable("multicast DNS hangs")
