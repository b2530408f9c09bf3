"""What becomes of a submission: a receipt, or one of three errors that tell the cases apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

CHECK_SERVERS = "Check that a server runs there, the address and the port."


@dataclass(frozen=True, slots=True)
class Receipt:
    """A server has the job, durably.

    `unknown` lists endpoints that were sent the whole job earlier, whose answer got lost, and who
    could not be asked again: they may have it too.
    """

    job_id: int
    job_uuid: UUID
    position: int
    state: str
    is_duplicate: bool
    node_guid: str
    node_name: str
    endpoint: str
    size: int
    digest: str
    unknown: tuple[str, ...] = ()


class SubmitError(Exception):
    """The job has no receipt. `job_uuid` names it: submit it again under the same one."""

    def __init__(self, message: str, advice: str, job_uuid: UUID | None = None) -> None:
        super().__init__(f"{message} {advice}".strip())
        self.message = message
        self.advice = advice
        self.job_uuid = job_uuid


class SubmitRefused(SubmitError):
    """A server refused the job, for good; no server has it. `code` is a word of FRAMES.md."""

    def __init__(self, code: str, message: str, advice: str, job_uuid: UUID | None = None) -> None:
        super().__init__(message, advice, job_uuid)
        self.code = code


class Unreachable(SubmitError):
    """No server took the job in time; no server has it. `causes` says why, by endpoint.

    `distrusted` are the endpoints at which one side refused the other's certificate: there it
    will not come about by waiting. `was_refused`: a site was reached, which does not take it.
    """

    def __init__(
        self,
        message: str,
        advice: str,
        job_uuid: UUID | None = None,
        causes: Mapping[str, str] | None = None,
        distrusted: Iterable[str] = (),
        was_refused: bool = False,
    ) -> None:
        super().__init__(message, advice, job_uuid)
        self.causes = dict(causes or {})
        self.distrusted = frozenset(distrusted)
        self.was_refused = was_refused

    @property
    def is_for_good(self) -> bool:
        """Every endpoint is one where a certificate was refused: waiting changes nothing."""
        return len(self.distrusted) == len(self.causes) > 0


class AnswerUnknown(SubmitError):
    """The job was sent whole to `endpoints`, and nobody could say whether it was accepted.

    Submitting it to them again under the same job-uuid is safe; to others it may print twice.
    """

    def __init__(
        self, message: str, advice: str, job_uuid: UUID | None, endpoints: tuple[str, ...]
    ) -> None:
        super().__init__(message, advice, job_uuid)
        self.endpoints = endpoints
