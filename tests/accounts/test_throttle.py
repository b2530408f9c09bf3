"""How long somebody who has failed too often has to wait."""

from __future__ import annotations

from spoold.accounts.throttle import Throttle


def test_some_failures_are_free_and_then_the_wait_doubles_up_to_a_bound():
    """The wait counts from the last failure."""
    throttle = Throttle(2, first_s=1.0, longest_s=6.0)
    waits = []
    for _ in range(6):
        throttle.note("ada", 100.0)
        waits.append(throttle.wait_s("ada", 100.0))
    assert waits == [0, 0, 1, 2, 4, 6]
    assert throttle.wait_s("ada", 104.0) == 2
    assert throttle.wait_s("ada", 106.0) == 0
    assert throttle.wait_s("bob", 100.0) == 0


def test_thousands_of_failures_are_no_overflow():
    """The bound holds however long somebody goes on."""
    throttle = Throttle(0, longest_s=60.0)
    for _ in range(5000):
        throttle.note("ada", 1.0)
    assert throttle.wait_s("ada", 1.0) == 60.0


def test_who_did_not_fail_for_a_while_begins_anew():
    """Old failures cost nothing, and are not counted on."""
    throttle = Throttle(1, forget_s=900.0)
    throttle.note("ada", 0.0)
    throttle.note("ada", 0.0)
    assert throttle.wait_s("ada", 0.0) == 1.0
    assert throttle.wait_s("ada", 901.0) == 0.0
    throttle.note("ada", 901.0)
    assert throttle.wait_s("ada", 901.0) == 0.0


def test_a_try_that_was_no_failure_is_forgiven():
    """One try, not those before it; and all of them when somebody is forgotten."""
    throttle = Throttle(1)
    for _ in range(3):
        throttle.note("ada", 0.0)
    throttle.forgive("ada")
    assert throttle.wait_s("ada", 0.0) == 1.0
    throttle.forget("ada")
    assert throttle.wait_s("ada", 0.0) == 0.0
    throttle.forgive("ada")
    assert len(throttle) == 0


def test_a_flood_of_keys_takes_no_more_than_the_table():
    """The one that failed last longest ago goes first."""
    throttle = Throttle(0, keys_max=100)
    throttle.note("ada", 0.0)
    for number in range(99):
        throttle.note(number, 0.0)
    throttle.note("ada", 0.0)
    for number in range(99, 150):
        throttle.note(number, 0.0)
    assert len(throttle) == 100
    assert throttle.wait_s("ada", 0.0) > 0
    assert throttle.wait_s(0, 0.0) == 0
