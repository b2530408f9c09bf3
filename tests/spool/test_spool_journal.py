"""The journal's door: groups, those who hang up, a bound on what waits, an end that all hear."""

from __future__ import annotations

import os
import threading
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from spoold.model.errors import OperationError, SpoolError, StoreFailed
from spoold.spool import journal as module
from spoold.spool.journal import Journal
from spoold.spool.sqlite import open_store
from spoold.spool.store import AddRecord, PutDevice, RemoveCursor
from support.chain import verified

CHAIN = UUID("00000000-0000-4000-8000-000000000002")


def fact(text="", **fields):
    return AddRecord("test-fact", {"text": text, **fields}, 1)


@asynccontextmanager
async def opened(data_dir):
    """A journal whose `run` is the test's to start, and to see fail."""
    writer, store = await open_store(data_dir, 1, os.urandom, CHAIN)
    try:
        yield Journal(writer, store)
    finally:
        with trio.CancelScope(shield=True):
            await writer.close()
            store.close()


async def test_what_was_handed_over_tells_its_failure_as_often_as_it_is_asked(tmp_path):
    """Whoever cleans up after a failed commit asks again, and hears the same."""
    async with opened(tmp_path) as journal:
        handed = journal.hand_over([fact()])
        journal._store.fail(OSError("no disk"))
        with pytest.raises(StoreFailed):
            await journal.run()
        for _ in range(2):
            with pytest.raises(StoreFailed):
                await handed.wait()


async def test_a_disk_that_does_not_answer_is_a_failed_one(tmp_path):
    """Whoever waits hears so after a while, and so does the daemon; nothing is written any more."""
    writer, store = await open_store(tmp_path, 1, os.urandom, CHAIN)
    journal = Journal(writer, store, commit_deadline_s=0.05)
    answered = threading.Event()

    async def commit():
        with pytest.raises(StoreFailed, match="has not answered"):
            await journal.commit(fact())

    async def hang():
        await writer.run(answered.wait)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(commit)
            with pytest.raises(StoreFailed, match="has not answered"):
                await journal.run()
            answered.set()
        with pytest.raises(StoreFailed):
            await journal.commit(fact())
    finally:
        answered.set()
        await writer.close()
        store.close()


async def test_what_has_gathered_is_one_commit(tmp_path):
    """A hundred changes that wait together cost one sync, and are in the order they came in."""
    async with opened(tmp_path) as journal, trio.open_nursery() as nursery:
        positions = []

        async def commit(number):
            positions.append((number, await journal.commit(fact(number))))

        for number in range(100):
            nursery.start_soon(commit, number)
        await trio.testing.wait_all_tasks_blocked()
        await nursery.start(journal.run)
        while len(positions) < 100:
            await trio.testing.wait_all_tasks_blocked()
        assert journal.commits == 1
        assert {position for _, position in positions} == set(range(1, 101))
        journal.close_nowait()


async def test_who_comes_a_little_later_is_committed_with_the_many_that_wait(tmp_path):
    async with opened(tmp_path) as journal, trio.open_nursery() as nursery:
        await nursery.start(journal.run)
        await trio.testing.wait_all_tasks_blocked()  # it waits for work
        for _ in range(2 * module.TURN_CHANGES):  # enough for two turns
            journal.hand_over([fact()])
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        await journal.commit(fact())
        assert journal.commits == 1
        journal.close_nowait()


async def test_listeners_hear_before_those_who_wait(spool):
    """Whoever acts on an answer finds that everybody else knows already."""
    heard = []

    def hear(_events):
        heard.append(spool.journal.head)

    spool.journal.listen(hear)
    position = await spool.journal.commit(fact())
    assert heard == [position]
    spool.journal.unlisten(hear)
    await spool.journal.commit(fact())
    assert heard == [position]


async def test_a_change_that_was_handed_over_is_committed_though_nobody_waits(tmp_path):
    """A client that hangs up cannot split a group; its job is found again by uuid."""
    async with opened(tmp_path) as journal, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_blocked, scope)
            await journal.commit(fact("orphan"))
        assert scope.cancelled_caught
        await nursery.start(journal.run)
        assert await journal.commit(fact("next")) == 2
        journal.close_nowait()


