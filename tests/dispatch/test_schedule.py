"""The schedule: pure, so every promise is a property."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoold.dispatch import schedule as schedule_module
from spoold.dispatch.queues import Choice
from spoold.dispatch.schedule import Backoff, Schedule
from spoold.model.printer import Order, Printer

NO_JITTER = Backoff(first_s=1.0, max_s=60.0, jitter=0.0)


def make_printer(id_: int, device_id: int | None = None, **fields: object) -> Printer:
    name = fields.pop("name", f"p{id_}")
    return Printer(id_, UUID(int=id_), name, device_id, **fields)  # type: ignore[arg-type]


def make_schedule(*printers: Printer, backoff: Backoff = NO_JITTER) -> Schedule:
    schedule = Schedule(backoff, Random(1))
    for printer in printers:
        schedule.set_printer(printer)
    return schedule


def start_all(schedule: Schedule, now_s: float) -> list[Choice]:
    """Take everything that can be taken now, as the dispatcher does."""
    taken = []
    while devices := schedule.startable(now_s):
        for device_id in devices:
            choice = schedule.take(device_id, now_s)
            if choice is not None:
                taken.append(choice)
    return taken


def print_all(schedule: Schedule, now_s: float = 0.0) -> list[int]:
    """Print until nothing waits; the order in which jobs were chosen."""
    order = []
    while True:
        taken = start_all(schedule, now_s)
        order += [choice.job_id for choice in taken]
        for choice in taken:
            schedule.succeed(choice.device_id)
            schedule.finish(choice.device_id)
            schedule.remove(choice.job_id)
        if not taken:
            wake_s = schedule.wake_s()
            if wake_s is None:
                return order
            now_s = max(now_s, wake_s)


# -- order ---------------------------------------------------------------------------------


def test_fair_serves_the_highest_priority_first() -> None:
    """A job of a higher priority goes before all others, whoever owns them."""
    schedule = make_schedule(make_printer(1, 1))
    schedule.add(1, 1, "ann", 50)
    schedule.add(2, 1, "ben", 1)
    schedule.add(3, 1, "ann", 100)
    assert print_all(schedule) == [3, 1, 2]


def test_fair_serves_users_in_rounds_and_each_by_age() -> None:
    """One user with many jobs does not keep the others waiting."""
    schedule = make_schedule(make_printer(1, 1))
    for job_id in (1, 2, 3, 4):
        schedule.add(job_id, 1, "ann", 50)
    schedule.add(5, 1, "ben", 50)
    schedule.add(6, 1, "cem", 50)
    schedule.add(7, 1, "ben", 50)
    assert print_all(schedule) == [1, 5, 6, 2, 7, 3, 4]


@pytest.mark.parametrize("order", list(Order))
def test_a_promoted_job_passes_all_that_wait(order: Order) -> None:
    """Whatever the order of the printer; the last one that was promoted is next."""
    schedule = make_schedule(make_printer(1, 1, order=order))
    for job_id in (1, 2, 3, 4):
        schedule.add(job_id, 1, "ann", 50)
    schedule.add(3, 1, "ann", 101)
    schedule.add(4, 1, "ann", 102)
    assert print_all(schedule) == [4, 3, 1, 2]


@pytest.mark.parametrize("order", list(Order))
def test_a_follower_comes_right_after_the_job_that_it_follows(order: Order) -> None:
    """Neither before it, whatever its priority, nor after anybody else."""
    schedule = make_schedule(make_printer(1, 1, order=order))
    for job_id, owner in ((1, "ann"), (2, "ben"), (3, "ann"), (4, "cem")):
        schedule.add(job_id, 1, owner, 50)
    schedule.add(5, 1, "dan", 50)
    schedule.follow(5, 1)
    assert stream_all(schedule) == [1, 5, 2, *([3, 4] if order is Order.FIFO else [4, 3])]


def test_a_follower_waits_until_the_first_one_has_ended() -> None:
    """A first job that is put off is still the first; only its end lets the follower go."""
    schedule = make_schedule(make_printer(1, 1))
    schedule.add(1, 1, "ann", 50)
    schedule.add(2, 1, "ben", 90)
    schedule.follow(2, 1)
    (choice,) = start_all(schedule, 0.0)
    assert choice.job_id == 1
    schedule.put_back(choice)
    assert schedule.take_next(1, 0.0).job_id == 1
    assert schedule.take_next(1, 0.0).job_id == 2


def test_a_follower_of_a_job_that_goes_away_has_its_own_place() -> None:
    """Canceled, held or moved: nobody waits for it any more."""
    for leave in (
        lambda schedule: schedule.remove(2),
        lambda schedule: schedule.add(2, 2, "ann", 50),
        lambda schedule: schedule.unfollow(3),
    ):
        schedule = make_schedule(make_printer(1, 1), make_printer(2, 2, paused=True))
        for job_id in (1, 2, 3, 4):
            schedule.add(job_id, 1, "ann", 50)
        schedule.follow(3, 2)
        leave(schedule)
        schedule.remove(2)
        assert stream_all(schedule) == [1, 3, 4]


def test_a_follower_that_is_moved_does_not_wait_there() -> None:
    """What it was to follow is of the other printer."""
    schedule = make_schedule(make_printer(1, 1), make_printer(2, 2))
    schedule.add(1, 1, "ann", 50)
    schedule.add(2, 1, "ann", 50)
    schedule.follow(2, 1)
    schedule.add(2, 2, "ann", 50)
    assert sorted(choice.job_id for choice in start_all(schedule, 0.0)) == [1, 2]


def stream_all(schedule: Schedule) -> list[int]:
    """Print all that waits for device 1 in one stream, as the dispatcher does; the order."""
    order = []
    choice = schedule.take(1, 0.0)
    while choice is not None:
        order.append(choice.job_id)
        schedule.withdraw(choice.job_id)
        schedule.succeed(1)
        following = schedule.take_next(1, 0.0)
        schedule.remove(choice.job_id)
        choice = following
    return order


def test_fifo_knows_neither_priority_nor_user() -> None:
    """A fifo printer prints by age alone, and a job that comes back keeps its age."""
    schedule = make_schedule(make_printer(1, 1, order=Order.FIFO))
    for job_id, owner, priority in ((2, "ann", 1), (3, "ben", 100), (1, "cem", 50)):
        schedule.add(job_id, 1, owner, priority)
    assert print_all(schedule) == [1, 2, 3]


def test_changed_order_applies_to_jobs_that_wait() -> None:
    """Jobs that wait are put into the new order when the printer's order is changed."""
    schedule = make_schedule(make_printer(1, 1))
    for job_id, priority in ((1, 1), (2, 2), (3, 3)):
        schedule.add(job_id, 1, "ann", priority)
    schedule.set_printer(make_printer(1, 1, order=Order.FIFO))
    assert schedule.peek(1, 0.0) == Choice(1, 1, 1, 1, "ann", 1)
    schedule.set_printer(make_printer(1, 1))
    assert print_all(schedule) == [3, 2, 1]


