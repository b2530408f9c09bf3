"""Rounds of synchronisation: a source is asked, the plan is made, and committed bit by bit.

By a schedule, or when somebody asks; of one source one round at a time. A round that fails leaves
everybody as they were, and is told: by an event, by the source's last round, and as a warning.
"""

from __future__ import annotations

import gc
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import structlog
import trio

from spoold.accounts import ldap
from spoold.accounts.directory import understand
from spoold.accounts.synchronise import Present, Round, Step, plan
from spoold.model.card import Digests, ending
from spoold.model.errors import OperationError, SpoolFull
from spoold.model.source import Source, Vanished
from spoold.spool import accounts, synchronised
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import CardOfSource, Change, EndRound, SyncUser, VanishUser
from spoold.spool.synchronised import KeptSource, Sourced

log = structlog.get_logger("spoold.accounts")

LOOK_INTERVAL_S = 5.0
RETRY_S = 600.0  # after a round that failed, where the next would be later
PAGE_USERS = 500
STEP = 50  # users of one transaction: nobody else waits long for theirs
TROUBLES_MAX = 50
TROUBLE_CHARACTERS_MAX = 300
_FIELDS = ("full_name", "email", "groups", "default_account", "disabled")
_COUNTED = {
    "add": "added",
    "change": "changed",
    "adopt": "adopted",
    "disable": "disabled",
    "remove": "removed",
}


@dataclass(slots=True)
class Told:
    """How a round went: `done`, `planned` (a dry run), `stopped` (too many would go) or `failed`.

    `trouble` counts what is in `troubles`, and what did not fit there any more.
    """

    source: str
    started_us: int
    ended_us: int = 0
    outcome: str = "failed"
    message: str = ""
    advice: str = ""
    seen: int = 0
    added: int = 0
    changed: int = 0
    adopted: int = 0
    disabled: int = 0
    removed: int = 0
    refused: int = 0
    trouble: int = 0
    troubles: list[str] = field(default_factory=list)

    def as_map(self) -> dict[str, Any]:
        return asdict(self)

    def note_troubles(self, troubles: Iterable[str]) -> None:
        for one in troubles:
            self.trouble += 1
            if len(self.troubles) < TROUBLES_MAX:
                self.troubles.append(one[:TROUBLE_CHARACTERS_MAX])


