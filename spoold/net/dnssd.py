"""DNS-SD over multicast DNS (RFC 6762, 6763): announcing services, and finding those of others.

In: services, the interfaces to use. Out: announcements that are kept up until they are withdrawn;
what answers on the link. `zeroconf` does the work on an asyncio loop in a thread of its own; every
call here blocks, for seconds at times, and belongs into a thread. Import this module where it is
used first: the library takes a tenth of a second, and nobody pays it who shares nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import ifaddr
import zeroconf
from zeroconf import RecordUpdateListener, ServiceInfo, Zeroconf
from zeroconf._dns import DNSService
from zeroconf._services.registry import ServiceRegistry

from spoold.codec import dnssd
from spoold.codec.dnssd import Found, Service

LOCAL = "local."
CALL_S = 30.0  # no call of the library is waited for any longer
RESOLVE_MS = 2_000
FOUND_MAX = 2_000  # services that one search looks at; whoever announces more is no printer
_RESOLVERS = 16


class Unusable(Exception):
    """Multicast DNS cannot be used here now; the message says why."""


class NameTaken(Exception):
    """Somebody else on the link has a service of this name and kind."""


@dataclass(frozen=True, slots=True, order=True)
class Interface:
    name: str
    index: int
    addresses: tuple[str, ...]


def interfaces(names: Sequence[str] = ()) -> tuple[Interface, ...]:
    """The interfaces that have addresses, without the loopback one; or those named, any of them.

    Link-local addresses of IPv6 count only where there is no other: they mean one link each.

    Raises:
        Unusable: the machine does not say what it has.
    """
    try:
        adapters = ifaddr.get_adapters()
    except OSError as error:
        raise Unusable(f"no list of interfaces: {error.strerror or error}") from error
    found = []
    for adapter in adapters:
        addresses = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in adapter.ips]
        usable = sorted(one for one in addresses if names or not ip_address(one).is_loopback)
        routed = [one for one in usable if not _is_link_local_v6(one)]
        if usable and (not names or adapter.name in names):
            found.append(Interface(str(adapter.name), adapter.index or 0, tuple(routed or usable)))
    return tuple(sorted(found))


def _is_link_local_v6(text: str) -> bool:
    address = ip_address(text)
    return address.version == 6 and address.is_link_local


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Errors of the library are `Unusable`, but for a name that is taken.

    Raises:
        Unusable, NameTaken.
    """
    try:
        yield
    except zeroconf.NonUniqueNameException as error:
        raise NameTaken from error
    except (zeroconf.Error, OSError, RuntimeError, TimeoutError) as error:
        raise Unusable(str(error) or type(error).__name__) from error


class _Registry(ServiceRegistry):
    """Asked which kinds of service there are, it leaves subtypes out (RFC 6763 9)."""

    def async_get_types(self) -> list[str]:
        return [one for one in super().async_get_types() if "._sub." not in one]


class _Library(Zeroconf):
    """The library, with that registry from the beginning: its parts keep the first one."""

    @property
    def registry(self) -> _Registry:
        return self._registry

    @registry.setter
    def registry(self, _: object) -> None:
        self._registry = _Registry()


def _open(where: Sequence[Interface]) -> Zeroconf:
    """The library on these interfaces.

    Raises:
        Unusable: none of them does multicast, or the port is not to be had.
    """
    choice: list[str | int] = []
    for one in where:
        choice += [text for text in one.addresses if ip_address(text).version == 4]
        if any(ip_address(text).version == 6 for text in one.addresses):
            choice.append(one.index)
    if not choice:
        raise Unusable("there is no interface with an address")
    with _explained():
        return _Library(interfaces=choice)


# --- announcing -----------------------------------------------------------------------------------


