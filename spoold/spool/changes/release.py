"""Changes of held jobs: what is in them, and their release."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.model.job import JobState
from spoold.model.offline import Beyond
from spoold.model.pricing import Quote
from spoold.model.purse import Payer
from spoold.model.usage import Usage


@dataclass(slots=True)
class CountJob:
    """What the document with this number contains, as `Contents.as_map` says it. Answer: None.

    `impressions` and `media_sheets` are those of the whole job, as far as they are known by now.
    """

    job_id: int
    document: int
    contents: dict[str, Any]
    now_us: int
    impressions: int | None = None
    media_sheets: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a release costs, and whom. `enforce`: not without the money; `beyond` is what a site
    that is alone lets pay for what the purses do not hold.
    """

    payer: Payer
    quote: Quote
    usage: Usage
    enforce: bool = True
    beyond: Beyond | None = None


@dataclass(slots=True)
class ReleaseJob:
    """A job that waits for its owner or to be cleared goes on to `printer_id`. Answer: `Released`.

    `releaser` is the person who stands at the machine `where`; None with `is_staff` is an operator,
    without it the node, which clears the job. `seen_us` is the job's `changed_us` that all of this
    was found by. `comes_home`: another node that has it, too, has released it, for a printer here.
    `copies` and `attributes` are those that the job gets; None keeps what is.
    `terms` say for the record by which rules. Refused with `not-possible` when somebody else was
    faster, `forbidden` when it is not for the releaser, `conflict` when the job changed meanwhile.
    """

    job_id: int
    printer_id: int
    now_us: int
    seen_us: int
    actor: str
    releaser: UUID | None = None
    is_staff: bool = False
    where: str = ""
    copies: int | None = None
    attributes: dict[str, Any] | None = None
    terms: tuple[str, ...] = ()
    media_sheets: int | None = None
    cost: Cost | None = None
    comes_home: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """The state that a job has by its release, and what it may cost in 1/10,000, if anything.

    `number` counts the releases of the job.
    """

    job_id: int
    state: JobState
    number: int
    position: int
    price: int | None = None


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    """A release as it is kept. `fields` are those of its record."""

    number: int
    released_us: int
    printer_id: int
    fields: dict[str, Any] = field(default_factory=dict)
