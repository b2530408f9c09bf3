"""Gone at once, back after a while, and later the more a line flaps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spoold.model.node import LineState
from spoold.site.detector import BACK_MAX_S, BACK_S, BACK_SIGNS, Detector


def held(detector: Detector, now: float, seconds: float, step: float = 0.25) -> float:
    """Signs of life for so long; the time after them."""
    for _ in range(round(seconds / step)):
        now += step
        detector.heard(now)
    return now


def test_the_first_hello_is_enough():
    """A site that has just started does not wait to be online."""
    detector = Detector()
    detector.connected(10)
    assert detector.state is LineState.UP


def test_a_loss_counts_at_once():
    """Whoever has to decide alone knows so without delay."""
    detector = Detector()
    detector.connected(10)
    detector.lost(11)
    assert detector.state is LineState.GONE


def test_it_is_back_after_three_signs_over_two_seconds():
    """A line that comes and goes does not count before it has held."""
    detector = Detector()
    detector.connected(0)
    detector.lost(1)
    detector.connected(5)
    now = held(detector, 5, BACK_S - 0.25)
    assert detector.state is LineState.GONE
    held(detector, now, 0.25)
    assert detector.state is LineState.UP


def test_silence_is_no_sign_that_it_is_back():
    """Time alone does not bring a line back."""
    detector = Detector()
    detector.connected(0)
    detector.lost(1)
    detector.connected(2)
    for _ in range(BACK_SIGNS - 1):
        detector.heard(3)
    detector.look(60)
    assert detector.state is LineState.GONE


def test_a_line_that_flaps_has_to_hold_for_longer():
    """Each loss beyond the third within a minute doubles the wait, up to half a minute."""
    detector = Detector()
    now, waits = 0.0, []
    detector.connected(now)
    for _ in range(8):
        detector.lost(now)
        detector.connected(now)
        began = now
        while detector.state is not LineState.UP:
            now = held(detector, now, 0.25)
        waits.append(now - began)
    assert waits[:3] == [2, 2, 4]
    assert waits[-1] <= BACK_MAX_S
    assert sorted(waits[:5]) == waits[:5]


def test_a_quiet_minute_forgets_the_flapping():
    """What was once unsteady is not distrusted for ever."""
    detector = Detector()
    for at in range(6):
        detector.state = LineState.UP
        detector.lost(at)
    assert detector.hold_s(6) > BACK_S
    assert detector.hold_s(100) == BACK_S


@given(st.lists(st.tuples(st.sampled_from("chl"), st.floats(0, 100)), max_size=60))
def test_it_is_never_up_without_a_connection(steps):
    """Whatever happens in which order, only a connected line is up, and lost is never up."""
    detector = Detector()
    now, is_connected = 0.0, False
    for kind, pause in steps:
        now += pause
        if kind == "c":
            detector.connected(now)
            is_connected = True
        elif kind == "h":
            detector.heard(now)
        else:
            detector.lost(now)
            is_connected = False
        if detector.state is LineState.UP:
            assert is_connected
