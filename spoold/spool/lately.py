"""What records of other nodes named lately, as the tables have it: most tell of the same few people
and jobs, one after the other.

Only the writer's thread looks here. Whoever changes such rows otherwise clears it, as does a
transaction that is undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spoold.spool.remote_jobs import Row

PEOPLE_MAX = 4096
JOBS_MAX = 2048


class Lately:
    """`people`: by a key of another node the one here, and whether they are erased.

    `jobs`: rows of jobs, by node and uuid.
    """

    __slots__ = ("jobs", "people")

    def __init__(self) -> None:
        self.people: dict[bytes, tuple[bytes, bool]] = {}
        self.jobs: dict[tuple[bytes, bytes], Row] = {}

    def note_person(self, key: bytes, own: bytes, *, is_erased: bool) -> tuple[bytes, bool]:
        if len(self.people) >= PEOPLE_MAX:
            self.people.clear()
        found = self.people[key] = (own, is_erased)
        return found

    def note_jobs(self, node: bytes, rows: dict[bytes, Row]) -> None:
        if len(self.jobs) >= JOBS_MAX:
            self.jobs.clear()
        self.jobs.update(((node, uuid), row) for uuid, row in rows.items())

    def clear(self) -> None:
        self.people.clear()
        self.jobs.clear()
