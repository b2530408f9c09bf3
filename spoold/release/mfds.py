"""The MFDs that may come in, kept current by the journal's events.

There are some thousands at most, each asked about with every request: so they stay in memory.
"""

from __future__ import annotations

from uuid import UUID

from spoold.model.errors import OperationError
from spoold.model.mfd import SECRET_CHARACTERS_MAX, Mfd, secret_key
from spoold.model.principal import Principal
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader
from spoold.spool.store import Event, MfdChanged


class Mfds:
    """`start` before anything is looked up."""

    def __init__(self, journal: Journal, reader: SqliteReader) -> None:
        self._journal = journal
        self._reader = reader
        self._all: dict[UUID, Mfd] = {}
        self._keys: dict[UUID, bytes] = {}
        self._by_key: dict[bytes, UUID] = {}

    async def start(self) -> None:
        """Read them all; what changes meanwhile is heard, and counts more."""
        heard: list[Event] = []
        self._journal.listen(heard.extend)
        for mfd, key in await self._reader.mfds():
            self._put(mfd, key)
        self._journal.unlisten(heard.extend)
        self._hear(heard)
        self._journal.listen(self._hear)

    def close(self) -> None:
        self._journal.unlisten(self._hear)

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            if type(event) is MfdChanged:
                self._put(event.mfd, event.token_key)

    def _put(self, mfd: Mfd, key: bytes | None) -> None:
        self._by_key.pop(self._keys.pop(mfd.guid, b""), None)
        self._all[mfd.guid] = mfd
        if key is not None:
            self._keys[mfd.guid] = key
            self._by_key[key] = mfd.guid

    def all(self) -> list[Mfd]:
        """Every MFD, revoked ones too, by name."""
        return sorted(self._all.values(), key=lambda mfd: mfd.name)

    def by_guid(self, guid: UUID) -> Mfd | None:
        """The MFD, if it may come in."""
        mfd = self._all.get(guid)
        return None if mfd is None or mfd.revoked else mfd

    def by_name(self, name: str) -> Mfd | None:
        """The MFD of this name, also when it was revoked."""
        return next((mfd for mfd in self._all.values() if mfd.name == name), None)

    def by_token(self, token: str) -> Mfd | None:
        """The MFD that shows this token. How long that takes says nothing: hashes are compared."""
        if not token or len(token) > SECRET_CHARACTERS_MAX:
            return None
        guid = self._by_key.get(secret_key(token))
        return None if guid is None else self.by_guid(guid)

    def of(self, principal: Principal) -> Mfd:
        """The MFD that asks.

        Raises:
            OperationError: `forbidden`, it was revoked meanwhile.
        """
        kind, _, guid = principal.identity.partition(":")
        mfd = self.by_guid(UUID(guid)) if kind == "device" else None
        if mfd is None:
            raise OperationError(
                "forbidden", "this MFD may not come in any more.", "See `spoold device enrol`."
            )
        return mfd
