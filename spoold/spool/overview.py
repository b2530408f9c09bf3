"""What `status` tells of the spool: one look, so that its parts agree with one another and come
soon, however busy the node is.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from spoold.model.job import JobState
from spoold.model.node import Node
from spoold.spool import chains, depth, emergencies, handed, nodes, repairs
from spoold.spool.chains import Chain
from spoold.spool.emergencies import Emergency


class Overview(NamedTuple):
    """`unfinished` jobs by state, `elsewhere` those of them that another node has; `kept_bytes` of
    the documents that finished jobs keep; `overrides`: repairs that are not settled.
    """

    unfinished: dict[JobState, int]
    elsewhere: int
    finished: int
    kept_bytes: int
    chain: Chain
    nodes: list[Node]
    overrides: int
    emergency: Emergency | None


def look(db: sqlite3.Connection) -> Overview:
    unfinished: dict[JobState, int] = {}
    for by_state in depth.counts(db).values():
        for state, count in by_state.items():
            unfinished[state] = unfinished.get(state, 0) + count
    return Overview(
        unfinished,
        handed.count_handed(db),
        *depth.finished_totals(db),
        chains.own(db),
        nodes.find_all(db),
        len(repairs.find_all(db)),
        emergencies.find(db),
    )
