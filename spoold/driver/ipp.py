"""The `ipp` driver: IPP/1.0 to 2.x from the client's side (RFC 8010, RFC 8011, PWG 5100.x).

In: `ipp://host[:631]/path`, or `ipps://` for TLS at once; without a path it is /ipp/print. Out:
`Delivered` when the printer says that its job is completed, with its word as evidence. After a
restart of spoold the printer is asked what became of the job, and nothing is printed twice.

Options: connect_timeout_s=10, answer_timeout_s=30, document_timeout_s=3600 (of the answer to a
document that the printer has taken: some print it first), answer_wait_s=3600 (for a printer that
has a job and is away), incoming_s=5, counter_wait_s=15, poll_first_s=0.25, poll_max_s=5, offer_s=10
(how long the printer's abilities and state are believed), stall_s=10, expect_wait_s=1, chunked=off,
aborts_max=3 (how often a job that the printer aborts before its first page is tried again),
format=(the document's), as_user=(the job's owner), tls=verify|pin|none, fingerprint, ca_file, user,
password_file, clear_password=off (see `ipp_trust`), snmp=off (see `snmp`; its page counter is asked
where IPP has none).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import ClassVar
from uuid import UUID

import trio

from spoold.codec.ipp_names import PrinterState
from spoold.codec.ipp_values import Group
from spoold.driver import ipp_trust, snmp
from spoold.driver.ipp_follow import Printer
from spoold.driver.ipp_job import Errand
from spoold.driver.ipp_offer import ABILITIES, LEARNED, STATE, SUPPLIES, Offer, learn
from spoold.driver.ipp_peer import IppRefused, Peer
from spoold.driver.ipp_session import Broken, Habits, HttpRefused, Session
from spoold.driver.ipp_settings import OPTIONS, place_of, settings_of
from spoold.driver.ipp_upload import Told
from spoold.driver.ipp_verdict import refusal
from spoold.driver.link import Delivery, DeviceStatus, Learned, Network
from spoold.driver.options import Options
from spoold.model.errors import OperationError
from spoold.model.outcome import Outcome
from spoold.model.printer import Device

STATE_TIMEOUT_S = 5.0  # of a question beside a document that does not move
ABORTED_MAX = 1000  # documents of which is known how often the printer aborted them
NOBODY = "anonymous"


@dataclass(slots=True)
class _Known:
    """What the printer offered, and when (Trio's clock)."""

    offer: Offer
    at_s: float


class IppDriver:
    options: ClassVar[Options] = {**OPTIONS, **ipp_trust.OPTIONS, **snmp.OPTIONS}

    def __init__(self, device: Device, network: Network) -> None:
        """Raises `OperationError` when the URI has no host, or an option cannot work."""
        self._network = network
        self._place = place_of(device)
        self._settings = settings_of(device)
        self._trust = ipp_trust.trust_of(device, self._place.host)
        self._login = ipp_trust.login_of(device)
        self.needs_trust = self._place.is_tls and not self._trust.is_told
        self._agent = snmp.agent_of(device, self._place.host)
        self._habits = Habits(is_chunked=self._settings.is_chunked)
        self._known: _Known | None = None
        self._said: DeviceStatus | None = None
        self._said_s = 0.0
        self._aborted: OrderedDict[tuple[UUID, int], int] = OrderedDict()

    async def deliver(self, delivery: Delivery) -> Outcome:
        peer = self._peer(delivery.job.owner.name)
        try:
            return await self._errand(delivery, peer).deliver()
        finally:
            await self._part_from(peer)

    async def resume(self, delivery: Delivery) -> Outcome | None:
        """Go on with an attempt that the end of a spoold cut off."""
        peer = self._peer(delivery.job.owner.name)
        try:
            return await self._errand(delivery, peer).resume()
        finally:
            await self._part_from(peer)

    async def probe(self) -> DeviceStatus:
        """How the printer is, what it has left, and its counters."""
        peer = self._peer("")
        try:
            offer = Offer(await peer.printer((*STATE, *SUPPLIES)))
        except (IppRefused, Broken, HttpRefused) as error:
            found = refusal(error)
            is_there = isinstance(error, IppRefused)
            return self._keep(DeviceStatus(is_there, (found.reason,), found.detail))
        finally:
            await self._part_from(peer)
        status = self._hear(offer)
        if self._agent is None or (answer := await self._agent.ask()) is None:
            return status
        counters = status.counters
        if answer.page_count is not None:
            counters = {**counters, "snmp": answer.page_count}
        reasons = tuple(dict.fromkeys((*status.reasons, *answer.reasons)))
        return replace(status, reasons=reasons, counters=counters)

    def last_said(self, age_max_s: float) -> DeviceStatus | None:
        """How the printer was when it was last asked, for a job or by somebody."""
        age_s = trio.current_time() - self._said_s
        if self._said is None or age_s > age_max_s:
            return None
        return replace(self._said, age_s=age_s)

    def _hear(self, offer: Offer) -> DeviceStatus:
        counters = dict(offer.counters)
        return self._keep(
            DeviceStatus(True, offer.reasons, offer.message, counters, offer.supplies)
        )

    def _keep(self, status: DeviceStatus) -> DeviceStatus:
        self._said, self._said_s = status, trio.current_time()
        return status

    async def learn(self) -> Learned:
        """What the printer can do, for a `Printer` that offers it.

        Raises:
            OperationError: it cannot be asked.
        """
        peer = self._peer("")
        try:
            return learn(await self._all_attributes(peer))
        except (IppRefused, Broken, HttpRefused) as error:
            raise OperationError(
                "not-possible",
                f"{self._place.uri} cannot be asked: {refusal(error).detail}",
                "Add it without --learn, or look at its address and at the printer.",
            ) from error
        finally:
            await self._part_from(peer)

    async def fingerprint(self) -> str:
        """The fingerprint of the certificate that the printer shows now, whoever vouches for it.

        Raises:
            OSError: there is no TLS to be had; `TimeoutError` when it takes too long.
        """
        trust = ipp_trust.Trust(self._place.host, "none")
        session = self._session(trust, Habits(is_upgraded=not self._place.is_tls))
        try:
            with trio.fail_after(self._settings.connect_timeout_s):
                return ipp_trust.fingerprint_of(await session.certificate())
        except trio.TooSlowError as error:
            raise TimeoutError(f"{self._place.where} is silent") from error
        except Broken as error:
            raise OSError(str(error)) from error
        finally:
            session.abort()

    # --- what errands ask for ---------------------------------------------------------------------

    def _session(self, trust: ipp_trust.Trust, habits: Habits) -> Session:
        return Session(self._place, self._settings, self._network, trust, self._login, habits)

    def _peer(self, owner: str) -> Peer:
        user = self._settings.user or owner or NOBODY
        session = self._session(self._trust, self._habits)
        return Peer(session, self._place.uri, user, self._habits)

    async def _part_from(self, peer: Peer) -> None:
        try:
            await peer.session.close()
        finally:
            peer.session.abort()

    def _errand(self, delivery: Delivery, peer: Peer) -> Errand:
        document = delivery.job.uuid, delivery.job.document_number
        printer = Printer(
            self._offer, self._page_count, self._state, lambda: self._count_abort(document)
        )
        return Errand(delivery, peer, self._settings, printer)

    async def _offer(self, peer: Peer) -> Offer:
        """What the printer offers and how it is, asked no longer than `offer_s` ago.

        Raises:
            IppRefused, Broken, HttpRefused
        """
        known = self._known
        if known is None or trio.current_time() - known.at_s >= self._settings.offer_s:
            group = await peer.printer((*STATE, *SUPPLIES, *ABILITIES))
            known = self._known = _Known(Offer(group), trio.current_time())
            self._hear(known.offer)
        offer = known.offer
        if offer.is_stopped or not offer.is_accepting:
            self._known = None  # that may change soon
        return offer

    async def _page_count(self, peer: Peer) -> int | None:
        """How many impressions the printer has made in its life, by IPP or else by SNMP.

        Raises:
            IppRefused, Broken, HttpRefused
        """
        if self._agent is not None:
            answer = await self._agent.ask()
            return answer.page_count if answer is not None else None
        offer = await self._offer(peer)
        if "impressions" not in offer.counters:
            return None
        # Never from the cache: pages of the job before would count as this one's.
        fresh = Offer(await peer.printer(("printer-impressions-completed",)))
        return fresh.counters.get("impressions")

    async def _state(self) -> Told:
        """How the printer is, over a connection of its own."""
        peer = self._peer("")
        with trio.move_on_after(STATE_TIMEOUT_S):
            try:
                offer = Offer(await peer.printer(STATE))
            except (IppRefused, Broken, HttpRefused):
                return Told()
            finally:
                peer.session.abort()
            is_busy = offer.number("printer-state") == PrinterState.PROCESSING
            return Told(is_busy, offer.reasons, offer.message)
        return Told()

    async def _all_attributes(self, peer: Peer) -> Group:
        return await peer.printer(LEARNED)

    def _count_abort(self, document: tuple[UUID, int]) -> int:
        count = self._aborted.pop(document, 0) + 1
        self._aborted[document] = count
        if len(self._aborted) > ABORTED_MAX:
            self._aborted.popitem(last=False)
        return count
