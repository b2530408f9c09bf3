"""Users as an administrator keeps them, and what users may do with their own jobs."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from spoold.intake.arguments import owner
from spoold.model.errors import OperationError
from spoold.model.job import JobReason, JobState
from spoold.model.person import Known, Owner
from spoold.model.principal import Port, Principal, Role
from spoold.model.transitions import JobEvent
from spoold.model.user import check_password, check_user_name
from spoold.spool.store import AcceptJob, ChangeJob, NewDocument

RIGHT = "correct horse"
ADA = Principal(
    "user:00000000-0000-4000-8000-0000000000ad",
    Port.TLS,
    frozenset({Role.USER, Role.ANYBODY}),
    "ada",
    (),
    "192.0.2.7",
    "basic",
)
ADA_BY_CERTIFICATE = replace(
    ADA, port=Port.MUTUAL, roles=frozenset({Role.USER}), method="certificate"
)
HELD = JobState.PENDING_HELD


async def refused(desk, op, principal=None, **args) -> OperationError:
    with pytest.raises(OperationError) as caught:
        await (desk.ask(op, principal, **args) if principal else desk.ask(op, **args))
    return caught.value


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


# -- users ---------------------------------------------------------------------------------------


async def test_a_user_is_added_changed_shown_and_removed(desk):
    """Under the one form of the name; a password is never told again."""
    added = await desk.ask("user.add", name="EXAMPLE\\Ada", roles=["operator"], password=RIGHT)
    assert (added["name"], added["roles"], added["has_password"]) == (
        "ada",
        ["operator", "user"],
        True,
    )
    assert (await desk.services.logins.login("ada", RIGHT, "192.0.2.7")).roles == {
        Role.OPERATOR,
        Role.USER,
        Role.ANYBODY,
    }
    changed = await desk.ask("user.set", name="ADA", roles=["user"])
    assert (changed["guid"], changed["roles"], changed["has_password"]) == (
        added["guid"],
        ["user"],
        True,
    )
    changed = await desk.ask("user.set", name="ada", password="")
    assert not changed["has_password"]
    shown = await desk.ask("user.show", name="ada")
    assert shown == {**changed, "certificates": []}
    assert RIGHT not in f"{added}{shown}"
    assert (await desk.ask("user.list"))["users"] == [changed]
    assert (await desk.ask("user.remove", name="ada"))["name"] == "ada"
    assert (await desk.ask("user.list"))["users"] == []


async def test_users_are_listed_page_by_page(desk):
    """By name, each once."""
    for number in range(7):
        await desk.ask("user.add", name=f"user{number}")
    users, pages = await desk.ask_all("user.list", "users", limit=3)
    assert [one["name"] for one in users] == [f"user{number}" for number in range(7)]
    assert pages == 3


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"name": "a:b"}, "has a colon"),
        ({"name": "\u200b"}, "holds no name"),
        ({"name": "*"}, "stands for anybody"),
        ({"name": "a" * 256}, "longer than 255"),
        ({"name": "eve", "password": "short"}, "8 to 256 characters"),
        ({"name": "eve", "password": "x" * 257}, "8 to 256 characters"),
        ({"name": "eve", "password": "two\nlines of it"}, "control characters"),
        ({"name": "eve", "password": "a lone \ud800 surrogate"}, "control characters"),
        ({"name": "eve", "roles": ["provider"]}, "Use admin, operator, help-desk or user"),
        ({"name": "eve", "roles": ["root"]}, "Use admin"),
    ],
)
async def test_what_cannot_be_a_user_is_refused_with_advice(desk, args, told):
    """Nothing is kept of it, and no password is said back."""
    error = await refused(desk, "user.add", **args)
    assert error.code == "bad-request"
    assert told in str(error)
    assert args.get("password", "?no?") not in str(error)
    assert (await desk.ask("user.list"))["users"] == []


async def test_what_is_not_there_cannot_be_changed(desk):
    """And what is there is not added again."""
    for op in ("user.set", "user.remove", "user.show", "user.enrol", "user.revoke"):
        args = {"roles": ["user"]} if op == "user.set" else {}
        assert (await refused(desk, op, name="eve", **args)).code == "not-found"
    await desk.ask("user.add", name="ada")
    assert (await refused(desk, "user.add", name="Ada")).code == "conflict"
    assert (await refused(desk, "user.set", name="ada")).code == "bad-request"


async def test_a_certificate_names_the_user_by_key(desk):
    """Its key is handed out once; removing the user revokes it."""
    added = await desk.ask("user.add", name="ada", roles=["operator"])
    given = await desk.ask("user.enrol", name="ada", days=30)
    certificate = x509.load_pem_x509_certificate(given["certificate_pem"].encode())
    peer = desk.services.identity.identify(certificate.public_bytes(Encoding.DER))
    assert (peer.kind, str(peer.guid), peer.name) == ("user", added["guid"], "ada")
    assert given["guid"] == added["guid"]
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "ada"
    assert given["key_pem"].splitlines()[1] not in str(await desk.ask("journal.read"))
    (shown,) = (await desk.ask("user.show", name="ada"))["certificates"]
    assert shown == {
        "serial": given["serial"],
        "not_after_us": given["not_after_us"],
        "revoked": False,
    }
    assert (await desk.ask("user.remove", name="ada"))["serials"] == [given["serial"]]
    assert await desk.services.reader.revoked_serials() == [given["serial"]]


async def test_revoking_leaves_the_password(desk):
    """For a key that was lost."""
    await desk.ask("user.add", name="ada", password=RIGHT)
    given = await desk.ask("user.enrol", name="ada")
    assert (await desk.ask("user.revoke", name="ada"))["serials"] == [given["serial"]]
    assert (await refused(desk, "user.revoke", name="ada")).code == "not-possible"
    assert (await desk.services.logins.login("ada", RIGHT, "192.0.2.7")).name == "ada"


async def test_the_journal_tells_who_changed_whom_and_no_secret(desk):
    """The actor is whoever asked; neither password nor hash is in any record."""
    await desk.ask("user.add", name="ada", password=RIGHT)
    await desk.ask("user.set", name="ada", password="battery staple")
    records = (await desk.ask("journal.read"))["records"]
    told = [one for one in records if one["kind"] == "user-changed"]
    assert {one["actor"] for one in told} == {"uid:0"}
    for secret in (RIGHT, "staple", "argon2"):
        assert secret not in str(records)


def test_names_and_passwords_have_one_form():
    """Of a user as of a job's owner; a password as its characters are seen."""
    assert check_user_name(" Zoë@EXAMPLE.ORG ") == "zoë"
    assert check_password("Zoe\u0308's\u00a0word") == "Zoë's word"


# -- their own jobs ------------------------------------------------------------------------------


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
