"""Copies, scans and faxes: how many pages may be made, and what is charged for those that were.

An MFD asks before it starts (`authorize`), and says afterwards what came out (`report`), both under
a key of its own. What was authorized is taken from the purses at once, so that nobody spends the
same money at two machines; the report gives back the rest. A report is never refused for want of
money: the paper is out. Under one key one charge is made, however often it is reported, over any
connection, also after a restart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

import structlog
import trio

from spoold.accounts.charging import Charging
from spoold.model.charge import MFD_KEY, Charge, ChargeState
from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.model.mfd import Mfd
from spoold.model.printer import Printer
from spoold.model.purse import Payer, PayerKind
from spoold.model.release import SOMEBODY_CHOOSES
from spoold.model.release import Charging as Mode
from spoold.model.usage import UNKNOWN, Line, Usage, Work
from spoold.model.user import User
from spoold.spool.ledger_views import charge_by_key
from spoold.spool.reader import SqliteReader
from spoold.spool.work import unreported

log = structlog.get_logger("spoold.release")

TRIES = 3
UNREPORTED_S = 2 * 3600  # after which what was authorized goes back
LOOK_INTERVAL_S = 600.0
GIVEN_BACK_MAX = 200  # at a time


@dataclass(frozen=True, slots=True)
class Kind:
    """What is to be made: all pages alike."""

    work: Work
    color: str = UNKNOWN
    sides: str = "one-sided"
    media: str = ""

    def usage(self, impressions: int) -> Usage:
        line = Line(
            impressions, sheets_of(impressions, self.sides), self.color, self.sides, self.media
        )
        return Usage(self.work, (line,) if impressions else ())


@dataclass(frozen=True, slots=True)
class Allowed:
    """How many pages may be made; `why` none. `price` is in 1/10,000, None: nobody pays."""

    pages: int
    price: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Reported:
    """`charge` is None when nothing was made, and nothing was authorized before."""

    charge: Charge | None
    is_duplicate: bool = False


def sheets_of(impressions: int, sides: str) -> int:
    return impressions if sides == "one-sided" else -(-impressions // 2)


def charge_key(mfd: UUID, key: str) -> bytes:
    """The ledger's key of what an MFD calls `key`: no other MFD can mean the same."""
    digest = hashlib.sha256(mfd.bytes + key.encode("utf-8", "surrogatepass")).digest()
    return MFD_KEY + digest


