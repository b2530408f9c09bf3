"""Operations that users ask for: their own jobs, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from spoold.intake.arguments import owner
from spoold.model.job import JobReason, JobState
from spoold.model.person import Known, Owner
from spoold.model.principal import Port, Role
from spoold.model.transitions import JobEvent
from spoold.spool.store import AcceptJob, ChangeJob, NewDocument
from support.asking import refused
from support.people import ADA, RIGHT

ADA_BY_CERTIFICATE = replace(
    ADA, port=Port.MUTUAL, roles=frozenset({Role.USER}), method="certificate"
)
HELD = JobState.PENDING_HELD


async def accept(desk, printer, owner="ada", known=Known.CLAIMED, **fields) -> int:
    body = b"page\f"
    change = AcceptJob(
        printer.id,
        Owner(owner, known),
        "address:198.51.100.1",
        NewDocument(len(body), "blake3:00", "text/plain", body),
        desk.services.wall_clock(),
        client_host="198.51.100.1",
        title=f"{owner}'s secret",
        **fields,
    )
    return (await desk.spool.journal.commit(change)).job_id


@pytest.mark.parametrize("principal", [ADA, ADA_BY_CERTIFICATE])
async def test_a_user_lists_and_sees_their_own_jobs(desk, principal):
    """However their owner is known, and nobody else's."""
    printer = await desk.spool.add_printer()
    own = [await accept(desk, printer, known=known) for known in Known]
    other = await accept(desk, printer, "bob")
    listed = (await desk.ask("job.list", principal))["jobs"]
    assert [one["id"] for one in listed] == own
    assert {one["title"] for one in listed} == {"ada's secret"}
    assert (await desk.ask("job.show", principal, job=own[0]))["title"] == "ada's secret"
    assert (await refused(desk, "job.list", principal, owner="bob")).code == "forbidden"
    assert len((await desk.ask("job.list", principal, owner="ADA"))["jobs"]) == len(own)
    if Role.ANYBODY in principal.roles:
        shown = await desk.ask("job.show", principal, job=other)
        assert set(shown) == {"id", "uuid", "state", "reasons"}
    else:
        assert (await refused(desk, "job.show", principal, job=other)).code == "not-found"


async def test_a_user_without_a_name_owns_nothing(desk):
    """Jobs of nobody are not theirs."""
    printer = await desk.spool.add_printer()
    await accept(desk, printer, "")
    nameless = replace(ADA, name="")
    assert "title" not in await desk.ask("job.show", nameless, job=1)
    assert (await refused(desk, "job.hold", nameless, job=1)).code == "forbidden"


async def test_a_user_steers_their_own_jobs(desk):
    """Hold, release, cancel; the journal says who it was."""
    printer = await desk.spool.add_printer()
    job = await accept(desk, printer)
    for op, state in (("hold", "pending-held"), ("release", "pending"), ("cancel", "canceled")):
        (done,) = (await desk.ask(f"job.{op}", ADA, job=job))["results"]
        assert (done["ok"], done["state"], done["title"]) == (True, state, "ada's secret")
    assert JobReason.JOB_CANCELED_BY_USER in (await desk.services.reader.job(job)).reasons
    records = await desk.services.reader.records(1, 100)
    assert [one.actor for one in records if one.kind == "job-changed"] == [ADA.identity] * 3


@pytest.mark.parametrize("principal", [ADA, ADA_BY_CERTIFICATE])
@pytest.mark.parametrize("op", ["hold", "release", "cancel"])
async def test_a_user_steers_no_others_job(desk, op, principal):
    """One by one, by filter, or by asking for everybody's."""
    printer = await desk.spool.add_printer()
    job = await accept(desk, printer, "bob", state=HELD if op == "release" else JobState.PENDING)
    error = await refused(desk, f"job.{op}", principal, job=job)
    assert error.code == ("forbidden" if principal.port is Port.TLS else "not-found")
    error = await refused(desk, f"job.{op}", principal, filter={"owner": "bob"})
    assert error.code == "forbidden"
    assert (await desk.ask(f"job.{op}", principal, filter={}))["results"] == []
    assert (await desk.services.reader.job(job)).state.value.startswith("pending")


