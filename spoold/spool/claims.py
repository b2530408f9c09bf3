"""Printers whose next job is begun by the commit that accepts it, for their devices stand ready.

One party offers, on the loop, and withdraws; the writer takes, in its thread, inside a transaction.
Each step is one operation on a dict, so a claim is taken or withdrawn, never both.
"""

from __future__ import annotations


class Claims:
    """At most one device for each printer."""

    def __init__(self) -> None:
        self._offered: dict[int, int] = {}

    def offer(self, printer_id: int, device_id: int) -> None:
        """The next job that this printer accepts may leave for this device at once."""
        self._offered[printer_id] = device_id

    def take(self, printer_id: int) -> int | None:
        """The device that was offered, which is no more; None when there is none."""
        return self._offered.pop(printer_id, None)
