"""What an IPP printer's answers mean for a job: status codes and job states as outcomes. Pure.

Statuses are those of RFC 8011 appendix B and PWG 5100.7, 5100.13, 5100.16; job-state-reasons those
of RFC 8011 5.3.8. Whatever may pass by itself is `Deferred`; what the printer will never take is
`Refused`; nothing here says `Delivered` of a document of which nobody knows that it was whole.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from spoold.codec.ipp_names import JobState, Status
from spoold.driver.ipp_peer import IppRefused, JobView
from spoold.driver.ipp_session import Broken, HttpRefused
from spoold.model.job import JobReason
from spoold.model.outcome import Blame, Deferred, Refused

FORMAT_ADVICE: Final = (
    "Move the job to a printer that takes it, convert it, or send it as the printer wants it."
)
_BUSY: Final = frozenset(
    {
        Status.SERVER_ERROR_SERVICE_UNAVAILABLE,
        Status.SERVER_ERROR_TEMPORARY_ERROR,
        Status.SERVER_ERROR_BUSY,
        Status.SERVER_ERROR_TOO_MANY_JOBS,
        Status.SERVER_ERROR_TOO_MANY_DOCUMENTS,
        Status.CLIENT_ERROR_TIMEOUT,
    }
)
_FORMAT: Final = frozenset(
    {
        Status.CLIENT_ERROR_DOCUMENT_FORMAT_NOT_SUPPORTED,
        Status.CLIENT_ERROR_DOCUMENT_FORMAT_ERROR,
        Status.CLIENT_ERROR_DOCUMENT_UNPRINTABLE_ERROR,
        Status.CLIENT_ERROR_DOCUMENT_ACCESS_ERROR,
        Status.CLIENT_ERROR_DOCUMENT_PASSWORD_ERROR,
        Status.CLIENT_ERROR_DOCUMENT_PERMISSION_ERROR,
        Status.CLIENT_ERROR_DOCUMENT_SECURITY_ERROR,
        Status.CLIENT_ERROR_COMPRESSION_NOT_SUPPORTED,
        Status.CLIENT_ERROR_COMPRESSION_ERROR,
    }
)
_LOGIN: Final = frozenset(
    {
        Status.CLIENT_ERROR_FORBIDDEN,
        Status.CLIENT_ERROR_NOT_AUTHENTICATED,
        Status.CLIENT_ERROR_NOT_AUTHORIZED,
    }
)
_NEVER: Final = frozenset(
    {
        Status.CLIENT_ERROR_REQUEST_ENTITY_TOO_LARGE,
        Status.CLIENT_ERROR_ACCOUNT_INFO_NEEDED,
        Status.CLIENT_ERROR_ACCOUNT_CLOSED,
        Status.CLIENT_ERROR_ACCOUNT_LIMIT_REACHED,
        Status.CLIENT_ERROR_ACCOUNT_AUTHORIZATION_FAILED,
    }
)
_REASONS: Final = {
    Status.SERVER_ERROR_DEVICE_ERROR: "device-error",
    Status.SERVER_ERROR_NOT_ACCEPTING_JOBS: "not-accepting-jobs",
    Status.SERVER_ERROR_PRINTER_IS_DEACTIVATED: "deactivated",
    Status.CLIENT_ERROR_NOT_FOUND: "device-not-found",
    Status.CLIENT_ERROR_GONE: "device-not-found",
}
# The printer knows the job no more, or never did.
FORGOTTEN: Final = frozenset(
    {
        Status.CLIENT_ERROR_NOT_FOUND,
        Status.CLIENT_ERROR_GONE,
        Status.CLIENT_ERROR_NOT_POSSIBLE,
    }
)
REJECTED_WISHES: Final = frozenset(
    {
        Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED,
        Status.CLIENT_ERROR_CONFLICTING_ATTRIBUTES,
        Status.CLIENT_ERROR_REQUEST_VALUE_TOO_LONG,
    }
)
# Said to a document that came: something may have been done with it all the same.
AMBIGUOUS: Final = frozenset(
    {
        Status.SERVER_ERROR_INTERNAL_ERROR,
        Status.SERVER_ERROR_DEVICE_ERROR,
        Status.SERVER_ERROR_JOB_CANCELED,
    }
)
WAITS_FOR_DATA: Final = frozenset({"job-incoming", "job-data-insufficient"})
_CUT_SHORT: Final = frozenset({"submission-interrupted", "aborted-by-system", *WAITS_FOR_DATA})
_BY_SOMEBODY: Final = frozenset(
    {"job-canceled-by-user", "job-canceled-by-operator", "job-canceled-at-device"}
)
_BAD_DOCUMENT: Final = frozenset(
    {
        "document-format-error", "unsupported-document-format", "document-unprintable-error",
        "document-access-error", "document-password-error", "document-permission-error",
        "document-security-error", "compression-error", "unsupported-compression",
    }
)  # fmt: skip


class Sent(Enum):
    """What is known of the document: it never began, nobody knows, the printer said that it has it.

    `NOBODY_KNOWS` is also what a crash leaves behind.
    """

    NOTHING = "nothing"
    NOBODY_KNOWS = "nobody knows"
    WHOLE = "whole"


def refusal(error: IppRefused | HttpRefused | Broken) -> Deferred | Refused:
    """What becomes of a job of which nothing has left, by the printer's answer, or without one."""
    if isinstance(error, Broken):
        return Deferred(error.reason, str(error))
    if isinstance(error, HttpRefused):
        if error.status in (401, 403):
            return Deferred("device-wants-login", str(error))
        if error.status == 413:
            return Refused("too-large", str(error))
        reason = "device-not-found" if error.status == 404 else "device-busy"
        return Deferred(reason, str(error), not_before_s=error.retry_after_s)
    status, detail = error.status, str(error)
    if status in _FORMAT:
        return Refused(JobReason.DOCUMENT_FORMAT_ERROR, f"{detail} {FORMAT_ADVICE}")
    if status in _NEVER:
        return Refused(error.keyword, detail)
    if status in _LOGIN:
        advice = "Set user=NAME and password_file=PATH, or allow it at the printer."
        return Deferred("device-wants-login", f"{detail} {advice}")
    if status in _BUSY:
        return Deferred("device-busy", detail)
    if status in _REASONS:
        return Deferred(_REASONS[Status(status)], detail)
    # Something is wrong with this request: other jobs may well be taken.
    return Deferred(error.keyword, detail, Blame.JOB)


