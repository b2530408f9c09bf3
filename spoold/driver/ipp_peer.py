"""A printer spoken to in IPP: one method an operation; its answers are values.

In: a `Session`. Out: groups of attributes, and `JobView`s; an answer that is no success is raised
as `IppRefused`. The printer is asked in IPP/2.0, or in an older version when it knows no better.
Each job carries a `token` of ours at the end of its name, by which it is found again when its
number was lost (RFC 8011 4.2.6, Get-Jobs).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Final

from spoold.codec import ipp
from spoold.codec.ipp_names import (
    JobState,
    Operation,
    Status,
    passed_on_as,
    status_keyword,
)
from spoold.codec.ipp_values import Attribute, Group, Message, Tag
from spoold.driver.ipp_offer import text_of
from spoold.driver.ipp_session import Habits, HttpRefused, Session
from spoold.driver.ipp_upload import Upload

VERSIONS: Final = ((2, 0), (1, 1), (1, 0))
NAME_OCTETS_MAX: Final = 127  # of a job's name: many printers keep no more, and the token is last
JOB_ATTRIBUTES: Final = (
    "job-id", "job-uri", "job-name", "job-state", "job-state-reasons", "job-state-message",
    "job-k-octets", "job-k-octets-processed", "job-impressions-completed",
    "job-media-sheets-completed", "number-of-documents",
)  # fmt: skip
JOBS_LIMIT: Final = 500
_TOO_NEW: Final = (Status.SERVER_ERROR_VERSION_NOT_SUPPORTED, Status.CLIENT_ERROR_BAD_REQUEST)
_FINAL: Final = frozenset({JobState.CANCELED, JobState.ABORTED, JobState.COMPLETED})


class IppRefused(Exception):
    """The printer answered with a status that is no success. `unsupported` are names it named."""

    def __init__(self, operation: Operation, answer: Message) -> None:
        self.status = answer.code
        self.keyword = status_keyword(answer.code)
        group = answer.group(Tag.OPERATION)
        words = [
            text_of(group.first(name)) if group is not None else ""
            for name in ("status-message", "detailed-status-message")
        ]
        # Many printers have nothing to say but the status once more.
        told = [word for word in dict.fromkeys(words) if word not in ("", self.keyword)]
        said = "; ".join(told).rstrip(".")
        unsupported = answer.group(Tag.UNSUPPORTED)
        self.unsupported = list(unsupported.attributes) if unsupported is not None else []
        super().__init__(f"{operation.keyword}: {self.keyword}.{f' {said}.' if said else ''}")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as the printer tells of it."""

    group: Group

    def _number(self, name: str) -> int | None:
        found = self.group.first(name)
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def id(self) -> int | None:
        found = self._number("job-id")
        return found if found is not None and found > 0 else None

    @property
    def uri(self) -> str:
        return text_of(self.group.first("job-uri"))

    @property
    def name(self) -> str:
        return text_of(self.group.first("job-name"))

    @property
    def state(self) -> int | None:
        return self._number("job-state")

    @property
    def is_final(self) -> bool:
        return self.state in _FINAL

    @property
    def reasons(self) -> tuple[str, ...]:
        attribute = self.group.get("job-state-reasons")
        words = [text_of(one) for one in attribute.all] if attribute is not None else []
        return tuple(word for word in words if word and word != "none")

    @property
    def message(self) -> str:
        return text_of(self.group.first("job-state-message"))

    @property
    def impressions(self) -> int | None:
        return self._number("job-impressions-completed")

    @property
    def sheets(self) -> int | None:
        return self._number("job-media-sheets-completed")

    @property
    def k_octets(self) -> int | None:
        return self._number("job-k-octets")

    @property
    def documents(self) -> int | None:
        return self._number("number-of-documents")

    @property
    def state_keyword(self) -> str:
        try:
            return JobState(self.state or 0).keyword
        except ValueError:
            return f"state {self.state}"


