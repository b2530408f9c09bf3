"""Operations that tell of a job: followed to its end, and explained."""

from __future__ import annotations

from dataclasses import replace

import trio

from spoold.cli.render import local_time
from spoold.daemon.operations.story import who_may_act
from spoold.model.job import JobState
from spoold.model.outcome import Deferred, Delivered
from spoold.model.person import Known
from spoold.model.transitions import JobEvent
from spoold.spool.store import ChangeJob, PutProvider
from support.asking import GUID, OPERATOR, PROVIDER, STRANGER, accept, end, put_in_doubt, start


async def test_a_follower_sees_each_state_until_the_last(desk):
    """The state now, each change in order, and the job as the answer."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer, title="t")
    told: list[tuple[str, list[str]]] = []
    first = trio.Event()

    async def send(name, args):
        assert (name, args["job_id"]) == ("job-state", id_)
        told.append((args["state"], args["reasons"]))
        first.set()

    answers = []

    async def follow():
        answers.append(await desk.table.call(STRANGER, "job.follow", {"job": id_}, send))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await first.wait()
        number = await start(desk, id_, printer)
        done = Delivered({"bytes": 5})
        await end(desk, id_, number, done, JobEvent.DELIVER, "job-completed-successfully")
    assert told == [
        ("pending", []),
        ("processing", []),
        ("completed", ["job-completed-successfully"]),
    ]
    assert answers[0]["state"] == "completed"
    assert "title" not in answers[0]
    assert not desk.services.watch._followers


async def test_a_follower_who_may_know_is_told_how_many_sides_came_out(desk):
    """Where the last delivery's evidence has them; a stranger is told no more than the state."""
    printer = await desk.spool.add_printer()
    for evidence, impressions in (({"pages": 7}, 7), ({"bytes": 5}, None)):
        id_ = await accept(desk, printer)
        number = await start(desk, id_, printer)
        done = Delivered(evidence)
        await end(desk, id_, number, done, JobEvent.DELIVER, "job-completed-successfully")
        answer = await desk.ask("job.follow", job=id_)
        assert answer.get("impressions") == impressions
        assert "impressions" not in await desk.ask("job.follow", STRANGER, job=id_)


async def test_following_a_finished_job_ends_at_once(desk):
    """One event and the answer."""
    id_ = await accept(desk, await desk.spool.add_printer())
    await desk.ask("job.cancel", job=id_)
    answer = await desk.ask("job.follow", job=id_)
    assert [name for name, _ in desk.events] == ["job-state"]
    assert answer["state"] == "canceled"


async def test_explain_tells_the_story_in_order(desk):
    """From where, whose, held and moved by whom, each attempt with its evidence, and the end."""
    here = await desk.spool.add_printer("here", uri="socket://192.0.2.9")
    there = await desk.spool.add_printer("there", uri="socket://192.0.2.10")
    now = desk.services.wall_clock()
    await desk.spool.journal.commit(PutProvider(GUID, "till", "01", ("*",), now, now))
    id_ = await accept(
        desk,
        here,
        submitter=PROVIDER.identity,
        client_host="192.0.2.7",
        intake="frames",
        known=Known.ASSERTED,
    )
    until_us = now + 3_600_000_000
    await desk.ask("job.hold", OPERATOR, job=id_, hold_until_us=until_us)
    told = (await desk.ask("job.explain", OPERATOR, job=id_))["waits"]
    assert told.startswith(f"It is held until {local_time(until_us)[:19]}, or ")
    await desk.ask("job.move", OPERATOR, job=id_, to="there")
    await desk.ask("job.release", OPERATOR, job=id_)
    number = await start(desk, id_, there)
    outcome = Deferred("connecting-to-device", "No route to host.")
    await end(desk, id_, number, outcome, JobEvent.DEFER, "connecting-to-device")
    number = await start(desk, id_, there)
    done = Delivered({"method": "half-close", "bytes": 5, "said": ["a", "b"]})
    await end(desk, id_, number, done, JobEvent.DELIVER, "job-completed-successfully")
    answer = await desk.ask("job.explain", OPERATOR, job=id_)
    story = [entry["what"] for entry in answer["story"]]
    assert story == [
        "received from 192.0.2.7 over the frames protocol",
        "owner ada, asserted by a provider",
        "accepted to here, pending",
        "held by the local user 1000",
        "moved to there by the local user 1000",
        "released by the local user 1000",
        "attempt 1 began",
        "attempt 1 ended, put off: nothing of it printed",
        "attempt 2 began",
        "attempt 2 ended, delivered",
        "completed",
    ]
    details = [entry["detail"] for entry in answer["story"]]
    assert details[1] == "handed over by the provider till"
    assert details[6] == "socket://192.0.2.10"
    assert details[7] == "connecting-to-device; No route to host."
    assert details[9] == "5 bytes sent; method=half-close; said=a, b"
    times = [entry["at_us"] for entry in answer["story"]]
    assert times == sorted(times)
    assert answer["waits"] == ""
    assert answer["may_act"] == [
        "operators: retry",
        "the provider till, with its certificate: show, follow",
    ]


