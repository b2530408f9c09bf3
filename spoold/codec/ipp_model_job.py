"""A Job as IPP shows it (RFC 8011 5.3, PWG 5100.5, 5100.7, 5100.13; CUPS's own names).

In: a job of the model and where it is found. Out: octets of its attributes, as many as were asked
for. Who may not read a job sees `PUBLIC` alone: numbers, states and times, nothing of any person
(PWG 5100.11, job-privacy-attributes). Times are seconds since 1970, as printer-up-time is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

from spoold.codec import ipp
from spoold.codec.ipp_model import NAME_OCTETS_MAX, TEXT_OCTETS_MAX, fixed, number, string, strings
from spoold.codec.ipp_names import JobState as Number
from spoold.codec.ipp_plain import TEMPLATE, NotPlain, to_attribute
from spoold.codec.ipp_values import Attribute, DateTime, Tag
from spoold.model.job import Job, JobState

SECOND_US = 1_000_000
PRIORITY_MAX = 100  # beyond are jobs that were promoted
TIME = "time"  # held by job-hold-until-time
UNTITLED = "untitled"
ANONYMOUS = "anonymous"


class Uris(Protocol):
    """The name and URI of each printer that is there."""

    def get(self, printer_id: int, /) -> tuple[str, str] | None: ...


class Place(NamedTuple):
    """Where jobs are found: the front of every job's URI, and each printer's name and URI.

    `now_s` is the printer-up-time of this answer; `started_us` when the last attempt of the job
    that is shown began.
    """

    jobs_uri: str
    printers: Uris
    now_s: int
    started_us: int | None = None


Encoder = Callable[[Job, Place], bytes]

_NUMBERS = {state: Number.of(state.value) for state in JobState}
_STATES = {state: number("job-state", Tag.ENUM)(_NUMBERS[state]) for state in JobState}
_MESSAGES = {
    JobState.PENDING: "It waits for its printer.",
    JobState.PENDING_HELD: "It is held.",
    JobState.PROCESSING: "It prints.",
    JobState.PROCESSING_STOPPED: "Its printer takes no more of it for now.",
    JobState.CANCELED: "It was canceled.",
    JobState.ABORTED: "It could not be printed.",
    JobState.COMPLETED: "It was printed.",
}
_reasons = lru_cache(maxsize=512)(strings("job-state-reasons", Tag.KEYWORD))
_detailed = string("job-detailed-status-messages", Tag.TEXT, TEXT_OCTETS_MAX)
_id = number("job-id")
_name = string("job-name", Tag.NAME, NAME_OCTETS_MAX)
_user = string("job-originating-user-name", Tag.NAME, NAME_OCTETS_MAX)
_host = string("job-originating-host-name", Tag.NAME, NAME_OCTETS_MAX)
_output = string("output-device-assigned", Tag.NAME, NAME_OCTETS_MAX)
_document_name = string("document-name-supplied", Tag.NAME, NAME_OCTETS_MAX)
_message = string("job-state-message", Tag.TEXT, TEXT_OCTETS_MAX)
_uri = string("job-uri", Tag.URI)
_printer_uri = string("job-printer-uri", Tag.URI)
_uuid = string("job-uuid", Tag.URI)
_format = string("document-format-supplied", Tag.MIME)
_detected = string("document-format-detected", Tag.MIME)
_k_octets = number("job-k-octets")
_k_octets_processed = number("job-k-octets-processed")
_impressions = number("job-impressions")
_media_sheets = number("job-media-sheets")
_priority = number("job-priority")
_copies = number("copies")
_up_time = number("job-printer-up-time")
_documents = number("number-of-documents")
_created = number("time-at-creation")
_processing = number("time-at-processing")
_completed = number("time-at-completed")
_hold_until = string("job-hold-until", Tag.KEYWORD)
_hold_until_name = string("job-hold-until", Tag.NAME)
_NO_HOLD = _hold_until("no-hold")
_NO_PROCESSING = fixed(Tag.NO_VALUE, "time-at-processing")
_NO_COMPLETED = fixed(Tag.NO_VALUE, "time-at-completed")
_NO_DATE_PROCESSING = fixed(Tag.NO_VALUE, "date-time-at-processing")
_NO_DATE_COMPLETED = fixed(Tag.NO_VALUE, "date-time-at-completed")


def attribute_octets(attribute: Attribute) -> bytes:
    """One attribute as it stands in a group."""
    return ipp.encode_attributes([attribute])


@lru_cache(maxsize=4096)
def _date(name: str, time_us: int) -> bytes:
    when = DateTime.at(time_us / SECOND_US)
    return attribute_octets(ipp.date_time(name, when))


def _message_of(job: Job, _: Place) -> bytes:
    return _message(job.message or _MESSAGES[job.state])


def _printer_uri_of(job: Job, place: Place) -> bytes:
    found = place.printers.get(job.printer_id)
    return _printer_uri(found[1]) if found else b""


def _output_of(job: Job, place: Place) -> bytes:
    found = place.printers.get(job.printer_id)
    return _output(found[0]) if found and job.attempts else b""


def _processed(job: Job, _: Place) -> bytes:
    return _k_octets_processed(job.k_octets if job.state is JobState.COMPLETED else 0)


def _time_processing(_: Job, place: Place) -> bytes:
    started_us = place.started_us
    return _NO_PROCESSING if started_us is None else _processing(started_us // SECOND_US)


def _date_processing(_: Job, place: Place) -> bytes:
    if place.started_us is None:
        return _NO_DATE_PROCESSING
    return _date("date-time-at-processing", place.started_us)


def _time_completed(job: Job, _: Place) -> bytes:
    return _NO_COMPLETED if job.finished_us is None else _completed(job.finished_us // SECOND_US)


def _date_completed(job: Job, _: Place) -> bytes:
    if job.finished_us is None:
        return _NO_DATE_COMPLETED
    return _date("date-time-at-completed", job.finished_us)


def _hold_until_of(job: Job, _: Place) -> bytes:
    until = job.hold_until
    if until == TIME:  # CUPS's clients know a time of day alone, in UTC
        minutes, seconds = divmod((job.release_us or 0) // SECOND_US % 86_400, 60)
        hours, minutes = divmod(minutes, 60)
        return _hold_until_name(f"{hours:02}:{minutes:02}:{seconds:02}")
    return _hold_until(until) if until else _NO_HOLD


def _hold_until_time_of(job: Job, _: Place) -> bytes:
    if job.hold_until != TIME or job.release_us is None:
        return b""
    return _date("job-hold-until-time", job.release_us)


def _documents_of(job: Job, _: Place) -> bytes:
    return _documents(job.documents_here)


@lru_cache(maxsize=4096)
def _template(name: str, value: str | int | bool) -> bytes:
    """A template attribute that jobs have very often in the same few values."""
    return _template_octets(name, value)


def _template_octets(name: str, value: Any) -> bytes:
    try:
        return attribute_octets(to_attribute(name, value))
    except (NotPlain, ValueError):
        return b""  # kept by another version, or submitted over frames as something else


def _from_template(name: str) -> Encoder:
    def encode(job: Job, _: Place) -> bytes:
        value = job.attributes.get(name)
        if value is None:
            return b""
        if isinstance(value, str | int):
            return _template(name, value)
        return _template_octets(name, value)

    return encode


_STATUS: Final[dict[str, Encoder]] = {
    "job-id": lambda job, _: _id(job.id),
    "job-uri": lambda job, place: _uri(f"{place.jobs_uri}{job.id}"),
    "job-uuid": lambda job, _: _uuid(f"urn:uuid:{job.uuid}"),
    "job-printer-uri": _printer_uri_of,
    "job-name": lambda job, _: _name(job.title or UNTITLED),
    "job-originating-user-name": lambda job, _: _user(job.owner.name or ANONYMOUS),
    "job-originating-host-name": lambda job, _: _host(job.client_host) if job.client_host else b"",
    "job-state": lambda job, _: _STATES[job.state],
    "job-state-reasons": lambda job, _: _reasons(job.reasons or ("none",)),
    "job-state-message": _message_of,
    "job-detailed-status-messages": lambda job, _: _detailed(job.message) if job.message else b"",
    "job-k-octets": lambda job, _: _k_octets(job.k_octets),
    "job-k-octets-processed": _processed,
    "job-impressions": lambda job, _: (
        b"" if job.impressions is None else _impressions(job.impressions)
    ),
    "job-media-sheets": lambda job, _: (
        b"" if job.media_sheets is None else _media_sheets(job.media_sheets)
    ),
    "job-printer-up-time": lambda _, place: _up_time(place.now_s),
    "number-of-documents": _documents_of,
    "output-device-assigned": _output_of,
    "document-format-supplied": lambda job, _: _format(job.document.format),
    "document-format-detected": lambda job, _: _detected(job.document.format),
    "document-name-supplied": lambda job, _: (
        _document_name(name) if (name := job.attributes.get("document-name")) else b""
    ),
    "time-at-creation": lambda job, _: _created(job.created_us // SECOND_US),
    "time-at-processing": _time_processing,
    "time-at-completed": _time_completed,
    "date-time-at-creation": lambda job, _: _date("date-time-at-creation", job.created_us),
    "date-time-at-processing": _date_processing,
    "date-time-at-completed": _date_completed,
}
_TEMPLATES: Final[dict[str, Encoder]] = {
    **{name: _from_template(name) for name in TEMPLATE},
    "copies": lambda job, _: _copies(job.copies),
    "job-priority": lambda job, _: _priority(min(job.priority, PRIORITY_MAX)),
    "job-hold-until": _hold_until_of,
    "job-hold-until-time": _hold_until_time_of,
}
_ENCODERS: Final = {**_STATUS, **_TEMPLATES}

JOB_ATTRIBUTES: Final = frozenset(_ENCODERS)
GROUPS: Final[dict[str, frozenset[str]]] = {
    "all": JOB_ATTRIBUTES,
    "job-description": frozenset(_STATUS),
    "job-status": frozenset(_STATUS),
    "job-template": frozenset(_TEMPLATES),
    "job-actuals": frozenset(),
}
LISTED: Final = frozenset({"job-id", "job-uri"})  # Get-Jobs, when nothing else is asked for
PUBLIC: Final = frozenset(
    {
        "date-time-at-completed",
        "date-time-at-creation",
        "date-time-at-processing",
        "job-id",
        "job-k-octets",
        "job-k-octets-processed",
        "job-printer-up-time",
        "job-printer-uri",
        "job-priority",
        "job-state",
        "job-state-reasons",
        "job-uri",
        "job-uuid",
        "number-of-documents",
        "output-device-assigned",
        "time-at-completed",
        "time-at-creation",
        "time-at-processing",
    }
)
PRIVATE: Final = tuple(sorted(JOB_ATTRIBUTES - PUBLIC))


class JobEncoder:
    """The octets of jobs with the attributes that a request asks for."""

    def __init__(self, names: Iterable[str]) -> None:
        wanted = frozenset(names)
        self._whole = [encode for name, encode in _ENCODERS.items() if name in wanted]
        self._public = [
            encode for name, encode in _ENCODERS.items() if name in wanted and name in PUBLIC
        ]

    def group(self, job: Job, place: Place, *, is_redacted: bool) -> bytes:
        """The job-attributes group of one job, with its delimiter."""
        chosen = self._public if is_redacted else self._whole
        return b"\x02" + b"".join([encode(job, place) for encode in chosen])


def created_group(
    place: Place, job_id: int, uuid: Any, state: JobState, reasons: tuple[str, ...], message: str
) -> bytes:
    """The answer to a request that made a job: where it is, and how it does."""
    return b"".join(
        (
            b"\x02",
            _uri(f"{place.jobs_uri}{job_id}"),
            _id(job_id),
            _uuid(f"urn:uuid:{uuid}"),
            _STATES[state],
            _reasons(reasons or ("none",)),
            _message(message or _MESSAGES[state]),
        )
    )
