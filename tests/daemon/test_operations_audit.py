"""The audit trail: acts of people, by name, and nothing of what happens by the day."""

from __future__ import annotations

import pytest

from spoold.model.principal import Port, Principal, Role
from spoold.model.record import Kind, is_administrative
from spoold.spool.store import AddRecord

OPERATOR_NAME = "olga"


@pytest.fixture
async def olga(desk):
    """An operator who is known by a login."""
    added = await desk.ask("user.add", name=OPERATOR_NAME, roles=["operator"], password="secret-8")
    roles = frozenset({Role.OPERATOR, Role.USER})
    return Principal(f"user:{added['guid']}", Port.TLS, roles, OPERATOR_NAME)


async def test_acts_are_told_with_who_did_them(desk, olga):
    """Printers, users and other people's jobs; not jobs that come, nor one's own."""
    printer = await desk.spool.add_printer("frontdesk")
    own = await desk.spool.add_job(printer, owner=OPERATOR_NAME)
    other = await desk.spool.add_job(printer, owner="peter")
    await desk.ask("job.cancel", olga, job=own.job_id)
    await desk.ask("job.cancel", olga, job=other.job_id)
    await desk.ask("printer.pause", olga, name="frontdesk")
    found = (await desk.ask("journal.audit"))["records"]
    told = [(one["who"], one["kind"], one["payload"].get("job")) for one in found]
    assert told[:2] == [
        (OPERATOR_NAME, Kind.PRINTER_CHANGED, None),
        (OPERATOR_NAME, Kind.JOB_CHANGED, other.job_id),
    ]
    assert ("root (local)", Kind.USER_CHANGED, None) in told
    kinds = {kind for _, kind, _ in told}
    assert kinds.isdisjoint({Kind.JOB_ACCEPTED, Kind.PERSON_NAMED})
    assert sum(kind == Kind.JOB_CHANGED for _, kind, _ in told) == 1
    positions = [one["position"] for one in found]
    assert positions == sorted(positions, reverse=True)


async def test_the_trail_comes_in_pages_and_since_a_time(desk):
    """No act is told twice or left out, however many records lie between."""
    for number in range(30):
        kind = Kind.LOGIN_REFUSED if number % 10 == 0 else Kind.JOB_ACCEPTED
        await desk.spool.journal.commit(AddRecord(kind, {"number": number}, 1000 + number))
    seen, before = [], None
    while True:
        more = {} if before is None else {"before": before}
        answer = await desk.ask("journal.audit", limit=1, **more)
        seen += answer["records"]
        before = answer["next_before"]
        if before is None:
            break
    assert [one["payload"]["number"] for one in seen] == [20, 10, 0]
    answer = await desk.ask("journal.audit", since_us=1010)
    assert [one["payload"]["number"] for one in answer["records"]] == [20, 10]


def test_what_nobody_knows_is_told():
    """A kind of a later version is rather told than hidden."""
    assert is_administrative("rights-granted", "node")
    assert not is_administrative(Kind.ATTEMPT_ENDED, "uid:0")
    assert not is_administrative(Kind.JOB_CHANGED, "node")
    assert is_administrative(Kind.JOB_CHANGED, "uid:0")
