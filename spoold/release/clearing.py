"""Who pays for a job, and how that is found; what it costs, for the release that reserves it.

An account is asked for in this order, and the first word counts: the one chosen at the machine, the
job's own (`job-account-id`, `job-accounting-user-id`), the one in its PJL, the rule of its sender,
the printer's default, the owner's default. Without any the owner pays. A printer whose default is
`?` lets nobody pay until an account is named.
"""

from __future__ import annotations

from typing import NamedTuple

from spoold.model.errors import OperationError
from spoold.model.job import Job
from spoold.model.printer import Printer
from spoold.model.release import SOMEBODY_CHOOSES, Charging, account_by_rule
from spoold.model.user import User

PJL_ACCOUNT = "spoold-pjl-account"  # the attribute of a job whose PJL names an account
_ATTRIBUTES = ("job-account-id", "job-accounting-user-id")


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
