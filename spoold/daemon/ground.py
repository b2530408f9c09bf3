"""What every room of a node stands on: its configuration, who it is, and its open spool."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from spoold.accounts.vault import Vault
from spoold.daemon.config import Config
from spoold.daemon.identity import NodeIdentity
from spoold.model.card import Digests
from spoold.model.policy import ExpiryClock
from spoold.spool.documents import Documents
from spoold.spool.erasure import Erasure
from spoold.spool.journal import Journal
from spoold.spool.reader import SqliteReader


def wall_clock() -> int:
    """UTC in microseconds since the epoch."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Ground:
    """`config` is what holds now: some of it changes while the node runs. `vault` seals what a
    site keeps of others' secrets; an application server has none. `expiry` is what upkeep thinks of
    the clock.
    """

    config: Callable[[], Config]
    identity: NodeIdentity
    digests: Digests
    vault: Vault | None
    erasure: Erasure
    journal: Journal
    reader: SqliteReader
    documents: Documents
    expiry: ExpiryClock
