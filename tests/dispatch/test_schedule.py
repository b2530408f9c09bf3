"""The schedule: throttles, devices, pools."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from spoold.dispatch.schedule import Backoff, Schedule
from spoold.model.printer import Order
from support.schedules import make_printer, make_schedule, print_all, start_all


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
