"""What must hold at every moment, and is looked at while a world goes on.

Each raises AssertionError in the middle of whatever breaks it, so that the trace ends there.
"""

from __future__ import annotations

import sqlite3

import trio

from simulation.node import Life
from simulation.world import World
from spoold.model.node import LineState
from spoold.site.detector import BACK_S
from spoold.spool import replica
from spoold.spool.replication import Copy
from spoold.spool.store import Event


def watch(world: World, life: Life) -> None:
    """Look at a site that has just begun to live."""
    watch_line(world, life)
    life.journal.listen(lambda events: check_taken(world, life, events))


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
