"""Where a held job can come out, and on what terms; pure.

In: the job, the printer that it waits on, the one where somebody stands. Out: the changes that it
gets there, or a refusal in words for a panel.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from spoold.model.errors import OperationError
from spoold.model.job import WAITS_FOR_OTHERS, Job, JobReason
from spoold.model.printer import Device, Printer
from spoold.model.release import Changes, Effect, Terms, changeable, judge
from spoold.release.counting import Count

COPIES_MAX = 9999
# What a printer is said to offer of what can be changed.
_OFFERED = {"sides": "sides-supported", "color": "print-color-mode-supported"}


class Person(NamedTuple):
    """Whose job it is, as rules know people: normalised, folded."""

    name: str
    groups: frozenset[str] = frozenset()


def check_place(job: Job, home: Printer, printer: Printer, formats: Sequence[str]) -> None:
    """Let a job that waits on `home` come out at `printer`; its documents are of these `formats`.

    Raises:
        OperationError: `not-possible`, with why.
    """
    check_printers(home, printer, formats)
    if not job.owner.known.is_at_least(printer.least_owner):
        raise _not_there(f"{printer.name} wants owners to be {printer.least_owner}.")


def check_printers(home: Printer, printer: Printer, formats: Sequence[str]) -> None:
    """The same, whosever the job is.

    Raises:
        OperationError: `not-possible`, with why.
    """
    if home.is_find_me:
        if printer.is_find_me:
            raise _not_there(f"{printer.name} is no machine.", "Name one where it can come out.")
        if home.releases_at and printer.name not in home.releases_at:
            raise _not_there(f"jobs of {home.name} do not come out at {printer.name}.")
    elif printer.id != home.id:
        raise _not_there(f"it waits at {home.name}.", "Release it there.")
    if printer.paused or not printer.accepting:
        raise _not_there(f"{printer.name} does not print now.", "Choose another machine.")
    check_formats(printer, formats)


def check_formats(printer: Printer, formats: Sequence[str]) -> None:
    """Raises OperationError: `not-possible`: there is a document that the printer does not take."""
    for one in formats:
        if not printer.can_print(one):
            raise _not_there(f"{printer.name} does not take {one}.")


def check_waiting(job: Job) -> None:
    """Let the owner release a job that waits for nothing but that.

    Raises:
        OperationError: `not-possible`.
    """
    if JobReason.JOB_WAITS_ELSEWHERE in job.reasons:
        raise _not_there("it waits at the application server by now.", "List the jobs again.")
    if not job.awaits_release or job.is_incoming:
        raise _not_there(f"the job is {job.state}, and waits for no release.")
    for reason in WAITS_FOR_OTHERS:
        if reason in job.reasons:
            raise _not_there("an operator has to look at it first.", "Ask one to release it.")


def check_changes(job: Job, printer: Printer, device: Device | None, changes: Changes) -> Changes:
    """The changes that make a difference, when the device can be told.

    Raises:
        OperationError: `not-possible`: it cannot; `bad-request`: too many copies.
    """
    if changes.copies is not None and not 1 <= changes.copies <= COPIES_MAX:
        raise OperationError("bad-request", f"copies are 1 to {COPIES_MAX}.")
    wanted = Changes(
        None if changes.copies == job.copies else changes.copies,
        None if changes.sides == job.attributes.get("sides") else changes.sides,
        None if changes.color == job.attributes.get("print-color-mode") else changes.color,
    )
    can = _can_change(job, device)
    for name, value in zip(Changes._fields, wanted, strict=True):
        if value is None:
            continue
        if name not in can:
            raise _not_there(f"{name} of this document cannot be changed at {printer.name}.")
        offered = printer.options.get(_OFFERED.get(name, ""))
        if isinstance(offered, list) and value not in offered:
            raise _not_there(f"{printer.name} does not do {value}.")
    return wanted


def _can_change(job: Job, device: Device | None) -> frozenset[str]:
    if device is None:  # a pool: its members may differ
        return frozenset() if job.copies_embedded else frozenset({"copies"})
    has_pjl = device.is_on("pjl")
    return changeable(device.scheme, has_pjl, job.document.format, job.copies_embedded)


def check_allowed(owner: Person, places: tuple[Printer, ...], when: datetime) -> None:
    """Let somebody print at these printers now, whatever the job is.

    Raises:
        OperationError: `forbidden`: a rule says no.
    """
    rules = (rule for printer in places for rule in printer.policies)
    denials = tuple(rule for rule in rules if rule.effect is Effect.DENY)
    judge(denials, owner.name, owner.groups, when, None, False)


def terms_for(
    job: Job,
    owner: Person,
    places: tuple[Printer, ...],
    device: Device | None,
    when: datetime,
    count: Count,
    changes: Changes,
) -> tuple[Changes, Terms]:
    """The changes with what the rules of the printers force on the job, and by which rules.

    Raises:
        OperationError: `forbidden`: a rule says no; `not-possible`: one cannot be kept here.
    """
    rules = tuple(rule for printer in places for rule in printer.policies)
    if not rules:
        return changes, Terms()
    terms = judge(rules, owner.name, owner.groups, when, count.printed, count.has_color)
    forced = changes
    if terms.monochrome and count.has_color:
        forced = forced._replace(color="monochrome")
    sides = changes.sides or job.attributes.get("sides", "one-sided")
    is_long = count.impressions is None or count.impressions > 1
    if terms.duplex and sides == "one-sided" and is_long and not _is_two_sided(count):
        forced = forced._replace(sides="two-sided-long-edge")
    return check_changes(job, places[-1], device, forced), terms


def _is_two_sided(count: Count) -> bool:
    lines = count.usage.lines
    return bool(lines) and all(line.sides == "two-sided" for line in lines)


def _not_there(message: str, advice: str = "") -> OperationError:
    return OperationError("not-possible", message, advice)
