"""The door to prices and purses for whoever has work done: quote, how much, reserve, settle.

A charge is made in three steps, each with the same key: `reserve` before the work, `settle` with
what was made, or `cancel` when nothing was. Each may be asked again after a lost answer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from spoold.model.account import Account
from spoold.model.charge import Charge
from spoold.model.errors import OperationError
from spoold.model.offline import Beyond
from spoold.model.pricing import PriceList, Quote
from spoold.model.pricing import quote as priced
from spoold.model.printer import Printer
from spoold.model.purse import DECIDED, Payer, PayerKind, Wallet
from spoold.model.text import plain
from spoold.model.usage import UNKNOWN, Line, Usage, Work
from spoold.model.user import User
from spoold.spool import accounts, ledger_views, postings, price_lists
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import Cancel, Event, PricesChanged, Reserve, Settle

IMPRESSIONS_MAX = 9999  # what a machine is told it may make at once
FOREVER_US = 2**62


class Authority(Protocol):
    """Who lets a site spend, and decides for it when nobody can be asked: `site.authority`."""

    async def cover(self, payer: Payer, total: int) -> Beyond | None:
        """See that `total` can be spent; else what pays for it beyond the purses here."""
        ...

    async def stranger(self) -> str | None: ...
    async def account(self, named: str) -> str: ...


class Charging:
    """Prices and charges work done at this node's machines. A site has an `authority`, whom it asks
    about money that it does not hold.
    """

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        wall_clock: Callable[[], int],
    ) -> None:
        self.authority: Authority | None = None
        self._journal = journal
        self._reader = reader
        self._wall_clock = wall_clock
        self._known: tuple[PriceList, int, int] | None = None  # and from when until when it holds
        self._heard = 0  # how often prices were changed
        journal.listen(self._hear)

    def _hear(self, events: list[Event]) -> None:
        if any(isinstance(event, PricesChanged) for event in events):
            self._known = None
            self._heard += 1

    async def prices(self, at_us: int | None = None) -> PriceList:
        """The price list that is in force, now or at another time."""
        if at_us is not None:
            return await self._reader.look(price_lists.prices_at, at_us)
        now_us = self._wall_clock()
        if self._known is not None and self._known[1] <= now_us < self._known[2]:
            return self._known[0]
        heard = self._heard
        # A clock that was set back behind all prices would make everything free.
        now_us = max(now_us, await self._reader.look(price_lists.prices_made_us))
        prices = await self._reader.look(price_lists.prices_at, now_us)
        until_us = await self._reader.look(price_lists.next_prices_us, now_us)
        if heard == self._heard:
            self._known = (prices, prices.from_us, until_us or FOREVER_US)
        return prices

    async def quote(
        self, usage: Usage, printer_guid: UUID | None, at_us: int | None = None
    ) -> Quote:
        """What `usage` costs, now or at another time.

        Raises:
            OperationError: `pages-unknown`, by the price list's policy.
        """
        return priced(await self.prices(at_us), usage, printer_guid)

    async def payer(self, account: str, user: User | None, by: str) -> Payer:
        """Who pays: the account of this name or code, or the user alone where it is "".

        An account that an administrator has named, `by` a rule or as a printer's default, takes
        everybody; any other one those who may charge to it. Who is disabled pays for nothing new.

        Raises:
            OperationError: `account-info-needed`: nobody is known who would.
        """
        if user is not None and user.disabled and by not in DECIDED:
            raise _nobody(f"the user {plain(user.name[:60])} is disabled.")
        if self.authority is not None and by not in DECIDED:
            chosen, account = account, await self.authority.account(account)
            if account not in ("", chosen):
                by = "rule"  # of a site that is cut off: it pays for everybody
        if not account:
            if user is None:
                raise _nobody("nobody is known who would pay.")
            return Payer(PayerKind.PERSON, user.guid, by)
        found = await self._reader.look(accounts.by_name, account)
        found = found or await self._reader.look(accounts.by_code, account)
        if found is None:
            raise _nobody(f"there is no account {plain(account[:60])}.")
        if by not in DECIDED and (
            user is None
            or not await self._reader.look(accounts.may_charge, found, user.guid, user.groups)
        ):
            raise _nobody(f"the account {plain(account[:60])} is not for this user.")
        return Payer(PayerKind.ACCOUNT, found.guid, by, None if user is None else user.guid)

    async def person(self, name: str) -> Payer | None:
        """Somebody who was heard of under this name, a user or not; None: nobody was."""
        guid = await self._reader.look(accounts.person_by_name, name) if name else None
        return None if guid is None else Payer(PayerKind.PERSON, guid)

    async def can_pay(self, payer: Payer, total: int) -> bool:
        """Whether a payer, or the account that pays where purses are empty, has so much now."""
        try:
            wallets = await self._reader.look(ledger_views.wallets_of, payer, self._wall_clock())
        except OperationError:  # the account is gone, or closed
            return False
        return any(wallet.holds(total) for wallet in wallets)

    async def zone(self) -> ZoneInfo:
        """The time zone of the site, in which periods run and rules hold."""
        return ZoneInfo((await self._reader.look(postings.terms)).zone)

    async def cover(self, payer: Payer, total: int) -> Beyond | None:
        """At a site: see that `total` can be spent here, or what pays for it as it is alone."""
        return None if self.authority is None else await self.authority.cover(payer, total)

    async def stranger(self) -> str | None:
        """The account that pays for people who are not known here; None: somebody has to be named.

        Raises:
            OperationError: their jobs are not printed.
        """
        return None if self.authority is None else await self.authority.stranger()

    async def choices(self, user: User) -> list[Account]:
        """The accounts that a user may charge to, by name."""
        return await self._reader.look(accounts.choices, user.guid, user.groups)

    async def wallet(self, payer: Payer) -> Wallet:
        """What a payer has now, and how much of it may be spent.

        Raises:
            OperationError: `not-found`, `not-possible`: the account is gone, or closed.
        """
        return await self._reader.look(ledger_views.wallet_of, payer, self._wall_clock())

    async def affordable(
        self,
        payer: Payer,
        work: Work,
        printer: Printer | None,
        *,
        color: str = UNKNOWN,
        sides: str = "one-sided",
        media: str = "",
        most: int = IMPRESSIONS_MAX,
    ) -> int:
        """How many impressions of a kind a payer can have made now, at most `most`.

        Raises:
            OperationError: `not-found`, `not-possible`: the account is gone, or closed.
        """
        now_us = self._wall_clock()
        wallets = await self._reader.look(ledger_views.wallets_of, payer, now_us)
        prices = await self.prices()
        guid = None if printer is None else printer.guid

        def costs(count: int) -> int:
            sheets = count if sides == "one-sided" else -(-count // 2)
            usage = Usage(work, (Line(count, sheets, color, sides, media),))
            return priced(prices, usage, guid).total

        beyond = await self.cover(payer, costs(most))
        if self.authority is not None:
            wallets = await self._reader.look(ledger_views.wallets_of, payer, now_us)
        if beyond is not None:
            wallets += await self._beyond(payer, wallets[0], beyond, now_us)
        low, high = 0, most
        while low < high:
            middle = -(-(low + high) // 2)
            total = costs(middle)
            if any(wallet.holds(total) for wallet in wallets):
                low = middle
            else:
                high = middle - 1
        return low

    async def _beyond(
        self, payer: Payer, wallet: Wallet, beyond: Beyond, now_us: int
    ) -> list[Wallet]:
        """The wallets that pay besides, as `ledger.reserve` sees it."""
        if payer.kind is PayerKind.ACCOUNT:
            return []
        limit = None if wallet.limit is None else wallet.limit + beyond.overdraft
        found = [replace(wallet, limit=limit)]
        if beyond.account is not None:
            account = Payer(PayerKind.ACCOUNT, beyond.account)
            with suppress(OperationError):
                found.append(await self._reader.look(ledger_views.wallet_of, account, now_us))
        return found

    async def reserve(
        self,
        key: bytes,
        payer: Payer,
        usage: Usage,
        printer: Printer | None,
        *,
        actor: str = "node",
        enforce: bool = True,
    ) -> Charge:
        """Take what `usage` will cost; without `enforce` it is counted and priced, no more.

        Raises:
            OperationError: `account-limit-reached`, `pages-unknown`, `not-found`, `not-possible`.
        """
        quote = await self.quote(usage, None if printer is None else printer.guid)
        asked = Reserve(
            key, payer, quote, usage, _id_of(printer), self._wall_clock(), actor, enforce
        )
        if enforce:
            asked.beyond = await self.cover(payer, quote.total)
        charge: Charge = await self._journal.commit(asked)
        return charge

    async def settle(
        self, key: bytes, usage: Usage | None = None, *, actor: str = "node",
        happened_us: int | None = None,
    ) -> Charge:  # fmt: skip
        """Charge for what was made, or all that was reserved; the rest goes back.

        Raises:
            OperationError: `not-found`: nothing was reserved under this key.
        """
        change = Settle(key, usage, self._wall_clock(), actor, happened_us)
        charge: Charge = await self._journal.commit(change)
        return charge

    async def charge(
        self,
        key: bytes,
        payer: Payer,
        usage: Usage,
        printer: Printer | None,
        *,
        actor: str = "node",
        enforce: bool = True,
        job_id: int | None = None,
        happened_us: int | None = None,
        flags: tuple[str, ...] = (),
    ) -> Charge:
        """Charge for what was made, whether or not it was reserved under this key before.

        Raises:
            OperationError: `not-found`: there is no such payer.
        """
        quote = await self._late_quote(usage, printer, happened_us)
        now_us = self._wall_clock()
        asked = Reserve(key, payer, quote, usage, _id_of(printer), now_us, actor, enforce, job_id)
        change = Settle(key, usage, now_us, actor, happened_us, asked, flags)
        charge: Charge = await self._journal.commit(change)
        return charge

    async def cancel(self, key: bytes, *, actor: str = "node") -> Charge:
        """Nothing was made: all goes back.

        Raises:
            OperationError: `not-found`: nothing was reserved under this key.
        """
        charge: Charge = await self._journal.commit(Cancel(key, self._wall_clock(), actor))
        return charge

    async def _late_quote(
        self, usage: Usage, printer: Printer | None, happened_us: int | None
    ) -> Quote:
        """What work costs that nobody can refuse any more: nothing where its pages are unknown."""
        try:
            return await self.quote(usage, None if printer is None else printer.guid, happened_us)
        except OperationError as error:
            if error.code != "pages-unknown":
                raise
            return Quote((await self.prices(happened_us)).version, 0)


def _id_of(printer: Printer | None) -> int | None:
    return None if printer is None else printer.id


def _nobody(message: str) -> OperationError:
    return OperationError("account-info-needed", message, "Choose an account that pays.")
