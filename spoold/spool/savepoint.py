"""A part of a transaction that can be undone by itself, with what the writer keeps in memory."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


class Savepoint:
    """`with writer.savepoint() as part: … part.undo()`. They are not nested.

    The writer's gathered jobs are flushed before, so that undoing does not take them along.
    """

    __slots__ = ("_mark", "_writer")

    def __init__(self, writer: SqliteStore) -> None:
        self._writer = writer
        self._mark: tuple[Any, ...] = ()

    def __enter__(self) -> Self:
        self._mark = self._writer.mark()
        self._writer.db.execute("SAVEPOINT part")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:  # else the whole transaction ends
            self._writer.db.execute("RELEASE part")

    def undo(self) -> None:
        """Nothing of this part has happened."""
        self._writer.db.execute("ROLLBACK TO part")
        self._writer.go_back(self._mark)