class Announcement:
    """Services of one printer that are announced together, under one name."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.services = tuple(services)
        self.infos = [_info(one, "") for one in services]
        self.sub_infos = [_info(one, sub) for one in services for sub in one.subtypes]


def _info(service: Service, subtype: str) -> ServiceInfo:
    kind = f"{service.kind}.{LOCAL}"
    info = ServiceInfo(
        f"{subtype}._sub.{kind}" if subtype else kind,
        f"{service.name}.{kind}",
        service.port,
        properties=dict(service.txt),
        server=f"{service.host}.",
        parsed_addresses=list(service.addresses),
    )
    if subtype:
        # The library has no subtypes of its own: each is kept as a further service that has the
        # same name, and answers with it; so it needs another key.
        info.key = f"{subtype}._sub.{info.key}"
    return info


def _key(service: Service) -> str:
    return f"{service.name}.{service.kind}.{LOCAL}".lower()


class _Watch(RecordUpdateListener):
    """Listens for others that say they have one of our services."""

    def __init__(self, owned: dict[str, Service], on_conflict: Callable[[str], None]) -> None:
        self._owned = owned
        self._on_conflict = on_conflict

    def async_update_records(self, zc: object, now: float, records: list[Any]) -> None:
        for one in records:
            new = one.new
            if isinstance(new, DNSService) and new.ttl:
                service = self._owned.get(new.name.lower())
                if service is not None and new.server.lower() != f"{service.host}.".lower():
                    self._on_conflict(service.name)


class Responder:
    """Answers for services on the link, from its making to `close`.

    `on_conflict` is called with the name of a service that somebody else has, too, when that shows
    only later (RFC 6762 9); from a thread of the library.

    Raises:
        Unusable: multicast DNS cannot be used here now.
    """

    def __init__(self, where: Sequence[Interface], on_conflict: Callable[[str], None]) -> None:
        self._zeroconf = _open(where)
        self._owned: dict[str, Service] = {}
        self._zeroconf.add_listener(_Watch(self._owned, on_conflict), None)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        loop = self._zeroconf.loop
        assert loop is not None
        with _explained():
            asyncio.run_coroutine_threadsafe(work, loop).result(CALL_S)

    def publish(self, announcement: Announcement) -> None:
        """Ask whether the names are free, then announce; about two seconds.

        Raises:
            NameTaken: one of them is not; nothing is announced.
            Unusable.
        """
        self._call(self._publish(announcement))
        for one in announcement.services:
            self._owned[_key(one)] = one

    async def _publish(self, announcement: Announcement) -> None:
        register = self._zeroconf.async_register_service
        asked = [register(one) for one in announcement.infos]
        results = await asyncio.gather(*asked, return_exceptions=True)
        failed = [one for one in results if isinstance(one, BaseException)]
        if failed:
            ours = zip(announcement.infos, results, strict=True)
            for info in [one for one, result in ours if not isinstance(result, BaseException)]:
                await (await self._zeroconf.async_unregister_service(info))
            raise failed[0]
        said: list[Awaitable[Any]] = [one for one in results if isinstance(one, Awaitable)]
        for one in announcement.sub_infos:  # they stand and fall with the names that are ours now
            said.append(await register(one, cooperating_responders=True))
        await asyncio.gather(*said)

    def update(self, announcement: Announcement) -> None:
        """Announce other text for services whose names, hosts and ports stay.

        Raises:
            Unusable.
        """
        self._call(self._update(announcement))

    async def _update(self, announcement: Announcement) -> None:
        infos = [*announcement.infos, *announcement.sub_infos]
        said = [await self._zeroconf.async_update_service(one) for one in infos]
        await asyncio.gather(*said)

    def withdraw(self, announcement: Announcement, *, goodbye: bool = True) -> None:
        """Say that the services are gone; or fall silent about them: another one has the name.

        Raises:
            Unusable.
        """
        for one in announcement.services:
            self._owned.pop(_key(one), None)
        self._call(self._withdraw(announcement, goodbye))

    async def _withdraw(self, announcement: Announcement, goodbye: bool) -> None:
        infos = [*announcement.sub_infos, *announcement.infos]
        if not goodbye:
            self._zeroconf.registry.async_remove(infos)
            return
        said = [await self._zeroconf.async_unregister_service(one) for one in infos]
        await asyncio.gather(*said)

    def close(self) -> None:
        """Say goodbye for everything, and close; a third of a second.

        Raises:
            Unusable.
        """
        with _explained():
            self._zeroconf.close()


# --- finding --------------------------------------------------------------------------------------


def find(
    where: Sequence[Interface], timeout_s: float, kinds: Sequence[str] = dnssd.KINDS
) -> list[Found]:
    """The services of these kinds that answer within `timeout_s`, in no order.

    Raises:
        Unusable: multicast DNS cannot be used here now.
    """
    library = _open(where)
    results: dict[tuple[str, str], Found] = {}
    seen: set[tuple[str, str]] = set()
    lock = threading.Lock()
    with ThreadPoolExecutor(_RESOLVERS) as pool:

        def resolve(kind: str, name: str) -> None:
            info = ServiceInfo(kind, name)
            if info.load_from_cache(library) or info.request(library, RESOLVE_MS):
                found = _found(kind.removesuffix(f".{LOCAL}"), info)
                if found is not None:
                    with lock:
                        results[kind, name] = found

        def hear(service_type: str, name: str, state_change: Any, **_: Any) -> None:
            key = (service_type, name)
            if state_change.name == "Added" and key not in seen and len(seen) < FOUND_MAX:
                seen.add(key)
                with contextlib.suppress(RuntimeError):  # it came when the time was over
                    pool.submit(resolve, service_type, name)

        try:
            with _explained():
                browser = zeroconf.ServiceBrowser(
                    library, [f"{kind}.{LOCAL}" for kind in kinds], handlers=[hear]
                )
                time.sleep(timeout_s)
                browser.cancel()
        finally:
            pool.shutdown(cancel_futures=True)
            library.close()
    return list(results.values())


def _found(kind: str, info: ServiceInfo) -> Found | None:
    name = info.name.removesuffix(f".{kind}.{LOCAL}")
    addresses = info.parsed_addresses()
    return dnssd.found(kind, name, info.server or "", info.port or 0, addresses, info.properties)