class WorkDesk:
    def __init__(
        self, charging: Charging, reader: SqliteReader, wall_clock: Callable[[], int]
    ) -> None:
        self._charging = charging
        self._reader = reader
        self._wall_clock = wall_clock

    async def authorize(
        self,
        mfd: Mfd,
        user: User,
        printer: Printer,
        kind: Kind,
        key: str,
        most: int,
        account: str | None,
    ) -> Allowed:
        """Reserve as many pages as the payer can pay, at most `most`.

        Raises:
            OperationError: `conflict`: the key was reported already; `account-info-needed`: nobody
                is known who pays.
        """
        ledger_key = charge_key(mfd.guid, key)
        known = await self._find(ledger_key)
        if known is not None:
            return _as_before(known, kind)
        payer = await self._payer(printer, user, account)
        if printer.charging is not Mode.ON:
            return await self._reserve(ledger_key, payer, kind.usage(most), printer, mfd)
        for _ in range(TRIES):
            pages = await self._charging.affordable(
                payer,
                kind.work,
                printer,
                color=kind.color,
                sides=kind.sides,
                media=kind.media,
                most=most,
            )
            if not pages:
                break
            try:
                return await self._reserve(ledger_key, payer, kind.usage(pages), printer, mfd)
            except OperationError as error:
                if error.code != "account-limit-reached":
                    raise  # else somebody has spent it meanwhile
        return Allowed(0, None, "the balance does not pay for one page.")

    async def _reserve(
        self, key: bytes, payer: Payer, usage: Usage, printer: Printer, mfd: Mfd
    ) -> Allowed:
        charge = await self._charging.reserve(
            key,
            payer,
            usage,
            printer,
            actor=mfd.identity,
            enforce=printer.charging is Mode.ON,
        )
        return _allowed(charge)

    async def report(
        self,
        mfd: Mfd,
        person: UUID | None,
        printer: Printer,
        usage: Usage,
        key: str,
        account: str | None,
        happened_us: int,
    ) -> Reported:
        """Charge for what was made under `key`; what was authorized and not made goes back.

        Without an authorization `person` pays, and the charge is flagged.

        Raises:
            OperationError: `not-found`: nothing was authorized, and nobody is named who pays.
        """
        ledger_key = charge_key(mfd.guid, key)
        known = await self._find(ledger_key)
        if known is not None and known.state is ChargeState.SETTLED:
            return Reported(known, is_duplicate=True)
        if not usage.impressions:
            if known is None:
                return Reported(None)
            return Reported(await self._charging.cancel(ledger_key, actor=mfd.identity))
        if known is not None:
            usage = replace(usage, work=known.usage.work)
            charge = await self._charging.settle(
                ledger_key, usage, actor=mfd.identity, happened_us=happened_us
            )
            return Reported(charge)
        charge = await self._charging.charge(
            ledger_key,
            await self._late_payer(printer, person, account),
            usage,
            printer,
            actor=mfd.identity,
            enforce=printer.charging is Mode.ON,
            happened_us=happened_us,
        )
        return Reported(charge)

    async def _find(self, key: bytes) -> Charge | None:
        story = await self._reader.look(charge_by_key, key)
        return None if story is None else story.charge

    async def _payer(self, printer: Printer, user: User, account: str | None) -> Payer:
        """Who pays: as chosen at the machine, by the printer, by the user; else the user."""
        if account is not None:
            return await self._charging.payer(account, user, "choice")
        if printer.default_account == SOMEBODY_CHOOSES:
            raise OperationError(
                "account-info-needed", "nobody is chosen who pays.", "Choose an account."
            )
        if printer.default_account:
            return await self._charging.payer(printer.default_account, user, "printer-default")
        return await self._charging.payer(user.default_account, user, "owner")

    async def _late_payer(
        self, printer: Printer, person: UUID | None, account: str | None
    ) -> Payer:
        """As `_payer`, for what is made already: whoever cannot be found, the person can."""
        user = None if person is None else await self._reader.user_by_guid(person)
        if person is None or user is None:
            raise OperationError(
                "not-found",
                "nothing was authorized under this key, and nobody is named who pays.",
                "Report it with the session in which it was made.",
            )
        try:
            return await self._payer(printer, user, account)
        except OperationError:
            return Payer(PayerKind.PERSON, person)

    async def run(self) -> None:
        """Give back what was authorized and never reported, for ever."""
        while True:
            try:
                await self.give_back()
            except StoreFailed:
                raise
            except SpoolError as error:
                log.warning("authorizations_kept", reason=str(error))
            await trio.sleep(LOOK_INTERVAL_S)

    async def give_back(self) -> int:
        """Cancel what was authorized long ago; a report that comes later is charged, flagged."""
        before_us = self._wall_clock() - UNREPORTED_S * 1_000_000
        keys = await self._reader.look(unreported, before_us, GIVEN_BACK_MAX)
        for key in keys:
            await self._charging.cancel(key)
        if keys:
            log.warning("work_not_reported", count=len(keys))
        return len(keys)


def _as_before(charge: Charge, kind: Kind) -> Allowed:
    """The same answer to the same question.

    Raises:
        OperationError: `conflict`: it was another one, or it is over.
    """
    if charge.state is not ChargeState.RESERVED or charge.usage.work is not kind.work:
        raise OperationError(
            "conflict", "this key was used for something else.", "Use a new key for each work."
        )
    return _allowed(charge)


def _allowed(charge: Charge) -> Allowed:
    return Allowed(charge.usage.impressions, None if charge.is_shadow else charge.total)