class Peer:
    """`user` is whose jobs they are to the printer (requesting-user-name)."""

    def __init__(self, session: Session, uri: str, user: str, habits: Habits) -> None:
        self.session = session
        self.uri = uri
        self._user = user
        self._habits = habits
        self._numbers = count(1)

    def _request(
        self,
        operation: Operation,
        attributes: Iterable[Attribute],
        template: Iterable[Attribute] = (),
        job_id: int | None = None,
    ) -> Message:
        target = [ipp.uri("printer-uri", self.uri)]
        if job_id is not None:
            target.append(ipp.integer("job-id", job_id))
        first = (
            ipp.charset("attributes-charset", "utf-8"),
            ipp.language("attributes-natural-language", "en"),
            *target,
            ipp.name_("requesting-user-name", self._user),
        )
        groups = [ipp.group(Tag.OPERATION, (*first, *attributes))]
        wishes = list(template)
        if wishes:
            groups.append(ipp.group(Tag.JOB, wishes))
        return Message(self._habits.version, operation, next(self._numbers), groups)

    async def _ask(
        self, operation: Operation, message: Message, *, is_repeatable: bool = True
    ) -> Message:
        return _checked(operation, await self.session.ask(message, is_repeatable=is_repeatable))

    # --- the printer ------------------------------------------------------------------------------

    async def printer(self, names: Iterable[str]) -> Group:
        """Get-Printer-Attributes, in the newest version that the printer knows.

        Raises:
            IppRefused, Broken, HttpRefused
        """
        operation = Operation.GET_PRINTER_ATTRIBUTES
        asked = ipp.keyword("requested-attributes", *names)
        while True:
            try:
                answer = await self._ask(operation, self._request(operation, [asked]))
            except (IppRefused, HttpRefused) as error:
                is_refused = isinstance(error, IppRefused)
                is_too_new = error.status in _TOO_NEW if is_refused else error.status == 400
                older = [one for one in VERSIONS if one < self._habits.version]
                if not is_too_new or not older:
                    raise
                self._habits.version = older[0]
            else:
                return answer.group(Tag.PRINTER) or Group(Tag.PRINTER, {})

    # --- jobs -------------------------------------------------------------------------------------

    async def create_job(self, name: str, wishes: Iterable[Attribute]) -> tuple[JobView, list[str]]:
        """Create-Job: a job without a document; and which wishes the printer did without.

        Raises:
            IppRefused, Broken, HttpRefused
        """
        operation = Operation.CREATE_JOB
        message = self._request(operation, _named(name), wishes)
        return _made(await self._ask(operation, message, is_repeatable=False))

    async def send_document(self, job_id: int, name: str, format_: str, upload: Upload) -> JobView:
        """Send-Document: the job's one document.

        Raises:
            IppRefused, Broken, HttpRefused, SourceFailed
        """
        operation = Operation.SEND_DOCUMENT
        attributes = [
            ipp.name_("document-name", name),
            *_format(format_),
            ipp.boolean("last-document", True),
        ]
        message = self._request(operation, attributes, job_id=job_id)
        return _made(_checked(operation, await self.session.send(message, upload)))[0]

    async def print_job(
        self, name: str, format_: str, wishes: Iterable[Attribute], upload: Upload
    ) -> tuple[JobView, list[str]]:
        """Print-Job: a job with its document.

        Raises:
            IppRefused, Broken, HttpRefused, SourceFailed
        """
        operation = Operation.PRINT_JOB
        message = self._request(operation, [*_named(name), *_format(format_)], wishes)
        return _made(_checked(operation, await self.session.send(message, upload)))

    async def job(self, job_id: int) -> JobView:
        """Get-Job-Attributes.

        Raises:
            IppRefused, Broken, HttpRefused
        """
        operation = Operation.GET_JOB_ATTRIBUTES
        asked = ipp.keyword("requested-attributes", *JOB_ATTRIBUTES)
        answer = await self._ask(operation, self._request(operation, [asked], job_id=job_id))
        return _made(answer)[0]

    async def cancel(self, job_id: int) -> None:
        """Cancel-Job.

        Raises:
            IppRefused, Broken, HttpRefused
        """
        operation = Operation.CANCEL_JOB
        await self._ask(operation, self._request(operation, [], job_id=job_id))

    async def find(self, token: str) -> JobView | None:
        """The job whose name holds our token, among those that wait or print and the finished ones.

        Raises:
            IppRefused, Broken, HttpRefused: there is no telling.
        """
        for is_mine in (True, False):
            for which in ("not-completed", "completed"):
                for job in await self._jobs(which, is_mine):
                    if token in job.name and job.id is not None:
                        return job
        return None

    async def _jobs(self, which: str, is_mine: bool) -> list[JobView]:
        operation = Operation.GET_JOBS
        attributes = [
            ipp.integer("limit", JOBS_LIMIT),
            ipp.keyword("requested-attributes", *JOB_ATTRIBUTES),
            ipp.keyword("which-jobs", which),
            ipp.boolean("my-jobs", is_mine),
        ]
        answer = await self._ask(operation, self._request(operation, attributes))
        return [JobView(group) for group in answer.groups_of(Tag.JOB)]


def job_name(title: str, token: str) -> str:
    """What a job is called at the printer."""
    return passed_on_as(title, token, NAME_OCTETS_MAX)


def is_called(said: str, name: str) -> bool:
    """Whether what a printer calls a job can be `name`, cut short or with other characters."""
    ours, theirs = (
        "".join(c.lower() for c in one if c.isascii() and c.isalnum()) for one in (name, said)
    )
    return not theirs or ours.startswith(theirs[:12]) or ours[-32:] in theirs


def _named(name: str) -> list[Attribute]:
    return [ipp.name_("job-name", name), ipp.boolean("ipp-attribute-fidelity", False)]


def _format(format_: str) -> list[Attribute]:
    return [ipp.mime("document-format", format_)] if format_ else []


def _checked(operation: Operation, answer: Message) -> Message:
    if not 0 <= answer.code < 0x0100:
        raise IppRefused(operation, answer)
    return answer


def _made(answer: Message) -> tuple[JobView, list[str]]:
    unsupported = answer.group(Tag.UNSUPPORTED)
    group = answer.group(Tag.JOB) or Group(Tag.JOB, {})
    return JobView(group), list(unsupported.attributes) if unsupported is not None else []
