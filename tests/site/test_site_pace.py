"""A site that returns among hundreds hears soon that it goes on; one that is alone is fast."""

from __future__ import annotations

from spoold.codec.batch import BATCH_RECORDS_MAX
from spoold.site.pace import LATE_S, LEAST_RECORDS, SOON_S, Pace


def test_more_records_go_at_once_while_answers_come_soon():
    """Up to what a message holds."""
    pace = Pace()
    assert pace.records == LEAST_RECORDS
    told = []
    for number in range(5):
        pace.hear(pace.records, number, number + SOON_S / 2)
        told.append(pace.records)
    assert told[:2] == [2 * LEAST_RECORDS, 4 * LEAST_RECORDS]
    assert told[-1] == BATCH_RECORDS_MAX


def test_a_few_records_say_nothing_of_how_many_may_go():
    """What is sent as it is committed is small, and soon there."""
    pace = Pace()
    pace.hear(3, 0.0, SOON_S / 10)
    assert pace.records == LEAST_RECORDS


def test_fewer_records_go_at_once_when_answers_come_late():
    """Half of what went, but never fewer than the application server takes at a time."""
    pace = Pace(records=4 * LEAST_RECORDS)
    now_s, told = 0.0, []
    for _ in range(3):
        now_s += 2 * LATE_S
        pace.hear(pace.records, now_s - 2 * LATE_S, now_s)
        told.append(pace.records)
    assert told == [2 * LEAST_RECORDS, LEAST_RECORDS, LEAST_RECORDS]


def test_what_counts_is_the_time_since_the_answer_before():
    """Batches that are on their way together wait for one another."""
    pace = Pace(records=2 * LEAST_RECORDS)
    pace.hear(2 * LEAST_RECORDS, 0.0, (SOON_S + LATE_S) / 2)
    assert pace.records == 2 * LEAST_RECORDS
    pace.hear(2 * LEAST_RECORDS, 0.0, (SOON_S + LATE_S) / 2 + SOON_S / 2)
    assert pace.records == 4 * LEAST_RECORDS
