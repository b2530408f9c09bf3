"""Changes of what other nodes send: their records, rounds of sending, and a journal's branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from spoold.codec.record import Encoded

# How a foreign chain stands: its sender is in it; has other records in it than are here; has gone
# on as another incarnation.
OPEN, FORKED, LEFT = "open", "forked", "left"


class Parent(NamedTuple):
    """The record after which an incarnation begins, in another one of the same journal."""

    incarnation: UUID
    position: int
    hash: bytes


class Received(NamedTuple):
    """Where a foreign chain stands now. `state` is `open`, `forked` or `left`.

    `taken` is how many records came anew; of these `quarantined` could not be applied.
    """

    position: int
    hash: bytes
    state: str
    taken: int = 0
    quarantined: int = 0

    def followed_by(self, later: Received) -> Received:
        """Both answers in one."""
        return later._replace(
            taken=self.taken + later.taken, quarantined=self.quarantined + later.quarantined
        )


@dataclass(slots=True)
class ReceiveRecords:
    """Records of another node's chain, from `first` on, after the hash `previous`.

    `records` follow one another (`codec.batch` has seen to that). `head` is the last position that
    the sender has. `is_oldest`: it keeps nothing before `first`; `is_behind`: it has seen that this
    node has more of it than it has itself. Answer: `Received`; a gap takes nothing, what is here
    already is not taken again, and a fork is noted.
    """

    journal: UUID
    incarnation: UUID
    first: int
    previous: bytes
    records: Sequence[Encoded]
    head: int
    now_us: int
    parent: Parent | None = None
    is_oldest: bool = False
    is_behind: bool = False
    actor: str = "node"

    def rest(self, answer: Received) -> ReceiveRecords | None:
        """What this answer has left for later; None: nothing, or nothing that could be taken."""
        done = answer.position + 1 - self.first
        if not answer.taken or not 0 < done < len(self.records):
            return None
        return replace(
            self, first=answer.position + 1, previous=answer.hash, records=self.records[done:]
        )


@dataclass(slots=True)
class BranchJournal:
    """This node's records behind `position` are of an incarnation of their own from now on.

    For a disk that was put back: another node has other records under those positions of
    `incarnation`, which is the one in use (None) or an older one. Answer: the new incarnation.
    """

    position: int
    now_us: int
    incarnation: UUID | None = None
    actor: str = "node"


@dataclass(slots=True)
class StartRound:
    """A round of sending begins. Answer: its id."""

    peer: UUID
    cause: str
    first: int
    now_us: int


@dataclass(slots=True)
class FinishRound:
    """A round of sending is over; `result` is `done`, or why not. Answer: None."""

    id: int
    last: int
    records: int
    result: str
    now_us: int


@dataclass(slots=True)
class RetryQuarantined:
    """Apply quarantined records of a foreign chain once more. Answer: how many could be.

    Each comes with the positions of those that tell later of the same job (`received.later`): they
    are applied again behind it, so that the job is what was said last.
    """

    chain_id: int
    positions: tuple[tuple[int, ...], ...]
    now_us: int


@dataclass(slots=True)
class ForgetRemote:
    """A node does not know these jobs, of which it has told: nothing is listed of them any more,
    and what was canceled here as it had them waits again. Answer: None.
    """

    node: UUID
    uuids: tuple[UUID, ...]
    now_us: int


@dataclass(slots=True)
class PruneReceived:
    """Forget records of a foreign chain up to `position`; its hash stays. Answer: how many."""

    chain_id: int
    position: int
    now_us: int
