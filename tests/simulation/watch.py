"""What must hold at every moment, and is looked at while a world goes on.

Each raises AssertionError in the middle of whatever breaks it, so that the trace ends there.
"""

from __future__ import annotations

import math
import sqlite3
from typing import Any
from uuid import UUID

import trio

from simulation import times
from simulation.node import SOON_S, Life
from simulation.world import Offer, World
from spoold.model.job import JobReason, JobState
from spoold.model.node import LineState
from spoold.site.detector import BACK_S
from spoold.spool import handed, replica
from spoold.spool.replication import Copy
from spoold.spool.store import Event, JobMoved

RELEASED = (JobState.PENDING_HELD, JobState.PENDING)
RELEASE_WAIT = JobReason.JOB_RELEASE_WAIT.value
CLOCK_S = 1e-5  # to which clocks and the time of the world are the same
GIVEN_UP_S = SOON_S + 2.5  # in which a late release has been looked at


def watch(world: World, life: Life) -> None:
    """Look at a node that has just begun to live."""
    life.journal.listen(lambda events: note_releases(world, life, events))
    if life.is_site:
        watch_line(world, life)
        times.note(world, life)
        life.journal.listen(lambda events: check_taken(world, life, events))
        life.journal.listen(lambda events: check_soon(world, life, events))
    else:
        watch_releases(world, life)
        watch_offers(world, life)


def note_releases(world: World, life: Life, events: list[Event]) -> None:
    """Where somebody has had a job come out that waited there."""
    for event in events:
        if type(event) is JobMoved and (event.old, event.new) == RELEASED:
            world.released_at.setdefault(event.uuid, set()).add(life.name)


def watch_releases(world: World, life: Life) -> None:
    """What people released for a site, and was not offered to it soon, waits again."""
    waiting: dict[UUID, float] = {}

    def heard(events: list[Event]) -> None:
        now_s = trio.current_time()
        for event in events:
            if type(event) is JobMoved:
                waiting.pop(event.uuid, None)
                if JobState.PENDING_HELD in (event.old, event.new):
                    world.released_s.pop(event.uuid, None)
                if event.new is JobState.PENDING and is_released(life, event):
                    world.released_s[event.uuid] = waiting[event.uuid] = now_s
        for uuid, since_s in waiting.items():
            waits_s = now_s - since_s
            assert waits_s < GIVEN_UP_S, f"{uuid} was released {waits_s:.3f} s ago, and still waits"

    life.journal.listen(heard)


def is_released(life: Life, moved: JobMoved) -> bool:
    """Whether a person has it come out at a machine of a site, by what moved it."""
    if moved.old is not JobState.PENDING_HELD or not life.handing._is_of_site(moved.printer_id):
        return False
    return bool(handed.released_by_people(life.store.db, [moved.job_id]))


def watch_offers(world: World, life: Life) -> None:
    """Which jobs sites are offered, and how long after their release."""
    begun_s = trio.current_time()
    ask = life.handing.offers

    async def offers(guid: UUID) -> list[dict[str, Any]]:
        found = await ask(guid)
        now_s = trio.current_time()
        site = next((one for one in world.lives.values() if one.guid == guid), None)
        line = None if site is None else site.line.upstream
        for one in found:
            uuid = UUID(one["job_uuid"])
            since_s = world.released_s.get(uuid, now_s)
            if since_s < begun_s and world.clocks[life.name].was_set:
                since_s = now_s  # of a release before its life a node knows by its clock alone
            after_s = math.inf if one["late"] else now_s - since_s
            world.offered[uuid] = Offer(after_s, line)
        return found

    life.handing.offers = offers  # type: ignore[method-assign]


def check_soon(world: World, life: Life, events: list[Event]) -> None:
    """Nothing comes to a machine where nobody stands any more: it was offered soon, and comes over
    that line, however slow it is, or at most as it breaks: what was whole by then is still kept.
    """
    for event in events:
        if type(event) is not JobMoved or event.old is not None or RELEASE_WAIT in event.reasons:
            continue
        if event.uuid in world.released_s:
            offer = world.offered[event.uuid]
            told = f"{event.uuid} was offered {offer.after_s:.3f} s after its release"
            assert offer.after_s <= SOON_S + CLOCK_S, told
            is_over_it = offer.upstream is life.line.upstream or life.line.state is LineState.GONE
            assert is_over_it, f"{told}, over a line before this one"


def watch_line(world: World, life: Life) -> None:
    """A line that was given up counts again only once it has held for a while."""
    gone_s: float | None = None

    def heard(state: LineState) -> None:
        nonlocal gone_s
        world.tell(life.name, f"finds its line {state.value}")
        now_s = trio.current_time()
        if state is LineState.GONE:
            gone_s = now_s
        elif gone_s is not None:
            held_s = now_s - gone_s
            assert held_s >= BACK_S, f"the line of {life.name} is back after {held_s:.3f} s"

    life.line.listen(heard)


def check_taken(world: World, life: Life, events: list[Event]) -> None:
    """Of all that was changed by the time of a page, what takes something away is in it."""
    hq = world.lives.get("hq")
    state = replica.state(life.store.db)
    told = None if state is None else Copy.from_packed(state.told)
    if hq is None or not hq.settled.is_set() or told is None:
        return
    if told.incarnation != hq.store.incarnation.bytes:
        return  # that has been restored since, and counts otherwise
    db = hq.store.db
    for (key,) in db.execute(
        "SELECT key FROM object WHERE kind = 'user' AND revoked <= ?", (told.seen,)
    ).fetchall():
        more = cards(life.store.db, key) - cards(db, key)
        assert not more, f"{life.name} takes cards that were taken away"


def cards(db: sqlite3.Connection, key: bytes) -> set[bytes]:
    rows = db.execute(
        "SELECT digest FROM card JOIN person ON person.id = person_id WHERE key = ?", (key,)
    )
    return {digest for (digest,) in rows}
