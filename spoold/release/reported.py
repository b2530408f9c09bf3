"""Who pays for a job that a provider printed itself, and reported later.

The paper is out, so nothing is refused: the account that would have been asked pays, else its
owner, and the charge is flagged as not reserved. But nobody pays by a word that is less than the
printer accepts: a provider cannot have others pay for whom it may not speak, nor for what it says
that it printed where none is to print itself: that is flagged, and counts without a payer. Under
the job's uuid one charge is made, at whichever node the report comes in, and however often.
"""

from __future__ import annotations

from uuid import UUID

from spoold.accounts.charging import Charging
from spoold.model.charge import REPORT_KEY, Charge, Flag
from spoold.model.errors import OperationError
from spoold.model.job import Job
from spoold.model.printer import Printer, WhenUnreachable
from spoold.model.purse import Payer
from spoold.model.release import Charging as Mode
from spoold.model.usage import Usage
from spoold.model.user import User
from spoold.release.clearing import account_named


def charge_key(job: UUID) -> bytes:
    return REPORT_KEY + job.bytes


def is_expected(printer: Printer) -> bool:
    """Whether providers are told that they may print there."""
    return printer.when_unreachable is WhenUnreachable.DIRECT


async def charge_for(
    charging: Charging,
    job: Job,
    printer: Printer,
    owner: User | None,
    usage: Usage,
    *,
    actor: str,
    happened_us: int,
) -> Charge | None:
    """What the job cost; None where nothing is charged, or nobody is known who would pay."""
    if printer.charging is Mode.OFF or not job.owner.known.is_at_least(printer.least_owner):
        return None
    payer: Payer | None
    try:
        named = account_named(job, printer, printer, owner, None)
        payer = await charging.payer(named.account, owner, named.by)
    except OperationError:
        payer = await charging.person(job.owner.name)
    if payer is None:
        return None
    return await charging.charge(
        charge_key(job.uuid),
        payer,
        usage,
        printer,
        actor=actor,
        enforce=printer.charging is Mode.ON and is_expected(printer),
        job_id=job.id,
        happened_us=happened_us,
        flags=() if is_expected(printer) else (Flag.NOT_DIRECT.value,),
    )
