"""The one table that says which function decides and folds which change; and the journal's own.

See `jobs` and `objects` for the rest: every function runs inside the writer's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spoold.model.errors import OperationError
from spoold.spool import (
    accounts,
    adjustments,
    allowances,
    attempts,
    branching,
    carrying,
    emergencies,
    erasing,
    exposure,
    gate,
    guests,
    held,
    jobs,
    ledger,
    mfds,
    nodes,
    objects,
    open_jobs,
    people,
    policies,
    price_lists,
    receiving,
    release,
    remote_jobs,
    renaming,
    repairs,
    replica,
    reported,
    rights,
    sessions,
    store,
    synchronised,
    users,
    verifiers,
    waiting,
)
from spoold.spool.rows import (
    CHAIN_SHIFT,
)

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def load(writer: SqliteStore, db: sqlite3.Connection) -> None:
    """Read what the writer keeps in memory."""
    writer.active.clear()
    writer.lately.clear()
    writer.printers = dict(db.execute("SELECT id, guid FROM printer WHERE name IS NOT NULL"))
    replica.load(writer, db)
    gate.load(writer, db)
    ledger.load(writer, db)
    remote_jobs.load(writer, db)


def add_record(writer: SqliteStore, change: store.AddRecord) -> int:
    return writer.add_record(
        change.kind, change.actor, change.now_us, change.payload, change.personal
    )


def put_cursor(writer: SqliteStore, change: store.PutCursor) -> None:
    if change.position > writer.position:
        raise OperationError(
            "bad-request", f"the journal ends at {writer.position}.", "Acknowledge what you read."
        )
    writer.db.execute(
        "INSERT INTO cursor VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
        "position = excluded.position, changed_us = excluded.changed_us",
        (change.name, change.position, change.now_us),
    )


def remove_cursor(writer: SqliteStore, change: store.RemoveCursor) -> None:
    if not writer.db.execute("DELETE FROM cursor WHERE name = ?", (change.name,)).rowcount:
        raise OperationError("not-found", f"there is no cursor {change.name}.")


def prune_records(writer: SqliteStore, change: store.PruneRecords) -> int:
    """Forget records before a position, and keep the hash that the rest hangs on."""
    base = writer.chain_id << CHAIN_SHIFT
    anchor = writer.db.execute(
        "SELECT hash FROM record WHERE id = ?", (base | (change.position - 1),)
    ).fetchone()
    if anchor is None:
        return 0
    writer.db.execute(
        "UPDATE chain SET anchor_position = ?, anchor_hash = ? WHERE id = ?",
        (change.position - 1, anchor[0], writer.chain_id),
    )
    return writer.db.execute(
        "DELETE FROM record WHERE id > ? AND id < ?", (base, base | change.position)
    ).rowcount


DECIDE: dict[type, Callable[[SqliteStore, Any], Any]] = {
    store.AcceptJob: attempts.accept_job,
    store.OpenJob: open_jobs.open_job,
    store.ReportJob: reported.report_job,
    store.AttachDocument: open_jobs.attach_document,
    store.CloseJob: open_jobs.close_job,
    store.CopyJob: waiting.copy_job,
    store.EndHold: waiting.end_hold,
    store.SetJob: waiting.set_job,
    store.PlaceJob: waiting.place_job,
    store.ChangeJob: jobs.change_job,
    store.CountJob: release.count_job,
    store.ReleaseJob: release.release_job,
    store.StartAttempt: attempts.start_attempt,
    store.NoteAttempt: attempts.note_attempt,
    store.EndAttempt: attempts.end_attempt,
    store.RemoveJobs: jobs.remove_jobs,
    store.ForgetTombstones: jobs.forget_tombstones,
    store.PutDevice: objects.put_device,
    store.PutPrinter: objects.put_printer,
    store.RemovePrinter: objects.remove_printer,
    store.PutProvider: objects.put_provider,
    store.RevokeProvider: objects.revoke_provider,
    store.PutUser: users.put_user,
    store.RemoveUser: users.remove_user,
    store.RenameUser: renaming.rename_user,
    store.EnrolUser: users.enrol_user,
    store.RevokeUser: users.revoke_user,
    store.PutSource: synchronised.put_source,
    store.RemoveSource: synchronised.remove_source,
    store.SyncUser: synchronised.sync_user,
    store.VanishUser: synchronised.vanish_user,
    store.EndRound: synchronised.end_round,
    store.PutCard: people.put_card,
    store.RemoveCard: people.remove_card,
    store.PutPin: people.put_pin,
    store.KeepThrottles: people.keep_throttles,
    store.EraseRecords: erasing.erase_records,
    store.ErasePerson: erasing.erase_person,
    store.InviteNode: nodes.invite_node,
    store.JoinNode: nodes.join_node,
    store.ApproveNode: nodes.approve_node,
    store.AdmitGuest: guests.admit,
    store.CertifyNode: nodes.certify_node,
    store.RevokeNode: nodes.revoke_node,
    store.NoteAdvertised: nodes.note_advertised,
    store.NoteTold: exposure.note_told,
    store.PutMfd: mfds.put_mfd,
    store.RevokeMfd: mfds.revoke_mfd,
    store.StartSession: sessions.start_session,
    store.EndSession: sessions.end_session,
    store.TouchSessions: sessions.touch_sessions,
    store.ForgetSessions: sessions.forget_sessions,
    store.PutPrices: price_lists.put_prices,
    store.PutTerms: allowances.put_terms,
    store.PutAllowance: allowances.put_allowance,
    store.RemoveAllowance: allowances.remove_allowance,
    store.PutAccount: accounts.put_account,
    store.RemoveAccount: accounts.remove_account,
    store.Adjust: adjustments.adjust,
    store.Reserve: ledger.reserve_change,
    store.Settle: ledger.settle_change,
    store.Cancel: ledger.cancel_change,
    store.PaidElsewhere: ledger.paid_elsewhere,
    store.CarryLedger: carrying.carry,
    store.Refund: adjustments.refund,
    store.GrantRights: rights.grant_rights,
    store.KeepRights: held.keep_rights,
    store.ReturnRights: held.return_rights,
    store.ReturnOver: held.return_over,
    store.ReclaimRights: rights.reclaim_rights,
    store.PutPolicy: policies.put_policy,
    store.SetEmergency: emergencies.set_emergency,
    store.KeepVerifier: verifiers.keep_verifier,
    store.RepairPrinter: repairs.repair_printer,
    store.EndRepair: repairs.end_repair,
    store.SettleRepair: repairs.settle_repair,
    store.AddRecord: add_record,
    store.PutCursor: put_cursor,
    store.RemoveCursor: remove_cursor,
    store.PruneRecords: prune_records,
    store.ApplyObjects: replica.apply_objects,
    store.ReceiveRecords: receiving.receive_records,
    store.BranchJournal: branching.branch_journal,
    store.StartRound: receiving.start_round,
    store.FinishRound: receiving.finish_round,
    store.RetryQuarantined: receiving.retry_quarantined,
    store.ForgetRemote: remote_jobs.forget,
    store.PruneReceived: receiving.prune_received,
}
DECIDE |= {change: replica.guarded(DECIDE[change], of) for change, of in replica.GUARDS.items()}
