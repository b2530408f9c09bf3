"""What a commit tells those who listen: values, in the order in which the changes were decided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from spoold.model.charge import Charge
from spoold.model.job import JobState
from spoold.model.mfd import Mfd, Session, SessionEnd
from spoold.model.node import Node
from spoold.model.printer import Device, Printer


class JobMoved(NamedTuple):
    """A committed change of a job; `old` is None for a new one. A tuple: there are very many."""

    job_id: int
    uuid: UUID
    printer_id: int
    old: JobState | None
    new: JobState
    reasons: tuple[str, ...]
    priority: int
    owner: str
    size: int
    position: int
    old_printer_id: int | None = None


class JobClaimed(NamedTuple):
    """A job was accepted for a device that stood ready, and has the mark of its attempt."""

    job_id: int
    printer_id: int
    device_id: int
    number: int
    owner: str
    priority: int


@dataclass(frozen=True, slots=True)
class JobPlaced:
    """A committed change of a pending job's place; `after_id` None: it has its priority's."""

    job_id: int
    printer_id: int
    after_id: int | None


@dataclass(frozen=True, slots=True)
class PrinterChanged:
    """A committed change of a printer or of its device. `printer` is None when it was removed."""

    printer_id: int
    printer: Printer | None
    device: Device | None


@dataclass(frozen=True, slots=True)
class ProviderRevoked:
    """A committed revocation: these certificates are refused from now on."""

    guid: UUID
    serials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserChanged:
    """A committed change of a user: added, changed, removed, or `serials` revoked.

    `ends_connections`: those that the user has open stand for more than the user may do now.
    `revokes`: a card, PIN or password does not count any more.
    """

    guid: UUID
    name: str
    serials: tuple[str, ...] = ()
    ends_connections: bool = False
    revokes: bool = False

    @property
    def ends_sessions(self) -> bool:
        """Whether whoever is logged in at a machine as this user has to log in again."""
        return self.ends_connections or self.revokes


@dataclass(frozen=True, slots=True)
class MfdChanged:
    """A committed change of an MFD; `token_key` is the hash of its token as of now.

    `serials` were revoked; `ends_tokens`: what was opened with a token before ends.
    """

    mfd: Mfd
    token_key: bytes | None = field(repr=False)
    serials: tuple[str, ...] = ()
    ends_tokens: bool = False


@dataclass(frozen=True, slots=True)
class NodeChanged:
    """A committed change of a site; `serials` were revoked with it."""

    node: Node
    serials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionStarted:
    session: Session


@dataclass(frozen=True, slots=True)
class SessionEnded:
    key: bytes = field(repr=False)
    mfd: UUID
    person: UUID
    reason: SessionEnd


@dataclass(frozen=True, slots=True)
class Charged:
    """A committed step of a charge: reserved, settled, canceled or refunded. Its payer has more or
    less by it.
    """

    charge: Charge


@dataclass(frozen=True, slots=True)
class BalanceChanged:
    """A committed change of what a holder has, by hand."""

    holder: UUID


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """A committed change of a shared account: added, or who may charge to it is another."""

    guid: UUID


@dataclass(frozen=True, slots=True)
class PricesChanged:
    """A committed new version of the price list."""

    version: int


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """What holds at a site that is cut off is another; None: at all that have no policy."""

    site: UUID | None


class MoneyCame(NamedTuple):
    """A holder has more than before; None: many may have, by an allowance."""

    holder: UUID | None
    is_account: bool = False


@dataclass(frozen=True, slots=True)
class RepairSettled:
    """What a site has changed of a printer is over there: this node says how it is."""

    site: UUID


@dataclass(frozen=True, slots=True)
class EmergencyChanged:
    """Held printers print at once until then; None: no more."""

    until_us: int | None


class RecordsReceived(NamedTuple):
    """Records of another node were taken, up to `position` of the `head` that it has."""

    journal: UUID
    incarnation: UUID
    position: int
    head: int
    taken: int


@dataclass(frozen=True, slots=True)
class RecordQuarantined:
    """A record of another node was kept, and could not be applied."""

    journal: UUID
    position: int
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecordsMissing:
    """Another node does not keep these records any more, and they never came."""

    journal: UUID
    incarnation: UUID
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class JournalForked:
    """Another node has other records, up to a position, than it had sent before."""

    journal: UUID
    incarnation: UUID
    position: int


@dataclass(frozen=True, slots=True)
class JournalBranched:
    """This node was put back, as another one has shown: it goes on from this position."""

    position: int


@dataclass(frozen=True, slots=True)
class RightsThawed:
    """A site has begun anew, and may have rights again: of another epoch, once it asks."""

    site: UUID


@dataclass(frozen=True, slots=True)
class SiteWentBack:
    """A site goes on from an earlier state, or something came that it sent before that: it may
    have told of jobs that it does not know.
    """

    site: UUID


@dataclass(frozen=True, slots=True)
class SiteTold:
    """Another node has recorded something that operators of this one want to hear of, too."""

    journal: UUID
    position: int
    kind: str


@dataclass(frozen=True, slots=True)
class PrintedTwice:
    """A job of this node came out on paper at another one, too."""

    uuid: UUID
    job_id: int
    journal: UUID


@dataclass(frozen=True, slots=True)
class RightsDrawn:
    """A site was granted so much, in 1/10,000, beyond what it holds ahead of need. More than
    `alarm` of it in a day is unusual.
    """

    site: UUID
    amount: int
    alarm: int


@dataclass(frozen=True, slots=True)
class ClaimRefused:
    """Another node says that it prints a job of this one, which it cannot have."""

    uuid: UUID
    job_id: int
    journal: UUID


@dataclass(frozen=True, slots=True)
class TwinFound:
    """A job that was printed here waits at another node."""

    uuid: UUID


Event = (
    JobMoved
    | JobClaimed
    | JobPlaced
    | PrinterChanged
    | ProviderRevoked
    | UserChanged
    | MfdChanged
    | NodeChanged
    | SessionStarted
    | SessionEnded
    | Charged
    | AccountChanged
    | BalanceChanged
    | PricesChanged
    | PolicyChanged
    | MoneyCame
    | RepairSettled
    | EmergencyChanged
    | RecordsReceived
    | RecordQuarantined
    | RecordsMissing
    | JournalForked
    | JournalBranched
    | RightsThawed
    | SiteTold
    | SiteWentBack
    | PrintedTwice
    | ClaimRefused
    | RightsDrawn
    | TwinFound
)
