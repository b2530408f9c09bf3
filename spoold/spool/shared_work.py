"""Work that may be reported at more than one node: what MFDs made, what providers printed.

Whoever reports it gives it a key, and reports it to another node when an answer is lost: it is one
charge wherever the reports agree on printer, payer and price. But a key proves nothing, and other
nodes may know it. So what a site charges stands under a key of its own, `key` and the site's GUID,
and never in the way of what this node or another site charges under that key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from uuid import UUID

from spoold.model.charge import MFD_KEY, REPORT_KEY, Charge, ChargeState
from spoold.model.purse import Payer
from spoold.spool.charges import SELECT_CHARGE, charge_of

GUID_BYTES = 16


def is_shared(key: bytes) -> bool:
    return key.startswith((MFD_KEY, REPORT_KEY))


def key_of(key: bytes, site: UUID) -> bytes:
    """Under which key a charge of a site stands here."""
    return key + site.bytes if is_shared(key) else key


def under(db: sqlite3.Connection, key: bytes) -> list[Charge]:
    """All that was charged under a key: here, and by sites."""
    rows = db.execute(
        SELECT_CHARGE + "WHERE charge.key = ? OR charge.key > ? AND charge.key < ? "
        "AND length(charge.key) = ?",
        (key, key, key + b"\xff" * (GUID_BYTES + 1), len(key) + GUID_BYTES),
    )
    return [charge_of(row).charge for row in rows]


def same_as(
    found: Iterable[Charge], printer: UUID | None, payer: Payer, total: int
) -> Charge | None:
    """The charge among these that is of the same work; one that is not settled may cost more."""
    for one in found:
        is_settled = one.state is ChargeState.SETTLED
        if (one.printer, one.payer.guid) == (printer, payer.guid) and (
            not is_settled or one.total == total
        ):
            return one
    return None
