"""A charge: what a piece of work costs, from the promise that it is paid to the last refund."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.pricing import Quote
from spoold.model.purse import Payer
from spoold.model.usage import Usage

KEY_BYTES_MAX = 64
JOB_KEY_BYTES = 36
MFD_KEY = b"mfd/"  # begins the key of what an MFD has made
REPORT_KEY = b"report/"  # and of what a provider has printed itself


class ChargeState(StrEnum):
    RESERVED = "reserved"  # taken from the purses, for work that goes on
    SETTLED = "settled"
    CANCELED = "canceled"  # nothing was made: all went back


class Flag(StrEnum):
    """What an accountant should look at."""

    BEYOND_RESERVATION = "beyond-reservation"  # more was made than had been promised
    BEYOND_LIMIT = "beyond-limit"  # the payer is below what is allowed
    NOT_RESERVED = "not-reserved"  # done before anybody asked whether it can be paid
    AFTER_CANCEL = "after-cancel"  # said to be nothing at first
    MORE_PRINTED = "more-printed"  # the device counted more than was counted before
    NO_PAYER = "no-payer"  # another node charged it to an account that nobody knows here
    BEYOND_RIGHTS = "beyond-rights"  # a site charged more than it had been granted
    BEYOND_SCOPE = "beyond-scope"  # a site charged whom it is not told of, or who may not pay so
    KEY_TAKEN = "key-taken"  # another node has charged something else under the same key
    NOT_DIRECT = "not-direct"  # a provider says that it printed this itself, where none is to
    LATE = "late"  # a site charged it by rights that had been taken back by then
    CLOCK = "clock"  # another node had a wrong clock: nobody knows when it happened
    NOT_COUNTED = "not-counted"  # it was tried to print, and nobody knows what came out


@dataclass(frozen=True, slots=True)
class Charge:
    """`key` makes it one, however often it is asked for. Amounts are in 1/10,000.

    `quote` and `usage` are of what was made once it is settled, before of what is promised, which
    cost `reserved`. A charge that `is_shadow` is counted and priced, and nobody pays for it.
    """

    key: bytes
    state: ChargeState
    payer: Payer
    quote: Quote
    usage: Usage
    reserved: int
    happened_us: int
    printer: UUID | None = None
    job_id: int | None = None
    job_uuid: UUID | None = None
    refunded: int = 0
    is_shadow: bool = False
    flags: tuple[str, ...] = ()
    ended_us: int | None = None

    @property
    def total(self) -> int:
        return self.quote.total

    @property
    def net(self) -> int:
        """What was paid in the end; 0 as long as it is not settled."""
        is_paid = self.state is ChargeState.SETTLED and not self.is_shadow
        return self.total - self.refunded if is_paid else 0

    def as_map(self) -> dict[str, Any]:
        """All of it, for a record."""
        found: dict[str, Any] = {
            "charge": self.key,
            "state": self.state.value,
            "payer": self.payer.guid.bytes,
            "paid_by": self.payer.as_map(),
            "quote": self.quote.as_map(),
            "usage": self.usage.as_map(),
            "reserved": self.reserved,
            "happened_us": self.happened_us,
        }
        if self.payer.spender is not None:
            found["person"] = self.payer.spender.bytes
        if self.printer is not None:
            found["printer"] = self.printer.bytes
        if self.job_id is not None:
            found["job"] = self.job_id
        if self.job_uuid is not None:
            found["uuid"] = self.job_uuid.bytes
        if self.is_shadow:
            found["shadow"] = True
        if self.flags:
            found["flags"] = list(self.flags)
        return found


def job_key(job_uuid: UUID, release: int, node_guid: UUID) -> bytes:
    """The key of a job's charge: it posts once per job, release and node."""
    return job_uuid.bytes + release.to_bytes(4, "big") + node_guid.bytes


def charged_by(key: bytes) -> UUID | None:
    """The node that alone charges a job under this key; None: the key is of something else, as
    work at an MFD, or of a report that may come in at any node.
    """
    is_job = len(key) == JOB_KEY_BYTES and not key.startswith(MFD_KEY)
    return UUID(bytes=key[-16:]) if is_job else None


def check_key(key: bytes) -> bytes:
    """Raises:
    OperationError: `bad-request`: nothing can be posted once under this.
    """
    if 1 <= len(key) <= KEY_BYTES_MAX:
        return key
    raise OperationError("bad-request", f"a key has 1 to {KEY_BYTES_MAX} bytes.")