JOBS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 50, 100])), max_size=40)


@given(JOBS)
def test_fair_counts_of_users_who_wait_differ_by_one_at_most(jobs: list[tuple[int, int]]) -> None:
    """At any moment, users of one priority who still wait have been served equally often."""
    schedule = make_schedule(make_printer(1, 1))
    owner_of = {}
    priority_of = {}
    for job_id, (owner, priority) in enumerate(jobs, 1):
        owner_of[job_id] = owner
        priority_of[job_id] = priority
        schedule.add(job_id, 1, str(owner), priority)
    order = print_all(schedule)
    assert sorted(order) == sorted(owner_of)
    assert [priority_of[j] for j in order] == sorted(priority_of.values(), reverse=True)
    for level in set(priority_of.values()):
        left = Counter(owner_of[j] for j in order if priority_of[j] == level)
        served = Counter(dict.fromkeys(left, 0))
        last = dict.fromkeys(left, 0)
        for job_id in (j for j in order if priority_of[j] == level):
            owner = owner_of[job_id]
            assert job_id > last[owner]
            last[owner] = job_id
            left[owner] -= 1
            served[owner] += 1
            counts = [served[each] for each in left if left[each]]
            assert not counts or max(counts) - min(counts) <= 1


@given(st.integers(1, 8), st.integers(1, 30))
def test_steady_newcomers_pass_nobody_over(newcomers: int, backlog: int) -> None:
    """A user with a backlog is served at least once a round, however many new users come."""
    schedule = make_schedule(make_printer(1, 1))
    for job_id in range(1, backlog + 1):
        schedule.add(job_id, 1, "patient", 50)
    next_id = backlog + 1
    since_patient = 0
    for _ in range(backlog * (newcomers + 2)):
        for _ in range(2):
            schedule.add(next_id, 1, f"new{next_id % newcomers}", 50)
            next_id += 1
        (choice,) = start_all(schedule, 0.0)
        schedule.finish(1)
        since_patient = 0 if choice.owner == "patient" else since_patient + 1
        if not any(job_id in schedule for job_id in range(1, backlog + 1)):
            return
        assert since_patient <= 2 * newcomers
    raise AssertionError("the patient user was never done")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "take", "put_back", "defer"]), st.integers(1, 9)
        ),
        max_size=60,
    )
)
def test_fifo_head_is_never_overtaken(steps: list[tuple[str, int]]) -> None:
    """Whatever comes, goes and is deferred: a fifo printer takes only the oldest that waits."""
    schedule = make_schedule(make_printer(1, 1, order=Order.FIFO))
    waiting: set[int] = set()
    taken: Choice | None = None
    now_s = 0.0
    for what, job_id in steps:
        now_s += 0.3
        if what == "add" and (taken is None or taken.job_id != job_id):
            schedule.add(job_id, 1, f"u{job_id % 3}", job_id * 10)
            waiting.add(job_id)
        elif what == "remove":
            schedule.remove(job_id)
            waiting.discard(job_id)
        elif what == "take" and taken is None:
            taken = schedule.take(1, now_s)
            if taken is not None:
                assert taken.job_id == min(waiting)
                waiting.discard(taken.job_id)
        elif taken is not None:
            if what == "defer":
                schedule.defer(taken.job_id, now_s)
            schedule.put_back(taken)
            waiting.add(taken.job_id)
            schedule.finish(1)
            taken = None
    if taken is not None:
        schedule.finish(1)
    assert print_all(schedule, now_s) == sorted(waiting)