async def _cancel_when_blocked(scope):
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_whoever_comes_when_too_much_waits_waits_outside(tmp_path, monkeypatch):
    """Past the limit nothing more is taken; who is cancelled outside has left nothing."""
    monkeypatch.setattr(module, "WAITING_CHANGES_MAX", 3)
    async with opened(tmp_path) as journal, trio.open_nursery() as nursery:
        done = []

        async def commit(number):
            done.append(await journal.commit(fact(number)))

        for number in range(8):
            nursery.start_soon(commit, number)
        await trio.testing.wait_all_tasks_blocked()
        assert journal._queued == 3
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_blocked, scope)
            await journal.commit(fact("too much"))
        await nursery.start(journal.run)
        while len(done) < 8:
            await trio.testing.wait_all_tasks_blocked()
        assert sorted(done) == list(range(1, 9))
        journal.close_nowait()


async def test_a_failed_store_wakes_everybody(tmp_path, monkeypatch):
    """Those in the group, those behind it, those outside, and all who come later: none hangs."""
    monkeypatch.setattr(module, "WAITING_CHANGES_MAX", 3)
    monkeypatch.setattr(module, "GROUP_CHANGES_MAX", 2)
    heard = []
    async with opened(tmp_path) as journal:
        await journal._writer.run(journal._store.db.close)  # every statement fails from now on

        async def commit(number):
            with pytest.raises(StoreFailed):
                await journal.commit(fact(number))
            heard.append(number)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(commit, number)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(StoreFailed):
                    await journal.run()
            await commit(6)
        assert sorted(heard) == list(range(7))


async def test_a_writer_that_crashes_leaves_nobody_waiting_behind_a_shield(tmp_path):
    """Our own bug ends the daemon at once, not when every shield has run out."""
    async with opened(tmp_path) as journal:

        def crash(_events):
            raise ZeroDivisionError

        journal.listen(crash)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:

                async def commit():
                    with trio.CancelScope(shield=True), pytest.raises(StoreFailed):
                        await journal.commit(fact())

                nursery.start_soon(commit)
                await trio.testing.wait_all_tasks_blocked()
                with pytest.raises(ZeroDivisionError):
                    await journal.run()


async def test_closing_commits_what_was_handed_over_and_refuses_what_comes_later(tmp_path):
    """The journal is closed last; a straggler hears that it is, instead of waiting for ever."""
    async with opened(tmp_path) as journal, trio.open_nursery() as nursery:
        answers = []

        async def commit():
            answers.append(await journal.commit(fact()))

        nursery.start_soon(commit)
        await trio.testing.wait_all_tasks_blocked()
        journal.close_nowait()
        await journal.run()
        await trio.testing.wait_all_tasks_blocked()
        assert answers == [1]
        with trio.fail_after(30), pytest.raises(SpoolError, match="stopped"):
            await journal.commit(fact())


@pytest.mark.parametrize(
    "payload",
    [{"text": "x" * 40_000}, {"text": "\udc80"}, {"text": object()}, {"number": 1 << 70}],
    ids=["large", "surrogate", "object", "number"],
)
async def test_what_does_not_fit_into_a_record_is_refused(spool, payload):
    """Neither an operator's long option nor a driver's odd evidence ends the daemon."""
    before = spool.journal.head
    answers = await spool.journal.commit_all([fact(), AddRecord("test-fact", payload, 1), fact()])
    assert isinstance(answers[1], OperationError)
    assert answers[1].code == "too-large"
    assert [answers[0], answers[2]] == [before + 1, before + 2]
    assert await verified(spool.reader) == before + 2


async def test_a_device_with_endless_options_is_refused(spool):
    """What an operator may type is not bounded by what a record holds."""
    options = {f"option-{n}": "x" * 512 for n in range(100)}
    with pytest.raises(OperationError):
        await spool.journal.commit(PutDevice(uuid4(), "file:///nowhere", 1, options))
    assert await spool.reader.devices() == []


async def test_a_refusal_writes_no_record(spool):
    """A group of refusals alone moves nothing."""
    before = spool.journal.head
    answers = await spool.journal.commit_all([RemoveCursor("none", 1)] * 2)
    assert [answer.code for answer in answers] == ["not-found"] * 2
    assert spool.journal.head == before