async def test_a_user_cancels_all_their_jobs_at_once(desk):
    """Cancel-My-Jobs: an empty filter is everything of their own."""
    printer = await desk.spool.add_printer()
    own = [await accept(desk, printer) for _ in range(3)]
    other = await accept(desk, printer, "bob")
    done = (await desk.ask("job.cancel", ADA, filter={}))["results"]
    assert [one["id"] for one in done] == own
    assert (await desk.services.reader.job(other)).state is JobState.PENDING


async def test_a_job_that_waits_for_a_better_known_owner_is_not_released_by_the_owner(desk):
    """Who printed it is still only claimed; by filter neither. An operator may."""
    printer = await desk.spool.add_printer()
    reasons = (JobReason.OWNER_NOT_KNOWN_WELL_ENOUGH.value,)
    job = await accept(desk, printer, state=HELD, reasons=reasons)
    assert (await refused(desk, "job.release", ADA, job=job)).code == "not-possible"
    (done,) = (await desk.ask("job.release", ADA, filter={}))["results"]
    assert not done["ok"]
    operator = replace(ADA, roles=ADA.roles | {Role.OPERATOR})
    assert (await desk.ask("job.release", operator, job=job))["results"][0]["ok"]


async def test_without_a_login_the_sender_of_a_claimed_job_alone_cancels_it(desk):
    """As before there were users; a login as somebody else takes nothing away."""
    printer = await desk.spool.add_printer()
    job = await accept(desk, printer, "bob")
    there = replace(ADA, address="198.51.100.1")
    assert (await refused(desk, "job.cancel", ADA, job=job)).code == "forbidden"
    assert (await desk.ask("job.cancel", there, job=job))["results"][0]["state"] == "canceled"


async def test_a_follower_is_told_messages_of_their_own_job_alone(desk):
    """What a job says of itself may name people."""
    printer = await desk.spool.add_printer()
    for owner_name, told in (("ada", "see bob"), ("bob", "")):
        job = await accept(desk, printer, owner_name)
        change = ChangeJob(job, JobEvent.CANCEL, 1, reasons=("x",), message="see bob")
        await desk.spool.journal.commit(change)
        await desk.ask("job.follow", ADA, job=job)
        assert [args["message"] for _, args in desk.events] == [told]


async def test_the_story_of_a_job_names_users(desk):
    """Who sent it and who held it, by name; and that the owner may act."""
    added = await desk.ask("user.add", name="ada")
    identity = f"user:{added['guid']}"
    printer = await desk.spool.add_printer()
    job = await accept(desk, printer)
    await desk.ask("job.hold", replace(ADA, identity=identity), job=job)
    told = await desk.ask("job.explain", job=job)
    assert "held by the user ada" in [one["what"] for one in told["story"]]
    assert "the user ada, after a login: show, release, cancel" in told["may_act"]


@pytest.mark.parametrize("said", ["", "ada", "bob", "EXAMPLE\\root"])
def test_who_is_proven_owns_what_they_submit(said):
    """Whatever a print system says of the local account beside it."""
    assert owner(ADA, said) == Owner("ada", Known.AUTHENTICATED, "basic")
    assert owner(ADA_BY_CERTIFICATE, said) == Owner("ada", Known.AUTHENTICATED, "certificate")


def test_the_key_of_a_user_is_a_guid():
    """As certificates and principals write it."""
    assert UUID(ADA.identity.removeprefix("user:"))


async def test_a_user_gets_another_name_and_stays_the_same(desk):
    """Jobs, cards and money go along; another user's name is refused."""
    before = await desk.ask("user.add", name="ada", password=RIGHT, groups=["staff"])
    await desk.ask("user.add-card", name="ada", card="04A1B2C3")
    await desk.ask("user.add", name="bob")
    printer = await desk.spool.add_printer("held")
    job_id = await accept(desk, printer)
    await desk.ask("account.adjust", name="user:ada", amount=20000, reason="gift")
    assert (await refused(desk, "user.set", name="ada", rename="bob")).code == "conflict"
    after = await desk.ask("user.set", name="ada", rename="lovelace", full_name="Ada L.")
    assert (after["guid"], after["name"], after["full_name"]) == (
        before["guid"],
        "lovelace",
        "Ada L.",
    )
    assert len(after["cards"]) == 1
    assert (await desk.spool.reader.job(job_id)).owner.name == "lovelace"
    assert (await desk.ask("account.show", name="user:lovelace"))["balance"] == 20000
    assert (await refused(desk, "user.show", name="ada")).code == "not-found"
    assert (await desk.ask("user.set", name="lovelace", rename="ada"))["name"] == "ada"
