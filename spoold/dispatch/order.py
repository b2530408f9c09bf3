"""In which order the jobs of one printer go: pure.

`fair`: the highest priority, then a round over the users, then age. `fifo`: age alone, but for jobs
that were promoted: each has a priority of its own beyond 100. Age is the job id, so that the order
is the same after a restart or a move. Jobs join and leave in O(log n); heaps hold bare ids, and ids
of jobs that left are skipped when they come up, so that 100,000 jobs stay light.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heappop, heappush, nsmallest

from spoold.model.job import PRIORITY_MAX

SOON_LOOKED_AT = 4  # entries of a heap for each of the jobs that go soon
SLACK = 64  # stale ids that a heap may hold beyond one for each live one


class Entry:
    """A waiting job of the printer `queue_id`. `line` is None while the job is set aside."""

    __slots__ = ("line", "owner", "priority", "queue_id")

    def __init__(self, owner: str, priority: int, queue_id: int) -> None:
        self.owner = owner
        self.priority = priority
        self.queue_id = queue_id
        self.line: Line | None = None


class Line:
    """The jobs of one user at one priority: a heap of ids."""

    __slots__ = ("jobs", "level", "live", "owner", "turn")

    def __init__(self, owner: str, level: Level) -> None:
        self.owner = owner
        self.level = level
        self.jobs: list[int] = []
        self.live = 0
        self.turn = level.turn + 1  # the round in which this user is served next


class Level:
    """The users with jobs at one priority. Each is served once a round, the oldest job first.

    A newcomer joins the next round: so a round ends, and nobody is passed over for ever. `this`
    and `next` are heaps of the ids at the heads of lines.
    """

    __slots__ = ("lines", "next", "priority", "this", "turn")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.lines: dict[str, Line] = {}
        self.turn = 0
        self.this: list[int] = []
        self.next: list[int] = []


class Lines:
    """The order of one printer. `entries` is shared by all printers: job id -> entry."""

    __slots__ = ("_entries", "_levels", "is_fifo")

    def __init__(self, entries: Mapping[int, Entry], is_fifo: bool) -> None:
        self._entries = entries
        self._levels: list[Level] = []  # the highest priority first; they are few
        self.is_fifo = is_fifo

    def head(self) -> int | None:
        """The job that goes next, of those that are not set aside."""
        for level in self._levels:
            job_id = self._head_of_level(level)
            if job_id is not None:
                return job_id
        return None

    def soon(self, count: int) -> list[int]:
        """About the next jobs, at most `count`: a guess that costs the same however many wait."""
        if not self._levels:
            return []
        level = self._levels[0]
        heap = level.this or level.next
        if len(level.lines) == 1:
            (line,) = level.lines.values()
            heap = line.jobs
        # The least of a heap lie in front.
        front = heap[: SOON_LOOKED_AT * count]
        return nsmallest(count, [job_id for job_id in front if job_id in self._entries])

    @property
    def highest(self) -> int:
        """The priority of the job that goes next; 0 without one."""
        return self._levels[0].priority if self._levels else 0

    def join(self, job_id: int, entry: Entry) -> None:
        """Put the job in the line of its user."""
        priority, owner = entry.priority, entry.owner
        if self.is_fifo:  # only who was promoted passes others
            priority, owner = priority if priority > PRIORITY_MAX else 0, ""
        level = next((each for each in self._levels if each.priority == priority), None)
        if level is None:
            level = Level(priority)
            self._levels.append(level)
            self._levels.sort(key=lambda each: -each.priority)
        line = level.lines.get(owner)
        if line is None:
            line = level.lines[owner] = Line(owner, level)
        entry.line = line
        heappush(line.jobs, job_id)
        line.live += 1
        if self._head_of_line(line) == job_id:
            self._show(line, job_id)

    def leave(self, job_id: int, entry: Entry, *, is_served: bool = False) -> None:
        """Take the job out of its line; `is_served` when it was its user's turn in the round."""
        line = entry.line
        if line is None:
            return
        was_head = self._head_of_line(line) == job_id
        entry.line = None
        line.live -= 1
        level = line.level
        if is_served:
            line.turn = level.turn + 1
        if not line.live:
            del level.lines[line.owner]
            if not level.lines:
                self._levels.remove(level)
            return
        if len(line.jobs) > 2 * line.live + SLACK:
            line.jobs = [id_ for id_ in set(line.jobs) if self._is_in(id_, line)]
            heapify(line.jobs)
        if was_head:
            head = self._head_of_line(line)
            assert head is not None
            self._show(line, head)

    def give_turn_back(self, entry: Entry) -> None:
        """The user of this job is served in the present round after all."""
        line = entry.line
        if line is not None and line.turn > line.level.turn:
            line.turn = line.level.turn
            head = self._head_of_line(line)
            assert head is not None
            self._show(line, head)

    def _is_in(self, job_id: int, line: Line) -> bool:
        entry = self._entries.get(job_id)
        return entry is not None and entry.line is line

    def _head_of_line(self, line: Line) -> int | None:
        jobs = line.jobs
        while jobs:
            if self._is_in(jobs[0], line):
                return jobs[0]
            heappop(jobs)
        return None

    def _head_of_level(self, level: Level) -> int | None:
        while True:
            while level.this:
                job_id = level.this[0]
                entry = self._entries.get(job_id)
                line = entry.line if entry is not None else None
                if (
                    line is not None
                    and line.level is level
                    and line.turn <= level.turn
                    and self._head_of_line(line) == job_id
                ):
                    return job_id
                heappop(level.this)
            if not level.next:
                return None
            level.this, level.next = level.next, level.this
            level.turn += 1

    def _show(self, line: Line, head: int) -> None:
        """Let the level see the new head of a line."""
        level = line.level
        is_this = line.turn <= level.turn
        heap = level.this if is_this else level.next
        heappush(heap, head)
        if len(heap) > 2 * len(level.lines) + SLACK:
            heads = [
                self._head_of_line(each)
                for each in level.lines.values()
                if (each.turn <= level.turn) is is_this
            ]
            heap[:] = [id_ for id_ in heads if id_ is not None]
            heapify(heap)