async def test_the_end_of_a_story_says_why_it_came_to_that(desk):
    """Not the reasons alone: what a person reads of the job says it, too."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer)
    said = "The printer takes no jobs of this user."
    now_us = desk.services.wall_clock()
    refused = ChangeJob(id_, JobEvent.REFUSE, now_us, reasons=("aborted-by-system",), message=said)
    await desk.spool.journal.commit(refused)
    last = (await desk.ask("job.explain", OPERATOR, job=id_))["story"][-1]
    assert (last["what"], last["detail"]) == ("aborted", f"aborted-by-system; {said}")


async def test_explain_says_why_a_job_waits(desk):
    """Paused printers, jobs ahead, doubt, interruption and holds each have their sentence."""
    printer = await desk.spool.add_printer("p")
    first = await accept(desk, printer)
    second = await accept(desk, printer, client_host="192.0.2.7")
    urgent = await accept(desk, printer, priority=90)

    async def why(id_):
        return (await desk.ask("job.explain", job=id_))["waits"]

    assert await why(urgent) == "It is next on p."
    assert (await why(first)).startswith("1 job is ahead of it on p")
    assert (await why(second)).startswith("2 jobs are ahead of it on p")
    await desk.ask("printer.set", name="p", order="fifo")
    assert await why(urgent) == "2 jobs are ahead of it on p."
    assert await why(first) == "It is next on p."
    await desk.ask("printer.pause", name="p", reason="new toner")
    assert await why(first) == "p is paused (new toner): `spoold printer resume p`."
    await desk.ask("job.hold", job=second)
    assert f"spoold job release {second}" in await why(second)
    may_act = (await desk.ask("job.explain", job=second))["may_act"]
    assert may_act == [
        "operators: release, cancel, move",
        "whoever is at 192.0.2.7: cancel, as the owner is only claimed",
    ]
    await put_in_doubt(desk, first, printer)
    assert f"spoold job settle {first}" in await why(first)
    may_act = (await desk.ask("job.explain", job=first))["may_act"]
    assert may_act == ["operators: settle, cancel"]
    job = replace(await desk.spool.reader.job(urgent), state=JobState.COMPLETED)
    assert who_may_act(job, {}, None) == ["operators: retry"]
    gone = replace(job, document=replace(job.document, stored="gone"))
    assert who_may_act(gone, {}, None) == []
    cut = await accept(
        desk,
        printer,
        state=JobState.PENDING_HELD,
        reasons=("submission-interrupted",),
        message="the PDF has no %%EOF at its end",
    )
    assert "(the PDF has no %%EOF at its end), so its end may be missing. C" in await why(cut)
    poor = await accept(
        desk,
        printer,
        state=JobState.PENDING_HELD,
        reasons=("account-limit-reached",),
        message="this costs 0.25, and 0.00 is left.",
    )
    assert (await why(poor)).endswith("tried at once. This costs 0.25, and 0.00 is left.")
    story = (await desk.ask("job.explain", job=cut))["story"]
    assert "the submission was interrupted" in [entry["what"] for entry in story]
    await start(desk, urgent, printer)
    assert (await why(urgent)).startswith("It is being printed")
    await desk.ask("job.cancel", job=urgent)
    assert (await why(urgent)).startswith("It was asked to stop")


async def test_a_story_of_hundreds_of_attempts_fits_a_message(desk):
    """The beginning and the end are told; what is left out is counted."""
    printer = await desk.spool.add_printer()
    id_ = await accept(desk, printer)
    for _ in range(120):
        number = await start(desk, id_, printer)
        outcome = Deferred("device-busy", "x" * 900)
        await end(desk, id_, number, outcome, JobEvent.DEFER, "device-busy")
    answer = await desk.ask("job.explain", job=id_)
    assert any("left out" in entry["what"] for entry in answer["story"])
    assert answer["story"][-1]["what"].startswith("attempt 120 ended")
    shown = await desk.ask("job.show", job=id_)
    assert shown["attempts_list"][-1]["number"] == 120
    assert shown["attempts"] == 120
