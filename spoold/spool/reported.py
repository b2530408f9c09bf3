"""Jobs that providers printed themselves while they reached no server; see `jobs`.

Paper is a fact: the report makes a job that is over. A job that waits here under the same uuid, as
it may after a restore, is not printed once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spoold.model.errors import OperationError
from spoold.model.job import WAITING, JobReason
from spoold.model.transitions import JobEvent
from spoold.spool import accepting, jobs, store

if TYPE_CHECKING:
    from spoold.spool.sqlite import SqliteStore


def report_job(writer: SqliteStore, change: store.ReportJob) -> store.Accepted:
    accepted = accepting.accept_job(writer, change)
    if accepted.is_duplicate and accepted.state in WAITING:
        cancel = store.ChangeJob(
            accepted.job_id,
            JobEvent.CANCEL,
            change.now_us,
            change.submitter,
            reasons=(JobReason.JOB_DONE_ELSEWHERE, JobReason.JOB_PRINTED_DIRECTLY),
            message="Its provider has printed it.",
            only_from=WAITING,
        )
        try:
            jobs.change_job(writer, cancel)
        except OperationError:
            pass  # it is not there any more, or prints in this moment
    return accepted