def test_deferred_job_lets_others_pass_in_fair_order_only() -> None:
    """A job that must wait for its own sake is overtaken on a fair printer, not on a fifo one."""
    for order, expected in ((Order.FAIR, [2, 1]), (Order.FIFO, [1, 2])):
        schedule = make_schedule(make_printer(1, 1, order=order))
        schedule.add(1, 1, "ann", 50)
        schedule.add(2, 1, "ann", 50)
        (choice,) = start_all(schedule, 0.0)
        until_s = schedule.defer(1, 0.0)
        schedule.put_back(choice)
        schedule.finish(1)
        assert until_s == 1.0
        assert print_all(schedule) == expected


def test_put_back_gives_the_place_back() -> None:
    """A job whose attempt came to nothing is the next one again, before other users."""
    schedule = make_schedule(make_printer(1, 1))
    for job_id, owner in ((1, "ann"), (2, "ben"), (3, "ann")):
        schedule.add(job_id, 1, owner, 50)
    (choice,) = start_all(schedule, 0.0)
    schedule.put_back(choice)
    schedule.finish(1)
    assert print_all(schedule) == [1, 2, 3]


# -- throttles -----------------------------------------------------------------------------


@given(
    st.floats(0.01, 10),
    st.floats(0, 1000),
    st.floats(0, 0.49),
    st.integers(1, 5000),
    st.none() | st.floats(0, 1e9),
    st.integers(),
)
def test_every_throttle_is_bounded_and_grows(
    first_s: float, more_s: float, jitter: float, failures: int, asked_s: float | None, seed: int
) -> None:
    """A wait is never longer than its bound, and before the bound longer than the one before."""
    backoff = Backoff(first_s, first_s + more_s, jitter, asked_max_s=300.0)
    random = Random(seed)
    delay = backoff.delay_s(failures, random, asked_s)
    assert 0 < delay <= max(backoff.max_s, 0 if asked_s is None else 300.0)
    if first_s * 2.0 ** min(failures + 1, 60) <= backoff.max_s:
        assert backoff.delay_s(failures + 1, random) > backoff.delay_s(failures, random)


def test_throttle_grows_ends_by_itself_and_success_resets_it() -> None:
    """A dead device is tried after 1, 2, 4 ... 60 s, with nobody's help; one success forgets it."""
    schedule = make_schedule(make_printer(1, 1))
    schedule.add(1, 1, "ann", 50)
    now_s = 0.0
    waits = []
    for _ in range(8):
        (choice,) = start_all(schedule, now_s)
        until_s = schedule.fail(1, now_s)
        schedule.put_back(choice)
        schedule.finish(1)
        assert start_all(schedule, now_s) == []
        assert schedule.retry_at_s(1, now_s) == until_s == schedule.wake_s()
        waits.append(until_s - now_s)
        now_s = until_s
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert schedule.failures(1) == 8
    start_all(schedule, now_s)
    assert schedule.succeed(1)
    assert not schedule.succeed(1)
    assert (schedule.failures(1), schedule.retry_at_s(1, now_s)) == (0, None)


