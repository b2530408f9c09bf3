"""How long jobs are held, by the clock on the wall of the site."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from spoold.model.policy import HOLD_KEYWORDS, ExpiryClock, Hold, hold_of, told_at_us

S = 1_000_000
VIENNA = ZoneInfo("Europe/Vienna")


def test_the_time_of_expiry_follows_the_clock_but_not_its_jumps():
    """Ordinary time counts, a jump ahead only when it has lasted, a step back at once."""
    hour = 3600
    clock = ExpiryClock(None)
    assert clock.look(1000 * S, 0.0) == 1000 * S
    assert clock.look(1060 * S, 50.0) == 1060 * S  # set right by ten seconds
    assert clock.look(9_001_110 * S, 100.0) == 1110 * S
    assert clock.is_doubtful
    assert clock.ahead_s == 9_000_000
    jumped_again = 100.0 + 5 * hour
    assert clock.look(99_000_000 * S, jumped_again) == (1110 + 5 * hour) * S
    later = clock.look((99_000_000 + 5 * hour) * S, jumped_again + 5 * hour)
    assert later == (1110 + 10 * hour) * S
    believed = (99_000_000 + 6 * hour) * S
    assert clock.look(believed, jumped_again + 6 * hour) == believed
    assert not clock.is_doubtful
    assert clock.look(500 * S, jumped_again + 7 * hour) == 500 * S


def test_a_jump_while_spoold_did_not_run_is_bounded():
    """Days may have passed uncounted; years are looked at first. Set right again, all is well."""
    day = 86_400
    assert ExpiryClock(1000 * S).look((1000 + 6 * day) * S, 0.0) == (1000 + 6 * day) * S
    clock = ExpiryClock(1000 * S)
    assert clock.look((1000 + 700 * day) * S, 0.0) == 1000 * S
    assert clock.look(1070 * S, 60.0) == 1070 * S
    assert not clock.is_doubtful


def test_a_clock_that_was_set_back_is_told_of_until_it_is_right_again_or_for_hours():
    """Set right it is believed at once; further ahead than it was it is looked at first."""
    hour = 3600
    clock = ExpiryClock(None)
    clock.look(100_000 * S, 0.0)
    assert clock.look((100_050 - hour) * S, 60.0) == (100_050 - hour) * S
    assert clock.set_back_s == hour + 10
    clock.look((100_110 - hour) * S, 120.0)
    assert clock.set_back_s == hour + 10
    assert clock.look(100_180 * S, 180.0) == 100_180 * S
    assert (clock.set_back_s, clock.is_doubtful) == (0.0, False)
    clock.look(50_000 * S, 240.0)
    clock.look((100_300 + hour) * S, 300.0)
    assert clock.is_doubtful
    assert clock.set_back_s > 0
    clock.look(50_000 * S, 360.0)
    clock.look((50_000 + 6 * hour) * S, 360.0 + 6 * hour)
    assert (clock.set_back_s, clock.is_doubtful) == (0.0, False)


def test_a_clock_that_was_set_back_while_spoold_did_not_run_is_told_of():
    """As one without a battery, until it has asked others; nobody knows how long it did not run."""
    clock = ExpiryClock(100_000 * S)
    assert clock.look(500 * S, 0.0) == 500 * S
    assert clock.set_back_s == 99_500
    assert clock.look(200_000 * S, 60.0) == 200_000 * S
    assert (clock.set_back_s, clock.is_doubtful) == (0.0, False)


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=VIENNA).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("until", "now", "release"),
    [
        ("day-time", "2025-03-05T05:59:59", "2025-03-05T06:00:00"),
        ("day-time", "2025-03-05T18:00:00", "2025-03-06T06:00:00"),
        ("evening", "2025-03-05T17:59:00", "2025-03-05T18:00:00"),
        ("night", "2025-03-05T06:00:00", "2025-03-05T18:00:00"),
        ("second-shift", "2025-03-05T03:00:00", "2025-03-05T16:00:00"),
        ("third-shift", "2025-03-05T08:00:00", "2025-03-06T00:00:00"),
        ("weekend", "2025-03-05T12:00:00", "2025-03-08T00:00:00"),
        ("weekend", "2025-03-31T00:00:00", "2025-04-05T00:00:00"),
        # The night in which an hour is left out, and the one in which an hour comes twice.
        ("day-time", "2025-03-29T20:00:00", "2025-03-30T06:00:00"),
        ("day-time", "2025-10-25T20:00:00", "2025-10-26T06:00:00"),
        ("day-time", "2025-12-31T20:00:00", "2026-01-01T06:00:00"),
    ],
)
def test_a_hold_ends_when_its_time_of_the_week_begins(until, now, release):
    """It ends at the full hour of the local clock, whatever the summer time does meanwhile."""
    assert hold_of(until, None, us(now), VIENNA) == Hold(until, us(release))


@pytest.mark.parametrize(
    ("until", "now"),
    [
        ("day-time", "2025-03-05T06:00:00"),
        ("day-time", "2025-03-05T17:59:59"),
        ("night", "2025-03-05T18:00:00"),
        ("evening", "2025-03-05T02:00:00"),
        ("second-shift", "2025-03-05T23:59:59"),
        ("third-shift", "2025-03-05T00:00:00"),
        ("weekend", "2025-03-08T00:00:00"),
        ("weekend", "2025-03-09T23:59:59"),
        ("no-hold", "2025-03-05T12:00:00"),
        ("", "2025-03-05T12:00:00"),
    ],
)
def test_in_that_time_nothing_is_held(until, now):
    """A job for the night that comes at night prints at once."""
    assert hold_of(until, None, us(now), VIENNA) is None


def test_a_moment_of_its_own_and_for_ever():
    """A moment holds until then, and not at all when it has passed; indefinite never ends."""
    now = us("2025-03-05T12:00:00")
    assert hold_of("", now + 1, now) == Hold("time", now + 1)
    assert hold_of("", now, now) is None
    assert hold_of("indefinite", None, now) == Hold("indefinite", None)


def test_every_keyword_is_understood_and_no_other():
    """Each of RFC 8011 5.2.2; what is none is an error of the asker."""
    for until in HOLD_KEYWORDS:
        hold = hold_of(until, None, us("2025-03-05T12:00:00"))
        assert hold is None or hold.until == until
    for word in ("time", "tomorrow", "Night"):
        with pytest.raises(ValueError, match="job-hold-until"):
            hold_of(word, None, 0)


def test_what_another_node_tells_has_a_time_that_can_be():
    """By its clock, set right by what was measured of it; a time that cannot be is none."""
    day, now = 86_400 * S, 20_700 * 86_400 * S  # in 2026
    for told, offset, at in (
        (now - day, None, now - day),
        (now - day, 30 * S, now - day),  # as exact as clocks are
        (now - 3 * day, 2 * day, now - day),
        (now - day, 400 * day, now - day),  # it was set right after it had been measured
        (0, None, None),
        (0, 20_699 * day, now - day),
        (now + 2 * S, None, now),
        (now + day, None, None),
        (now + 170_000 * day, None, None),
    ):
        assert told_at_us(told, offset, now) == at
