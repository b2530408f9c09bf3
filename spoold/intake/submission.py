"""What an intake knows of a job before it is one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from spoold.model import policy
from spoold.model.errors import OperationError
from spoold.model.person import Owner


@dataclass(slots=True)
class Submission:
    """What an intake knows of a job. `printer` is a name; `size` in bytes, if announced.

    `hold_until` is its job-hold-until, `hold_until_us` its job-hold-until-time; `hold` is as
    `indefinite`. `created_us` is when another node accepted it, `handed_by` who hands it on;
    `is_released` says that it was released, and paid for, there; `awaits_release` that it waits for
    that.
    """

    printer: str
    owner: Owner
    submitter: str
    intake: str
    client_host: str
    uuid: UUID | None = None
    title: str = ""
    copies: int = 1
    copies_embedded: bool = False
    priority: int = 50
    attributes: dict[str, Any] = field(default_factory=dict)
    format: str = "application/octet-stream"
    hold: bool = False
    size: int | None = None
    digest_algorithm: str = "blake3"
    hold_until: str = ""
    hold_until_us: int | None = None
    created_us: int | None = None
    is_released: bool = False
    handed_by: str = ""
    awaits_release: bool = False

    def hold_at(self, now_us: int) -> policy.Hold | None:
        """How the job is to be held that is submitted now.

        Raises:
            OperationError: `bad-request`: there is no such job-hold-until.
        """
        until = policy.INDEFINITE if self.hold else self.hold_until
        try:
            return policy.hold_of(until, self.hold_until_us, now_us)
        except ValueError as error:
            words = ", ".join(policy.HOLD_KEYWORDS)
            raise OperationError("bad-request", f"{error}.", f"Use one of {words}.") from None