def test_wake_tries_now() -> None:
    """An operator need not wait for a throttle to end, on a printer or on a whole pool."""
    for woken in (1, 2):
        schedule = make_schedule(make_printer(1, 1), make_printer(2, members=("p1",)))
        schedule.add(1, 1, "ann", 50)
        schedule.fail(1, 0.0)
        assert start_all(schedule, 0.5) == []
        schedule.wake(woken)
        assert [choice.job_id for choice in start_all(schedule, 0.5)] == [1]


# -- devices -------------------------------------------------------------------------------


def test_printers_of_one_device_take_turns() -> None:
    """Two printers on a device never print at once, and neither keeps the other waiting."""
    schedule = make_schedule(make_printer(1, 7), make_printer(2, 7))
    for job_id in (1, 2, 3):
        schedule.add(job_id, 1, "ann", 50)
    schedule.add(4, 2, "ann", 50)
    assert [choice.job_id for choice in start_all(schedule, 0.0)] == [1]
    schedule.finish(7)
    assert print_all(schedule) == [4, 2, 3]


def test_stuck_device_delays_no_other() -> None:
    """A device that is busy for ever takes its own jobs down, nobody else's."""
    schedule = make_schedule(make_printer(1, 1), make_printer(2, 2))
    for job_id in range(1, 7):
        schedule.add(job_id, 1 + job_id % 2, "ann", 50)
    assert schedule.take(2, 0.0) is not None
    assert print_all(schedule) == [2, 4, 6]


def test_paused_printer_takes_nothing_until_it_goes_on() -> None:
    """A paused printer keeps its jobs, and another printer on its device goes on."""
    schedule = make_schedule(make_printer(1, 1, paused=True), make_printer(2, 1))
    schedule.add(1, 1, "ann", 50)
    schedule.add(2, 2, "ann", 50)
    assert print_all(schedule) == [2]
    schedule.set_printer(make_printer(1, 1))
    assert print_all(schedule) == [1]


def test_removed_printer_is_served_by_nobody() -> None:
    """Nothing is taken for a printer that is gone, and one that returns has its jobs back."""
    schedule = make_schedule(make_printer(1, 1))
    schedule.add(1, 1, "ann", 50)
    schedule.remove_printer(1)
    assert print_all(schedule) == []
    assert schedule.waiting(1) == 1
    schedule.set_printer(make_printer(1, 2))
    assert print_all(schedule) == [1]


def test_job_that_moves_waits_in_one_place_only() -> None:
    """A moved job leaves its printer, and keeps its age on the other."""
    schedule = make_schedule(make_printer(1, 1), make_printer(2, 2))
    schedule.add(1, 1, "ann", 50)
    schedule.add(2, 2, "ann", 50)
    schedule.add(1, 2, "ann", 50)
    assert (schedule.waiting(1), schedule.waiting(2), len(schedule)) == (0, 2, 2)
    assert print_all(schedule) == [1, 2]


# -- pools ---------------------------------------------------------------------------------


def make_pool(**fields: object) -> Schedule:
    return make_schedule(
        make_printer(1, 1),
        make_printer(2, 2),
        make_printer(3, 3),
        make_printer(9, members=("p1", "p2"), standby=("p3",), **fields),
    )


def test_pool_spreads_its_jobs() -> None:
    """All regular members work at once; the standby does not while they can."""
    schedule = make_pool()
    for job_id in (1, 2, 3, 4):
        schedule.add(job_id, 9, "ann", 50)
    taken = start_all(schedule, 0.0)
    assert {(c.job_id, c.printer_id, c.queue_id) for c in taken} == {(1, 1, 9), (2, 2, 9)}
    schedule.finish(2)
    assert [(c.job_id, c.printer_id) for c in start_all(schedule, 0.0)] == [(3, 2)]


def test_pool_prefers_the_least_loaded_member() -> None:
    """A member with jobs of its own waiting is chosen after one that has none."""
    schedule = make_pool()
    schedule.set_printer(make_printer(4, 1, paused=True))
    schedule.add(1, 4, "ann", 50)  # waits on the device of p1, on a paused printer
    schedule.add(2, 9, "ann", 50)
    assert [(c.job_id, c.printer_id) for c in start_all(schedule, 0.0)] == [(2, 2)]


