"""How many records a site sends at once: by how soon they are acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

from spoold.codec.batch import BATCH_RECORDS_MAX

LEAST_RECORDS = 96  # what the application server takes at a time
SOON_S = 1.0  # from answer to answer: more go at once, or
LATE_S = 5.0  # fewer, as others wait for their turn, too


@dataclass(slots=True)
class Pace:
    """How many `records` go at once. Few at first: whoever returns may be one of hundreds, and each
    is to hear soon, and often, that it goes on.
    """

    records: int = LEAST_RECORDS
    _answered_s: float = 0.0

    def hear(self, records: int, sent_s: float, now_s: float) -> None:
        """An answer to a batch of so many records, sent at a time, has come now."""
        took_s = now_s - max(sent_s, self._answered_s)
        self._answered_s = now_s
        if took_s > LATE_S:
            self.records = max(LEAST_RECORDS, records // 2)
        elif took_s < SOON_S and records >= self.records:
            self.records = min(BATCH_RECORDS_MAX, 2 * self.records)