def bad_format(format_: str, formats: list[str]) -> Refused:
    known = ", ".join(formats[:12])
    detail = f"The printer takes no {format_}, only {known}. {FORMAT_ADVICE}"
    return Refused(JobReason.DOCUMENT_FORMAT_ERROR, detail)


def is_waiting_for_data(job: JobView) -> bool:
    """Whether the printer has the job, and still waits for its document."""
    if job.is_final or job.state == JobState.PROCESSING:
        return False
    return bool(WAITS_FOR_DATA.intersection(job.reasons)) or job.documents == 0


def is_evidently_whole(job: JobView, k_octets: int) -> bool:
    """Whether a completed job says by itself that it had its whole document of so many KiB."""
    if job.state != JobState.COMPLETED or _CUT_SHORT.intersection(job.reasons):
        return False
    if job.k_octets is not None and job.k_octets >= k_octets:
        return True
    return "job-completed-successfully" in job.reasons


def is_canceled_there(job: JobView, sent: Sent) -> bool:
    """Whether somebody canceled the job at the printer, or from elsewhere."""
    if job.state != JobState.CANCELED:
        return False
    return sent is Sent.WHOLE or bool(_BY_SOMEBODY.intersection(job.reasons))


def is_bad_document(job: JobView) -> bool:
    return bool(_BAD_DOCUMENT.intersection(job.reasons))


def described(job: JobView) -> str:
    """A job's state for people: `aborted (aborted-by-system), 2 impressions: Paper jam`."""
    parts = [job.state_keyword]
    if job.reasons:
        parts.append(f"({', '.join(job.reasons)})")
    said = " ".join(parts)
    if job.impressions is not None:
        said += f", {job.impressions} impressions"
    return f"{said}: {job.message}" if job.message else said


def evidence_of(job: JobView) -> dict[str, Any]:
    """What the printer says of a job, as evidence: `pages` only when it has ended."""
    found: dict[str, Any] = {
        "printer-job-id": job.id,
        "job-state": job.state_keyword if job.state is not None else None,
        "job-state-reasons": list(job.reasons) or None,
        "pages" if job.is_final else "pages-so-far": job.impressions,
        "sheets" if job.is_final else "sheets-so-far": job.sheets,
        "job-k-octets": job.k_octets,
    }
    return {key: value for key, value in found.items() if value is not None}
