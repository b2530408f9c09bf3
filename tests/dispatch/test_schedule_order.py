"""In which order the schedule lets jobs print."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.dispatch.queues import Choice
from spoold.dispatch.schedule import Schedule
from spoold.model.printer import Order
from support.schedules import make_printer, make_schedule, print_all, start_all


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


def test_what_goes_soon_is_guessed() -> None:
    """The next jobs of the one user who prints, or the first one of each."""
    schedule = make_schedule(make_printer(1, 1))
    assert schedule.soon(1, 4) == []
    for job_id in range(1, 31):
        schedule.add(job_id, 1, "ann", 50)
    schedule.remove(2)
    assert schedule.soon(1, 4) == [1, 3, 4, 5]
    schedule.add(40, 1, "ben", 50)
    assert schedule.soon(1, 4) == [1, 40]


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
