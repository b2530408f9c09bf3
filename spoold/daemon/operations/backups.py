"""Backups, asked for at the control socket: the daemon writes them, as its own user."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import structlog
import trio

from spoold.daemon import backup
from spoold.daemon.operations.access import ADMINS, LOCAL
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.model.errors import OperationError, SpoolError
from spoold.model.record import Kind
from spoold.net import credentials
from spoold.spool.store import AddRecord

log = structlog.get_logger("spoold.daemon")

PROGRESS_INTERVAL_S = 1.0


async def make(call: Call) -> dict[str, Any]:
    """Take a backup while everything goes on; events `progress` tell how far it is, and `made` what
    the answer says.

    Raises:
        OperationError: `not-possible`, with why not; earlier backups are as they were.
    """
    services = call.services
    directory = Path(call.args["directory"])
    if not directory.is_absolute():
        raise OperationError(
            "bad-request", f"{str(directory)[:200]!r} is no absolute path.", "Begin it with '/'."
        )
    config = services.config
    source = backup.Source(
        config.node.data_dir,
        services.config_file,
        services.node_guid,
        services.node_name,
        config.limits.reserve_bytes,
        credentials.names(),
    )
    told_at = time.monotonic()

    def step(what: str, done: int, total: int) -> None:
        nonlocal told_at
        trio.from_thread.check_cancelled()
        if total and time.monotonic() - told_at >= PROGRESS_INTERVAL_S:
            told_at = time.monotonic()
            values = {"what": what, "done": done, "total": total}
            trio.from_thread.run(call.send_event, "progress", values)

    now_us = services.wall_clock()
    try:
        with services.documents.keeping():
            made = await trio.to_thread.run_sync(
                backup.make, source, directory, now_us, step, call.args["keep"]
            )
    except SpoolError as error:
        log.error("backup_failed", directory=str(directory), reason=str(error))
        raise OperationError(
            "not-possible", f"{error.subject}: {error.cause}.", error.advice
        ) from error
    return await _tell(call, made, now_us)


async def _tell(call: Call, made: backup.Made, now_us: int) -> dict[str, Any]:
    """What the caller, the log, the journal and the next look at the status hear of it."""
    services, head = call.services, made.head
    answer = {
        "path": str(made.path),
        "position": head.position,
        "jobs": head.jobs,
        "waiting": head.waiting,
        "documents": head.documents,
        "damaged": head.damaged,
        "total_bytes": head.bytes,
        "copied_bytes": made.copied_bytes,
        "took_s": round(made.took_s, 3),
        "removed": list(made.removed)[:100],
        "credentials": list(head.credentials)[:100],
        "has_ca_key": (made.path / "identity" / "ca-key.pem").exists(),
        "made_us": now_us,
    }
    log.info("backup_made", **{key: answer[key] for key in ("path", "position", "copied_bytes")})
    if head.damaged:
        log.error("backup_lacks_documents", path=answer["path"], count=head.damaged)
    await trio.to_thread.run_sync(backup.note_last, services.config.node.data_dir, answer)
    kept = {"name": made.path.name, "position": head.position, "bytes": head.bytes}
    await services.journal.commit(
        AddRecord(Kind.BACKUP_MADE, kept, services.wall_clock(), call.actor)
    )
    await call.send_event("made", answer)
    return answer


OPERATIONS = (
    Operation(
        "backup.make",
        (
            Argument("directory", required=True, least=1, most=4000, summary="Where it goes."),
            Argument(
                "keep",
                (int,),
                least=1,
                most=100_000,
                summary="Then remove all but the last so many of this node.",
            ),
        ),
        ADMINS,
        LOCAL,
        make,
        "Take a backup.",
    ),
)