class Rounds:
    """Synchronises the sources of a node."""

    def __init__(
        self,
        journal: Journal,
        reader: SqliteReader,
        digests: Digests,
        wall_clock: Callable[[], int],
        ask: ldap.AsksDirectory = ldap.ask,
    ) -> None:
        self._journal = journal
        self._reader = reader
        self._digests = digests
        self._wall_clock = wall_clock
        self._ask = ask
        self._turns: defaultdict[UUID, trio.Lock] = defaultdict(trio.Lock)
        self._due: dict[UUID, float] = {}

    async def run(self) -> None:
        """Make the rounds that are due, until cancelled.

        Raises:
            StoreFailed: the journal failed; the daemon must stop.
        """
        async with trio.open_nursery() as nursery:
            while True:
                for kept in await self._reader.look(synchronised.sources):
                    if self._is_due(kept):
                        self._due[kept.source.guid] = math.inf  # until this round is over
                        nursery.start_soon(self._scheduled, kept.source)
                await trio.sleep(LOOK_INTERVAL_S)

    def _is_due(self, kept: KeptSource) -> bool:
        """Durations are Trio's; what was before this start is known by the wall clock alone."""
        source = kept.source
        if not source.every_s:
            return False
        now = trio.current_time()
        if source.guid not in self._due:
            # A new source has its first round when somebody had time to look at a dry run.
            since_us = kept.round.get("ended_us", kept.changed_us)
            passed_s = (self._wall_clock() - since_us) / 1e6
            # A clock that went back makes nothing due.
            self._due[source.guid] = now + max(0.0, source.every_s - max(0.0, passed_s))
        # A shorter interval counts from now on.
        due = self._due[source.guid]
        return now >= due or now + source.every_s < due < math.inf

    async def _scheduled(self, source: Source) -> None:
        told = await self.round(source, actor=source.identity)
        is_well = told.outcome == "done"
        after_s = source.every_s if is_well else min(source.every_s, RETRY_S)
        self._due[source.guid] = trio.current_time() + after_s

    async def round(
        self,
        source: Source,
        *,
        actor: str,
        is_dry: bool = False,
        lets_go: bool = False,
        adopts: bool = False,
        show: Callable[[Sequence[Step]], None] = lambda _: None,
    ) -> Told:
        """Make the users of a source what the source says; `lets_go` of however many vanish, and
        `adopts` users of the same name who were made by hand.

        `show` is given every step of the plan, before the first is made.
        """
        async with self._turns[source.guid]:
            told = Told(source.name, self._wall_clock())
            try:
                found = await self._planned(source, adopts=adopts)
                show(found.steps)
                await self._make(source, told, found, actor, is_dry=is_dry, lets_go=lets_go)
            except OperationError as error:
                told.message, told.advice = error.message, error.advice
            except (ldap.DirectoryError, SpoolFull) as error:
                told.message, told.advice = f"{error.cause}.", error.advice
            told.ended_us = self._wall_clock()
            if not is_dry:
                await self._end(source, told, actor)
            return told

    async def _planned(self, source: Source, *, adopts: bool) -> Round:
        """What a round would do, as the directory and the users are now.

        Raises:
            DirectoryError, OperationError: the directory does not say.
        """
        snapshot = await self._ask(source)
        with _no_collections():
            return await self._look_and_plan(source, snapshot, adopts=adopts)

    async def _look_and_plan(
        self, source: Source, snapshot: ldap.Snapshot, *, adopts: bool
    ) -> Round:
        made: list[Sourced] = []
        others: dict[str, UUID | None] = {}
        after_id = 0
        while True:
            look = synchronised.people_page
            page = await self._reader.look(look, source.guid, after_id, PAGE_USERS)
            made += page.made
            others |= page.others
            after_id = page.last_id
            if not after_id:
                break
        plan_it = partial(self._plan, source, snapshot, made, others, adopts=adopts)
        return await trio.to_thread.run_sync(plan_it)

    async def _make(
        self, source: Source, told: Told, found: Round, actor: str, *, is_dry: bool, lets_go: bool
    ) -> None:
        told.seen = found.seen
        told.note_troubles(found.troubles)
        if found.stop and not lets_go:
            told.outcome, told.message = "stopped", found.stop
            told.advice = (
                "Look at the directory and at filters; if it is right, "
                f"`spoold user sync {source.name} --let-go`."
            )
            return
        if is_dry:
            told.outcome = "planned"
            _count(told, [step.action for step in found.steps])
            return
        await self._note_missing_accounts(told, found.steps)
        for start in range(0, len(found.steps), STEP):
            await self._commit(source, told, actor, found.steps[start : start + STEP])
        told.outcome = "done"

    async def _note_missing_accounts(self, told: Told, steps: Sequence[Step]) -> None:
        named = {one.name: one.fields.get("default_account", "") for one in steps}
        wanted = set(named.values()) - {""}
        missing = await self._reader.look(accounts.missing, wanted) if wanted else []
        told.note_troubles(
            f"{name}: there is no account {account}."
            for name, account in named.items()
            if account in missing
        )

    def _plan(
        self,
        source: Source,
        snapshot: ldap.Snapshot,
        made: list[Sourced],
        others: dict[str, UUID | None],
        *,
        adopts: bool,
    ) -> Round:
        """In a thread: of ten thousand people this is half a second."""
        people, groups = ldap.entries(snapshot.people), ldap.entries(snapshot.groups)
        understood = understand(source, people, groups)
        stand_for = {
            person.card: self._digests.card(person.card).hex()
            for person in understood.people
            if person.card
        }
        return plan(source, understood, map(_present, made), others, stand_for, adopts=adopts)

    async def _commit(self, source: Source, told: Told, actor: str, steps: Sequence[Step]) -> None:
        now_us = self._wall_clock()
        changes = [self._change(source, step, now_us, actor) for step in steps]
        answers = await self._journal.commit_all(changes)
        done = []
        for step, answer in zip(steps, answers, strict=True):
            if isinstance(answer, SpoolFull):
                raise answer
            if isinstance(answer, Exception):
                told.refused += 1
                told.note_troubles([f"{step.name}: {answer}"])
                continue
            done.append(str(answer) if step.vanishes is not None else step.action)
            if step.vanishes is None and answer:
                told.note_troubles([str(answer)])
        _count(told, done)

    def _change(self, source: Source, step: Step, now_us: int, actor: str) -> Change:
        if step.vanishes is not None:
            assert step.guid is not None
            removes = step.vanishes is Vanished.REMOVE
            return VanishUser(source, step.guid, now_us, removes, actor)
        card = None
        if step.card is not None:
            number = step.card
            digests = tuple(self._digests.cards(number)) if number else ()
            card = CardOfSource(digests, ending(number), source.name[:40])
        return SyncUser(
            source,
            step.id,
            step.name,
            now_us,
            guid=step.guid,
            was=step.was,
            fields=step.fields,
            is_off=step.is_off,
            adopts=step.adopts,
            card=card,
            actor=actor,
        )

    async def _end(self, source: Source, told: Told, actor: str) -> None:
        """Remember how it went, where others look; a full disk must not stop anything."""
        counts = {key: getattr(told, key) for key in _COUNTED.values()}
        if told.outcome == "done":
            log.info("people_synchronised", source=source.name, trouble=told.trouble, **counts)
        else:
            log.warning(
                "synchronisation_failed",
                source=source.name,
                outcome=told.outcome,
                reason=told.message,
                advice=told.advice,
            )
        try:
            await self._journal.commit(EndRound(source, told.as_map(), told.ended_us, actor))
        except (OperationError, SpoolFull) as error:
            log.warning("round_not_noted", source=source.name, reason=str(error))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Many objects come, none of them in a ring: looking through all of them for rings would stop
    everybody else, of 20,000 people for 0.1 s again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _present(made: Sourced) -> Present:
    fields = {key: getattr(made.user, key) for key in _FIELDS}
    user = made.user
    return Present(
        user.guid, made.id, user.name, fields, made.is_off, made.is_gone, made.card.hex()
    )


def _count(told: Told, actions: Iterable[str]) -> None:
    for action in actions:
        key = _COUNTED[action]
        setattr(told, key, getattr(told, key) + 1)
