"""Which waiting job is to come right after which other one (Schedule-Job-After, RFC 3998): pure."""

from __future__ import annotations


class Following:
    """Jobs that wait for the end of another job of their queue; false when there are none."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}
        self._followers: dict[int, list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._first)

    def __contains__(self, job_id: object) -> bool:
        """Whether the job waits for another one."""
        return job_id in self._first

    def put(self, job_id: int, first_id: int) -> None:
        """The job comes after `first_id`, before those that were put there earlier."""
        self.drop(job_id)
        self._first[job_id] = first_id
        self._followers.setdefault(first_id, []).append(job_id)

    def drop(self, job_id: int) -> None:
        """The job does not wait for another one any more."""
        first_id = self._first.pop(job_id, None)
        if first_id is not None:
            left = self._followers[first_id]
            left.remove(job_id)
            if not left:
                del self._followers[first_id]

    def take(self, first_id: int) -> list[int]:
        """Those that waited for this job, in the order in which they were put; they do no more."""
        found = self._followers.pop(first_id, [])
        for job_id in found:
            del self._first[job_id]
        return found
