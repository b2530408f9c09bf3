"""The contract of a store: changes go in as values, results come out after one commit.

A change is decided inside the committing transaction, against the state that it finds there. A
change that is refused (`OperationError`) writes nothing and leaves the others of its group alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from spoold.model.job import Job, JobState
from spoold.spool.changes.jobs import NO_DOCUMENT as NO_DOCUMENT
from spoold.spool.changes.jobs import Accepted as Accepted
from spoold.spool.changes.jobs import AcceptJob as AcceptJob
from spoold.spool.changes.jobs import AttachDocument as AttachDocument
from spoold.spool.changes.jobs import ChangeJob as ChangeJob
from spoold.spool.changes.jobs import CloseJob as CloseJob
from spoold.spool.changes.jobs import CopyJob as CopyJob
from spoold.spool.changes.jobs import EndAttempt as EndAttempt
from spoold.spool.changes.jobs import EndHold as EndHold
from spoold.spool.changes.jobs import ForgetTombstones as ForgetTombstones
from spoold.spool.changes.jobs import NewDocument as NewDocument
from spoold.spool.changes.jobs import NoteAttempt as NoteAttempt
from spoold.spool.changes.jobs import OpenJob as OpenJob
from spoold.spool.changes.jobs import PlaceJob as PlaceJob
from spoold.spool.changes.jobs import RemoveJobs as RemoveJobs
from spoold.spool.changes.jobs import ReportJob as ReportJob
from spoold.spool.changes.jobs import SetJob as SetJob
from spoold.spool.changes.jobs import StartAttempt as StartAttempt
from spoold.spool.changes.mfds import EndSession as EndSession
from spoold.spool.changes.mfds import ForgetSessions as ForgetSessions
from spoold.spool.changes.mfds import PutMfd as PutMfd
from spoold.spool.changes.mfds import RevokeMfd as RevokeMfd
from spoold.spool.changes.mfds import StartSession as StartSession
from spoold.spool.changes.mfds import TouchSessions as TouchSessions
from spoold.spool.changes.money import Adjust as Adjust
from spoold.spool.changes.money import Cancel as Cancel
from spoold.spool.changes.money import CarryLedger as CarryLedger
from spoold.spool.changes.money import PaidElsewhere as PaidElsewhere
from spoold.spool.changes.money import PutAccount as PutAccount
from spoold.spool.changes.money import PutAllowance as PutAllowance
from spoold.spool.changes.money import PutPrices as PutPrices
from spoold.spool.changes.money import PutTerms as PutTerms
from spoold.spool.changes.money import Refund as Refund
from spoold.spool.changes.money import RemoveAccount as RemoveAccount
from spoold.spool.changes.money import RemoveAllowance as RemoveAllowance
from spoold.spool.changes.money import Reserve as Reserve
from spoold.spool.changes.money import Settle as Settle
from spoold.spool.changes.nodes import AdmitGuest as AdmitGuest
from spoold.spool.changes.nodes import ApproveNode as ApproveNode
from spoold.spool.changes.nodes import CertifyNode as CertifyNode
from spoold.spool.changes.nodes import InviteNode as InviteNode
from spoold.spool.changes.nodes import JoinNode as JoinNode
from spoold.spool.changes.nodes import NoteAdvertised as NoteAdvertised
from spoold.spool.changes.nodes import NoteTold as NoteTold
from spoold.spool.changes.nodes import RevokeNode as RevokeNode
from spoold.spool.changes.objects import PutDevice as PutDevice
from spoold.spool.changes.objects import PutPrinter as PutPrinter
from spoold.spool.changes.objects import PutProvider as PutProvider
from spoold.spool.changes.objects import RemovePrinter as RemovePrinter
from spoold.spool.changes.objects import RevokeProvider as RevokeProvider
from spoold.spool.changes.people import EnrolUser as EnrolUser
from spoold.spool.changes.people import ErasePerson as ErasePerson
from spoold.spool.changes.people import EraseRecords as EraseRecords
from spoold.spool.changes.people import KeepThrottles as KeepThrottles
from spoold.spool.changes.people import PutCard as PutCard
from spoold.spool.changes.people import PutPin as PutPin
from spoold.spool.changes.people import PutUser as PutUser
from spoold.spool.changes.people import RemoveCard as RemoveCard
from spoold.spool.changes.people import RemoveUser as RemoveUser
from spoold.spool.changes.people import RenameUser as RenameUser
from spoold.spool.changes.people import RevokeUser as RevokeUser
from spoold.spool.changes.receiving import BranchJournal as BranchJournal
from spoold.spool.changes.receiving import FinishRound as FinishRound
from spoold.spool.changes.receiving import ForgetRemote as ForgetRemote
from spoold.spool.changes.receiving import Parent as Parent
from spoold.spool.changes.receiving import PruneReceived as PruneReceived
from spoold.spool.changes.receiving import Received as Received
from spoold.spool.changes.receiving import ReceiveRecords as ReceiveRecords
from spoold.spool.changes.receiving import RetryQuarantined as RetryQuarantined
from spoold.spool.changes.receiving import StartRound as StartRound
from spoold.spool.changes.records import AddRecord as AddRecord
from spoold.spool.changes.records import PruneRecords as PruneRecords
from spoold.spool.changes.records import PutCursor as PutCursor
from spoold.spool.changes.records import RemoveCursor as RemoveCursor
from spoold.spool.changes.release import Cost as Cost
from spoold.spool.changes.release import CountJob as CountJob
from spoold.spool.changes.release import Released as Released
from spoold.spool.changes.release import ReleaseEntry as ReleaseEntry
from spoold.spool.changes.release import ReleaseJob as ReleaseJob
from spoold.spool.changes.repairs import EndRepair as EndRepair
from spoold.spool.changes.repairs import RepairPrinter as RepairPrinter
from spoold.spool.changes.repairs import SettleRepair as SettleRepair
from spoold.spool.changes.replica import Applied as Applied
from spoold.spool.changes.replica import ApplyObjects as ApplyObjects
from spoold.spool.changes.rights import Granted as Granted
from spoold.spool.changes.rights import GrantRights as GrantRights
from spoold.spool.changes.rights import KeepRights as KeepRights
from spoold.spool.changes.rights import KeepVerifier as KeepVerifier
from spoold.spool.changes.rights import PutPolicy as PutPolicy
from spoold.spool.changes.rights import ReclaimRights as ReclaimRights
from spoold.spool.changes.rights import ReturnOver as ReturnOver
from spoold.spool.changes.rights import ReturnRights as ReturnRights
from spoold.spool.changes.rights import SetEmergency as SetEmergency
from spoold.spool.changes.sources import CardOfSource as CardOfSource
from spoold.spool.changes.sources import EndRound as EndRound
from spoold.spool.changes.sources import PutSource as PutSource
from spoold.spool.changes.sources import RemoveSource as RemoveSource
from spoold.spool.changes.sources import SyncUser as SyncUser
from spoold.spool.changes.sources import VanishUser as VanishUser
from spoold.spool.events import AccountChanged as AccountChanged
from spoold.spool.events import BalanceChanged as BalanceChanged
from spoold.spool.events import Charged as Charged
from spoold.spool.events import ClaimRefused as ClaimRefused
from spoold.spool.events import EmergencyChanged as EmergencyChanged
from spoold.spool.events import Event as Event
from spoold.spool.events import JobClaimed as JobClaimed
from spoold.spool.events import JobMoved as JobMoved
from spoold.spool.events import JobPlaced as JobPlaced
from spoold.spool.events import JournalBranched as JournalBranched
from spoold.spool.events import JournalForked as JournalForked
from spoold.spool.events import MfdChanged as MfdChanged
from spoold.spool.events import MoneyCame as MoneyCame
from spoold.spool.events import NodeChanged as NodeChanged
from spoold.spool.events import PolicyChanged as PolicyChanged
from spoold.spool.events import PricesChanged as PricesChanged
from spoold.spool.events import PrintedTwice as PrintedTwice
from spoold.spool.events import PrinterChanged as PrinterChanged
from spoold.spool.events import ProviderRevoked as ProviderRevoked
from spoold.spool.events import RecordQuarantined as RecordQuarantined
from spoold.spool.events import RecordsMissing as RecordsMissing
from spoold.spool.events import RecordsReceived as RecordsReceived
from spoold.spool.events import RepairSettled as RepairSettled
from spoold.spool.events import RightsDrawn as RightsDrawn
from spoold.spool.events import RightsThawed as RightsThawed
from spoold.spool.events import SessionEnded as SessionEnded
from spoold.spool.events import SessionStarted as SessionStarted
from spoold.spool.events import SiteTold as SiteTold
from spoold.spool.events import SiteWentBack as SiteWentBack
from spoold.spool.events import TwinFound as TwinFound
from spoold.spool.events import UserChanged as UserChanged

Change = (
    AcceptJob
    | OpenJob
    | ReportJob
    | AttachDocument
    | CloseJob
    | CopyJob
    | EndHold
    | SetJob
    | PlaceJob
    | StartAttempt
    | NoteAttempt
    | EndAttempt
    | ChangeJob
    | CountJob
    | ReleaseJob
    | PutDevice
    | PutPrinter
    | RemovePrinter
    | AddRecord
    | PutProvider
    | RevokeProvider
    | PutUser
    | RemoveUser
    | RenameUser
    | EnrolUser
    | RevokeUser
    | PutSource
    | RemoveSource
    | SyncUser
    | VanishUser
    | EndRound
    | PutCard
    | RemoveCard
    | PutPin
    | KeepThrottles
    | EraseRecords
    | ErasePerson
    | InviteNode
    | JoinNode
    | ApproveNode
    | AdmitGuest
    | CertifyNode
    | NoteAdvertised
    | NoteTold
    | RevokeNode
    | PutMfd
    | RevokeMfd
    | StartSession
    | EndSession
    | TouchSessions
    | ForgetSessions
    | PutPrices
    | PutTerms
    | PutAllowance
    | RemoveAllowance
    | PutAccount
    | RemoveAccount
    | Adjust
    | Reserve
    | Settle
    | Cancel
    | PaidElsewhere
    | CarryLedger
    | Refund
    | GrantRights
    | KeepRights
    | ReturnRights
    | ReturnOver
    | ReclaimRights
    | PutPolicy
    | SetEmergency
    | KeepVerifier
    | RepairPrinter
    | EndRepair
    | SettleRepair
    | PutCursor
    | RemoveCursor
    | RemoveJobs
    | ForgetTombstones
    | PruneRecords
    | ApplyObjects
    | ReceiveRecords
    | BranchJournal
    | StartRound
    | FinishRound
    | RetryQuarantined
    | ForgetRemote
    | PruneReceived
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as it is kept. `outcome` is "" while nobody knows how it ended.

    `document` is the number of the document that it was to deliver. `device_uri` is where its
    device was then, if it was given another address before the attempt ended; else "".
    """

    job_id: int
    number: int
    device_id: int
    printer_id: int
    started_us: int
    ended_us: int | None
    outcome: str
    reason: str
    detail: str
    bytes_sent: int
    evidence: dict[str, Any]
    document: int = 1
    device_uri: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    guid: UUID
    name: str
    serials: tuple[str, ...]
    may_assert: tuple[str, ...]
    revoked: bool
    not_after_us: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that somebody was given; `serial` in hexadecimal."""

    serial: str
    not_after_us: int
    revoked: bool


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; None and empty mean any. `after_id` is the key of the page before."""

    ids: tuple[int, ...] = ()
    states: tuple[JobState, ...] = ()
    printer_id: int | None = None
    owner: str | None = None
    title: str | None = None  # a substring, case-insensitive
    reason: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    after_id: int = 0
    newest_first: bool = False
    limit: int = 50


class Store(Protocol):
    """Synchronous, called in the writer's thread (`apply`) or a reader's (the rest)."""

    def apply(self, changes: list[Change]) -> tuple[list[Any], list[Event]]:
        """Decide and commit `changes` as one durable transaction.

        Answers stand in the order of the changes; a refused one is its `OperationError` (or
        `SpoolFull`) as a value.

        Raises:
            SpoolFull: there is no room at all, also not for what needs little; nothing was written.
            StoreFailed: an I/O error. Nothing after it is durable; the daemon must stop.
        """
        ...


class Reader(Protocol):
    """Listings and look-ups: each call is one short snapshot of the committed state."""

    async def job(self, job_id: int) -> Job | None: ...
    async def job_by_uuid(self, uuid: UUID) -> Job | None: ...
    async def jobs(self, which: JobFilter) -> list[Job]: ...
    async def attempts(self, job_id: int) -> list[Attempt]: ...
    async def document_body(self, job_id: int) -> bytes | None: ...