def test_standby_prints_only_when_no_other_member_can() -> None:
    """Paused and throttled members are not chosen; with both down the standby takes over."""
    schedule = make_pool()
    schedule.set_printer(make_printer(1, 1, paused=True))
    schedule.add(1, 9, "ann", 50)
    (choice,) = start_all(schedule, 0.0)
    assert choice.printer_id == 2
    until_s = schedule.fail(2, 0.0)
    schedule.put_back(choice)
    schedule.finish(2)
    (again,) = start_all(schedule, 0.0)
    assert (again.job_id, again.printer_id) == (1, 3)
    schedule.finish(3)
    schedule.add(2, 9, "ann", 50)
    (back,) = start_all(schedule, until_s)
    assert (back.job_id, back.printer_id) == (2, 2)
    # p2 failed last: until it succeeds the next job does not wait for it.
    schedule.add(3, 9, "ann", 50)
    assert [(c.job_id, c.printer_id) for c in start_all(schedule, until_s)] == [(3, 3)]


def test_job_goes_to_a_member_that_fits_it() -> None:
    """A member that cannot print a job is passed over; with none left the job fits nowhere."""
    schedule = make_pool()
    schedule.add(1, 9, "ann", 50)
    for printer_id in (1, 2, 3):
        (choice,) = start_all(schedule, 0.0)
        assert choice.printer_id == printer_id
        assert schedule.misfit(choice) is (printer_id != 3)
        schedule.put_back(choice)
        schedule.finish(choice.device_id)


def test_job_that_fits_only_members_that_are_down_lets_others_pass() -> None:
    """Jobs behind one that waits for a certain member go on, and it prints when that is back."""
    schedule = make_pool()
    schedule.add(1, 9, "ann", 50)
    (choice,) = start_all(schedule, 0.0)
    assert choice.printer_id == 1
    assert schedule.misfit(choice)
    schedule.put_back(choice)
    schedule.finish(1)
    schedule.set_printer(make_printer(2, 2, paused=True))
    schedule.set_printer(make_printer(3, 3, paused=True))
    schedule.add(2, 9, "ann", 50)
    (other,) = start_all(schedule, 0.0)
    assert (other.job_id, other.printer_id) == (2, 1)
    schedule.finish(1)
    assert start_all(schedule, 1.0) == []
    schedule.set_printer(make_printer(2, 2))
    wake_s = schedule.wake_s()
    assert wake_s is not None
    (back,) = start_all(schedule, wake_s)
    assert (back.job_id, back.printer_id) == (1, 2)


def test_fifo_pool_starts_a_job_once_the_one_before_cannot_come_back() -> None:
    """Members print side by side, but none begins the next job while the head may be deferred."""
    schedule = make_pool(order=Order.FIFO)
    for job_id in (1, 2, 3):
        schedule.add(job_id, 9, "ann", 50)
    (head,) = start_all(schedule, 0.0)
    schedule.put_back(head)
    schedule.fail(head.device_id, 0.0)
    schedule.finish(head.device_id)
    (again,) = start_all(schedule, 0.0)
    assert (again.job_id, again.printer_id) == (1, 2)
    schedule.succeed(1)
    assert start_all(schedule, 0.0) == []
    schedule.begin(again)
    assert [(c.job_id, c.printer_id) for c in start_all(schedule, 0.0)] == [(2, 1)]


def test_pool_finds_a_renamed_member_by_its_new_name() -> None:
    """Members are named: a printer that takes the name takes the place."""
    schedule = make_schedule(make_printer(1, 1), make_printer(9, members=("front",)))
    schedule.add(1, 9, "ann", 50)
    assert start_all(schedule, 0.0) == []
    schedule.set_printer(make_printer(1, 1, name="front"))
    assert [c.job_id for c in start_all(schedule, 0.0)] == [1]


# -- everything at once --------------------------------------------------------------------

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
def test_a_hundred_thousand_jobs_are_light() -> None:
    """100,000 waiting jobs of a thousand users take less than 30 MB, and leave nothing behind."""
    schedule = make_schedule(*(make_printer(n, n) for n in range(1, 9)))
    tracemalloc.start()
    try:
        for job_id in range(1, 100_001):
            schedule.add(job_id, 1 + job_id % 8, f"user{job_id % 1000}", 50)
        full = held_bytes()
        for job_id in range(1, 100_001):
            schedule.remove(job_id)
        empty = held_bytes()
    finally:
        tracemalloc.stop()
    assert full < 30_000_000
    assert empty < 6_000_000  # the table of a dict keeps its size
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
