"""What a site has done alone: jobs that were taken, printed and charged, in its spool."""

from __future__ import annotations

import time
from uuid import uuid4

from spoold.model.outcome import Delivered
from spoold.model.person import Owner
from spoold.model.pricing import PriceList, Rate, quote
from spoold.model.purse import Payer, PayerKind
from spoold.model.transitions import JobEvent
from spoold.model.usage import Line, Usage, Work
from spoold.spool.sqlite import SqliteStore
from spoold.spool.store import (
    AcceptJob,
    Change,
    EndAttempt,
    NewDocument,
    PutPrices,
    PutUser,
    Reserve,
    Settle,
    StartAttempt,
)

JOBS_AT_ONCE = 250
CHARGED_EVERY = 4  # of the jobs of a site one is charged: the others are free, or canceled
USAGE = Usage(Work.PRINT, (Line(2, 1, "monochrome", "two-sided", "iso_a4_210x297mm"),))


def fill(store: SqliteStore, records: int, people: int) -> int:
    """Go on, in the writer's thread, until there are so many records more; where they end."""
    printer_id = next(iter(store.printers))
    begun = store.position
    prices: PriceList = store.apply([PutPrices(PriceList(0, 0, (Rate(500),)), _now_us())])[0][0]
    names = [f"user{number}" for number in range(people)]
    users = store.apply([PutUser(name, _now_us(), is_new=True) for name in names])[0]
    cost = quote(prices, USAGE, None)
    while store.position - begun < records:
        now_us = _now_us()
        document = NewDocument(4, "blake3:00", "text/plain", b"page")
        accepted, _ = store.apply(
            [
                AcceptJob(printer_id, Owner(names[n % people]), "client", document, now_us)
                for n in range(JOBS_AT_ONCE)
            ]
        )
        ids = [one.job_id for one in accepted]
        store.apply([StartAttempt(one, 1, printer_id, now_us) for one in ids])
        ended = Delivered({"method": "ipp-job-state", "pages": 2})
        changes: list[Change] = [
            EndAttempt(one, 1, ended, JobEvent.DELIVER, (), now_us) for one in ids
        ]
        for n in range(0, JOBS_AT_ONCE, CHARGED_EVERY):
            payer = Payer(PayerKind.PERSON, users[n % people].guid)
            key = uuid4().bytes
            asked = Reserve(key, payer, cost, USAGE, None, now_us)
            changes.append(Settle(key, USAGE, now_us, unreserved=asked))
        store.apply(changes)
    return store.position


def _now_us() -> int:
    return time.time_ns() // 1000
