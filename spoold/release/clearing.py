"""Who pays for a job, and how that is found; what it costs, for the release that reserves it.

An account is asked for in this order, and the first word counts: the one chosen at the machine, the
job's own (`job-account-id`, `job-accounting-user-id`), the one in its PJL, the rule of its sender,
the printer's default, the owner's default. Without any the owner pays. A printer whose default is
`?` lets nobody pay until an account is named.

The choice stands first because it is the last word, and that of a person who has logged in, who saw
the price: what the job brings along is what a driver was set to. It reaches no other accounts than
those that the owner may charge to. A rule stands before the printer's default because it says more.
"""

from __future__ import annotations

from datetime import tzinfo
from typing import NamedTuple, Protocol
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.job import Job
from spoold.model.offline import Beyond
from spoold.model.pricing import Quote
from spoold.model.printer import Printer
from spoold.model.purse import Payer
from spoold.model.release import PJL_ACCOUNT, SOMEBODY_CHOOSES, Charging, account_by_rule
from spoold.model.usage import Usage
from spoold.model.user import User
from spoold.release.counting import Count
from spoold.spool.store import Cost

_ATTRIBUTES = ("job-account-id", "job-accounting-user-id")


class Money(Protocol):
    """What a clearing needs of the accounts."""

    async def quote(self, usage: Usage, printer_guid: UUID | None) -> Quote:
        """Raises OperationError when such a job is not printed."""
        ...

    async def payer(self, account: str, user: User | None, by: str) -> Payer:
        """Raises OperationError: there is no such account, or it is not for this user."""
        ...

    async def cover(self, payer: Payer, total: int) -> Beyond | None:
        """What pays besides, at a site that is alone."""
        ...

    async def stranger(self) -> str | None:
        """The account that pays for people who are not known, at a site that is alone."""
        ...

    async def person(self, name: str) -> Payer | None:
        """Somebody who was heard of under this name, a user or not."""
        ...

    async def can_pay(self, payer: Payer, total: int) -> bool:
        """Whether there is so much now, there or where else it may be taken from."""
        ...

    async def zone(self) -> tzinfo:
        """The time zone of the site."""
        ...


class Named(NamedTuple):
    """An account as it was named, "" for the owner's own money; and by what."""

    account: str
    by: str


def account_named(
    job: Job, home: Printer, printer: Printer, owner: User | None, choice: str | None
) -> Named:
    """The account that pays, as it was named; a choice of "" is the owner's own money.

    Raises:
        OperationError: `account-info-needed`: nobody is known who would pay.
    """
    if choice is not None:
        return Named(choice, "choice")
    for name in _ATTRIBUTES:
        if account := _text(job, name):
            return Named(account, "job-attribute")
    if account := _text(job, PJL_ACCOUNT):
        return Named(account, "pjl")
    if account := account_by_rule(home.senders, job.owner):
        return Named(account, "rule")
    for place in (printer, home):
        if place.default_account == SOMEBODY_CHOOSES:
            raise _nobody("the printer lets nobody pay until an account is chosen.")
        if place.default_account:
            return Named(place.default_account, "printer-default")
    if owner is None:
        raise _nobody(
            f"nobody here is called {job.owner.name}." if job.owner.name else "nobody owns it."
        )
    return Named(owner.default_account, "owner")


def _text(job: Job, name: str) -> str:
    value = job.attributes.get(name)
    return value.strip() if isinstance(value, str) else ""


def _nobody(why: str) -> OperationError:
    return OperationError(
        "account-info-needed",
        f"nobody knows who pays for the job: {why}",
        "Choose an account where the job is released, or ask an operator.",
    )


def charging_of(home: Printer, printer: Printer) -> Charging:
    """Whether a job that waits on `home` and comes out at `printer` is paid for: the stricter."""
    return max(home.charging, printer.charging, key=lambda one: one.rank)


async def cost_of(
    money: Money,
    job: Job,
    home: Printer,
    printer: Printer,
    owner: User | None,
    count: Count,
    choice: str | None,
) -> Cost | None:
    """What the job costs at `printer`, and whom; None where nothing is charged.

    Raises:
        OperationError: nobody pays, or it is not printed without a price. In shadow mode nothing is
            raised: who owns the job is the one it counts for, a user or not, and one whose pages
            nobody knows prints without a charge.
    """
    charging = charging_of(home, printer)
    if charging is Charging.OFF:
        return None
    is_enforced = charging is Charging.ON
    payer: Payer | None
    try:
        named = await _named(money, job, home, printer, owner, choice)
        payer = await money.payer(named.account, owner, named.by)
    except OperationError:
        if is_enforced:
            raise
        payer = await money.person(job.owner.name)
    try:
        quote = await money.quote(count.usage, printer.guid)
    except OperationError:
        if is_enforced:
            raise
        return None
    if payer is None:
        return None
    beyond = await money.cover(payer, quote.total) if is_enforced else None
    return Cost(payer, quote, count.usage, is_enforced, beyond)


async def _named(
    money: Money, job: Job, home: Printer, printer: Printer, owner: User | None, choice: str | None
) -> Named:
    try:
        return account_named(job, home, printer, owner, choice)
    except OperationError:
        account = await money.stranger() if owner is None else None
        if account is None:
            raise
        return Named(account, "rule")
