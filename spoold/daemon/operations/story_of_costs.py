"""The parts of a job's story that are about counting, releases and money: look-ups in, entries out.

A release says who, where and by which rules; a charge who pays and how that was found, its price
line by line, and what the purses held before and after each step.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from spoold.daemon.operations.holders import Names
from spoold.daemon.operations.table import Call
from spoold.daemon.operations.views import plain_value
from spoold.daemon.operations.watch import Known
from spoold.model.job import Job
from spoold.model.money import format_amount
from spoold.model.pricing import Per, Quote
from spoold.model.record import Record
from spoold.spool import ledger_views, release
from spoold.spool.ledger_views import Story
from spoold.spool.store import ReleaseEntry

Entry = dict[str, Any]

_FOUND = {
    "choice": "chosen at the release",
    "job-attribute": "named by the job",
    "pjl": "named in its PJL",
    "rule": "by the rule of its sender",
    "printer-default": "the printer's default",
    "owner": "as its owner",
}
_STEPS = {
    "reserve": "reserved",
    "settle": "charged",
    "cancel": "given back",
    "refund": "refunded",
}


def _entry(at_us: int, what: str, detail: str = "") -> Entry:
    return {"at_us": at_us, "what": what, "detail": plain_value(detail)}


def counted_entry(record: Record) -> Entry:
    """What was found in a document."""
    payload = record.payload
    number, pages = payload.get("document", 1), payload.get("pages")
    of = f" in document {number}" if number != 1 else ""
    if pages is None:
        return _entry(
            record.event_us, f"counted: nobody knows how many pages{of}", str(payload.get("reason"))
        )
    parts = [] if payload.get("is_exact") else ["as the document claims"]
    colour = payload.get("colour_pages")
    if colour is not None:
        parts.append(f"{colour} of them with color")
    impressions, sheets = payload.get("impressions"), payload.get("media_sheets")
    if impressions is not None:
        parts.append(f"the job: {impressions} impressions a copy, {sheets} sheets in all")
    return _entry(record.event_us, f"counted: {pages} pages{of}", "; ".join(parts))


def release_entry(one: ReleaseEntry, known: Known, names: Names) -> Entry:
    """Who released the job, where, and on what terms."""
    fields = one.fields
    where = known.name_of(one.printer_id)
    person = fields.get("person")
    if person is not None:
        what = f"released by {names.person(UUID(bytes=person))} at {where}"
    elif fields.get("by") == "node":
        what = f"cleared to print on {where}"
    else:
        what = f"released by the operator {fields.get('by')} to {where}"
    parts = [f"from {names.actor(fields['where'])}"] if fields.get("where") else []
    if "copies" in fields:
        parts.append(f"with {fields['copies']} copies")
    parts += [f"by the rule `{rule}`" for rule in fields.get("terms", ())]
    return _entry(one.released_us, what, "; ".join(parts))


def charge_entries(story: Story, names: Names) -> list[Entry]:
    """A charge: whom, how that was found, how its price came about, and each step in the purses."""
    charge = story.charge
    found = _FOUND.get(charge.payer.by, charge.payer.by)
    version = f"price list {charge.quote.price_version}"
    payer = names.holder(charge.payer.guid)
    shadow = ", in shadow mode: nobody pays" if charge.is_shadow else ""
    told = [
        _entry(charge.happened_us, f"paid by {payer}, {found}{shadow}"),
        _entry(
            charge.happened_us,
            f"price {format_amount(charge.total)}, by {version}",
            "; ".join(quote_lines(charge.quote)),
        ),
    ]
    for entry in story.entries:
        step = _STEPS.get(entry.cause, entry.cause)
        if entry.cause == "settle" and entry.amount > 0:
            step = "charged for less than was reserved; given back"
        purses = [
            f"{line.kind}{f' {line.period}' if line.period else ''} "
            f"{format_amount(line.before)} -> {format_amount(line.after)}"
            for line in entry.lines
        ]
        amount = format_amount(abs(entry.amount))
        what = f"{step} {amount}" if purses else step
        told.append(_entry(entry.booked_us, what, "; ".join([*purses, entry.reason]).strip("; ")))
    if charge.flags:
        told.append(
            _entry(
                charge.ended_us or charge.happened_us, "to be looked at", ", ".join(charge.flags)
            )
        )
    return told


def quote_lines(quote: Quote) -> list[str]:
    """The derivation of a price, a text for each line."""
    return [
        f"{one['text']}: {_many(one['count'], one['unit'])} at {one['price']} = {one['amount']}"
        for one in quote.told()
    ]


def _many(count: str, unit: str) -> str:
    return f"{count} {unit}{'' if count == '1' or unit == Per.M2 else 's'}"


async def cost_entries(call: Call, job: Job, known: Known) -> list[Entry]:
    """The releases and charges of a job."""
    reader = call.services.reader
    entries = await reader.look(release.releases, job.id)
    stories = await reader.look(ledger_views.charges_of_job, job.id)
    guids = [UUID(bytes=one.fields["person"]) for one in entries if "person" in one.fields]
    guids += [one.charge.payer.guid for one in stories]
    names = await Names.of(call.services, guids)
    told = [release_entry(one, known, names) for one in entries]
    for story in stories:
        told += charge_entries(story, names)
    return told
