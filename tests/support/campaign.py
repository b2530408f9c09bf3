"""How long a campaign lasts: as long as `SPOOLD_CAMPAIGN_S` says, else its short form for CI.

    SPOOLD_CAMPAIGN_S=600 tests/run -m campaign -s

gives each of them ten minutes; with `-s` they tell their figures. Hypothesis tries examples of its
own then, and the same ones each time in the short form.
"""

from __future__ import annotations

import os
import time

SECONDS = float(os.environ.get("SPOOLD_CAMPAIGN_S", "0"))
IS_LONG = SECONDS > 0


class Campaign:
    """The time of one campaign; the short form has none beyond its first round."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + SECONDS

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._deadline
