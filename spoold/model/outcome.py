"""What became of one attempt to deliver a job: a value, never an exception, never a bare bool."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Blame(StrEnum):
    """Whose fault a failure is; it decides what waits."""

    JOB = "job"  # ends the job: it can never print here
    PRINTER = "printer"  # throttles the device, for a time; the job waits
    NODE = "node"  # our own shutdown or cancellation: not counted as an attempt


@dataclass(frozen=True, slots=True)
class Delivered:
    """The device took the whole document, and `evidence` says how that is known.

    Evidence keys: `method` (`half-close`, `pjl-ustatus`, `page-counter`, `lpd-acknowledgement`,
    `file-synced`, ...), `bytes` sent, `pages` where counted, and what the device said.
    """

    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HandedOn(Delivered):
    """Another node has the whole job, durably, and prints it; `evidence` names `node` and `job`.

    What becomes of it there is asked for later.
    """


@dataclass(frozen=True, slots=True)
class Deferred:
    """Nothing that prints has left, or the device said that it discarded it. Try again later.

    `reason` is a keyword of RFC 8011 or ours (`connecting-to-device`, `device-busy`, ...);
    `detail` is for people; `not_before_s` is a delay asked for by the device, if it named one.
    """

    reason: str
    detail: str = ""
    blame: Blame = Blame.PRINTER
    not_before_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The device or its driver will never print this job, or no more of it.

    With the reason `job-canceled-at-device` somebody there wanted it no more; `evidence` then has
    the `pages` that were out by then, where the device counts.
    """

    reason: str
    detail: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InDoubt:
    """Some bytes left and nobody can say whether they printed. The printer's policy settles it."""

    reason: str
    detail: str = ""
    bytes_sent: int = 0
    evidence: dict[str, Any] = field(default_factory=dict)


Outcome = Delivered | Deferred | Refused | InDoubt
