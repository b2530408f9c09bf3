"""What operations of MFDs are tested with: people with cards and money, and held jobs."""

from __future__ import annotations

from uuid import uuid4

from spoold.model.purse import PayerKind
from spoold.spool.store import Adjust, PutUser

CENT = 100  # 1/10,000
PASSWORD = "correct horse"


async def add_user(desk, name="ada", credit=0, **fields):
    now_us = desk.spool.wall_clock()
    hashed = await desk.services.passwords.hash(PASSWORD)
    change = PutUser(name, now_us, password=hashed, is_new=True, fields=fields)
    user = await desk.spool.journal.commit(change)
    if credit:
        kind = PayerKind.PERSON
        change = Adjust(uuid4().bytes, kind, user.guid, credit, "start", now_us, "uid:0")
        await desk.spool.journal.commit(change)
    return user


async def balance(panel):
    return (await panel.at("resume"))["balance"]


async def add_job(desk, printer, owner="ada", **fields):
    return (await desk.spool.add_job(printer, owner=owner, **fields)).job_id
