"""Changes of rights, of what holds at sites that are alone, and of emergencies."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from spoold.model.offline import OfflinePolicy, Right, Want


@dataclass(slots=True)
class GrantRights:
    """A site asks for rights, and says what it holds. Answer: `Granted`.

    `incarnation` is that of the site's journal, `upstream` that of this node by which the site was
    granted what it reports as `held`. `books` is how far each incarnation of the site's journal was
    when its line began (see `spool/books.py`). Of the `withheld` holders it gets no more now; what
    it was granted before is told all the same, as the answer to that may have been lost.
    """

    site: UUID
    incarnation: UUID
    epoch: int
    upstream: UUID | None
    wants: tuple[Want, ...]
    held: tuple[Right, ...]
    now_us: int
    actor: str = "node"
    withheld: frozenset[UUID] = frozenset()
    books: tuple[tuple[UUID, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Granted:
    """The rights of those whom a site asked for, altogether in this `epoch`."""

    epoch: int
    valid_us: int
    upstream: UUID
    policy: OfflinePolicy
    rights: tuple[Right, ...]


@dataclass(slots=True)
class KeepRights:
    """A site keeps what it was granted, asked for at `asked_us` by its journal's `incarnation`.

    Answer: None. Refused with `conflict` when it has begun anew meanwhile.
    """

    site: UUID
    incarnation: UUID
    granted: Granted
    asked_us: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class ReturnRights:
    """A site gives back what it may spend beyond `keep` of a holder's money. Answer: how much."""

    holder: UUID
    keep: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class ReturnOver:
    """A site gives back what it holds of a holder's allowances whose periods were over `before_us`,
    so that it is carried over as the rest of them. Answer: how much.
    """

    holder: UUID
    before_us: int
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class ReclaimRights:
    """Take back, of at most `limit` holders, what sites hold no more. Answer: of how many.

    Sites that are `here` keep what they have, whatever the time is: a clock may have been set
    ahead. None: so does every site, as it is not known yet who is.
    """

    now_us: int
    here: frozenset[UUID] | None = frozenset()
    limit: int = 200
    actor: str = "node"


@dataclass(slots=True)
class PutPolicy:
    """What holds at a site that is alone; `site` None: at all that have no policy. Answer: None."""

    site: UUID | None
    policy: OfflinePolicy | None  # None: no own one
    now_us: int
    actor: str = "node"


@dataclass(slots=True)
class SetEmergency:
    """Held printers print at once until then; None: no more. Answer: None.

    Refused with `not-possible` when it has ended already.
    """

    until_us: int | None
    now_us: int
    reason: str = ""
    actor: str = "node"


@dataclass(slots=True)
class KeepVerifier:
    """A directory has accepted this password, kept sealed; None: forget it. Answer: None."""

    person: UUID
    sealed: bytes | None = field(repr=False)
    now_us: int
