"""The schedule with everything at once, and with many jobs."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from random import Random
from sys import intern

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoold.dispatch import schedule as schedule_module
from spoold.dispatch.queues import Choice
from spoold.dispatch.schedule import Backoff, Schedule
from spoold.model.printer import Order
from support.schedules import make_printer, make_schedule, print_all, start_all

PRINTERS = [
    make_printer(1, 1),
    make_printer(2, 1, order=Order.FIFO),
    make_printer(3, 2),
    make_printer(4, 3, order=Order.FIFO),
    make_printer(5, members=("p1", "p3"), standby=("p4",)),
    make_printer(6, members=("p3", "p4"), order=Order.FIFO),
]
STEP = st.tuples(
    st.sampled_from(["add", "remove", "pause", "resume", "start", "succeed", "fail", "defer"]),
    st.integers(1, 12),
    st.integers(1, 6),
)


@settings(max_examples=150)
@given(st.lists(STEP, max_size=80), st.integers())
def test_each_device_has_one_attempt_and_each_job_is_chosen_in_the_end(
    steps: list[tuple[str, int, int]], seed: int
) -> None:
    """Under any history, a device is never busy twice, and all that waits is taken in the end."""
    schedule = Schedule(Backoff(), Random(seed))
    for printer in PRINTERS:
        schedule.set_printer(printer)
    waiting: dict[int, int] = {}
    active: dict[int, Choice] = {}
    now_s = 0.0

    def start() -> None:
        for choice in start_all(schedule, now_s):
            assert choice.device_id not in active
            assert waiting.pop(choice.job_id) == choice.queue_id
            assert schedule.retry_at_s(choice.device_id, now_s) is None
            active[choice.device_id] = choice

    for what, job_id, printer_id in steps:
        now_s += 0.4
        printer = PRINTERS[printer_id - 1]
        if what == "add":
            if job_id not in (choice.job_id for choice in active.values()):
                schedule.add(job_id, printer_id, f"u{job_id % 3}", 50 + job_id % 2)
                waiting[job_id] = printer_id
        elif what == "remove":
            schedule.remove(job_id)
            waiting.pop(job_id, None)
        elif what in ("pause", "resume"):
            schedule.set_printer(replace(printer, paused=what == "pause"))
        elif what == "start":
            start()
        elif printer.device_id in active:
            choice = active.pop(printer.device_id)
            if what == "succeed":
                schedule.succeed(choice.device_id)
                schedule.remove(choice.job_id)
            else:
                if what == "fail":
                    schedule.fail(choice.device_id, now_s)
                else:
                    schedule.defer(choice.job_id, now_s)
                schedule.put_back(choice)
                waiting[choice.job_id] = choice.queue_id
            schedule.finish(choice.device_id)
        assert len(schedule) == len(waiting)

    for choice in active.values():
        schedule.succeed(choice.device_id)
        schedule.finish(choice.device_id)
    for printer in PRINTERS:
        schedule.set_printer(printer)
    assert sorted(print_all(schedule, now_s)) == sorted(waiting)
    assert len(schedule) == 0


def held_bytes() -> int:
    """What is held of all that the schedule, or these tests for it, allocated while traced.

    Other threads allocate, too, when other tests ran before.
    """
    ours = {__file__, *map(str, Path(schedule_module.__file__).parent.glob("*.py"))}
    found = tracemalloc.take_snapshot().statistics("filename")
    return sum(one.size for one in found if one.traceback[0].filename in ours)


@pytest.mark.slow
def test_many_jobs_are_light() -> None:
    """20,000 waiting jobs of a thousand users take 300 bytes each at most, and leave nothing."""
    schedule = make_schedule(*(make_printer(n, n) for n in range(1, 9)))
    # The interpreter's table of names may double at any new one: that is not the schedule's.
    owners = [intern(f"user{number}") for number in range(1000)]
    tracemalloc.start()
    try:
        for job_id in range(1, 20_001):
            schedule.add(job_id, 1 + job_id % 8, owners[job_id % 1000], 50)
        full = held_bytes()
        for job_id in range(1, 20_001):
            schedule.remove(job_id)
        empty = held_bytes()
    finally:
        tracemalloc.stop()
    assert full < 6_000_000
    assert empty < 1_500_000  # the table of a dict keeps its size
    assert start_all(schedule, 0.0) == []


@pytest.mark.slow
def test_many_removals_in_the_middle_leave_no_stale_ids() -> None:
    """Cancelling all but one of a user's jobs, again and again, does not grow the heaps."""
    schedule = make_schedule(make_printer(1, 1))
    schedule.add(1, 1, "ann", 50)
    tracemalloc.start()
    try:
        for job_id in range(2, 20_000):
            schedule.add(job_id, 1, "ann", 50)
            schedule.remove(job_id)
        kept = held_bytes()
    finally:
        tracemalloc.stop()
    assert kept < 50_000
    assert print_all(schedule) == [1]
