"""Who pays for a job, and how that is found; what it costs, for the release that reserves it.

An account is asked for in this order, and the first word counts: the one chosen at the machine, the
job's own (`job-account-id`, `job-accounting-user-id`), the one in its PJL, the rule of its sender,
the printer's default, the owner's default. Without any the owner pays. A printer whose default is
`?` lets nobody pay until an account is named.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.job import Job
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


class Named(NamedTuple):
    """An account as it was named, "" for the owner's own money; and by what."""

    account: str
    by: str


def account_named(
    job: Job, home: Printer, printer: Printer, owner: User | None, choice: str | None
) -> Named:
    """The account that pays, as it was named.

    Raises:
        OperationError: `account-info-needed`: nobody is known who would pay.
    """
    if choice:
        return Named(choice, "choice")
    for name in _ATTRIBUTES:
        if account := _text(job, name):
            return Named(account, "job-attribute")
    if account := _text(job, PJL_ACCOUNT):
        return Named(account, "pjl")
    if account := account_by_rule(home.senders, job.owner):
        return Named(account, "rule")
    for place in (printer, home):
        if place.default_account == SOMEBODY_CHOOSES and choice is None:
            raise _nobody("the printer lets nobody pay until an account is chosen.")
        if place.default_account not in ("", SOMEBODY_CHOOSES):
            return Named(place.default_account, "printer-default")
    if owner is None:
        raise _nobody(
            f"nobody here is called {job.owner.name}." if job.owner.name else "nobody owns it."
        )
    if owner.default_account and choice is None:
        return Named(owner.default_account, "owner")
    return Named("", "owner")


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
            raised: such a job prints without a charge.
    """
    charging = charging_of(home, printer)
    if charging is Charging.OFF:
        return None
    try:
        named = account_named(job, home, printer, owner, choice)
        payer = await money.payer(named.account, owner, named.by)
        quote = await money.quote(count.usage, printer.guid)
    except OperationError:
        if charging is Charging.ON:
            raise
        return None
    return Cost(payer, quote, count.usage, charging is Charging.ON)
