"""Bugs that somebody could have made: small patches of the real code, which must be found.

A simulation that misses planted bugs proves nothing. Each says what would be wrong, where, and the
text that is put there instead. `seed` is one that has found it; as the product changes, others do.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from spoold.daemon.operations import errands as errands_done
from spoold.dispatch import queues, recovery
from spoold.model import policy
from spoold.release import counts, emergency
from spoold.site import detector, errands, fencing, giving, lateness, receiver, twins, uplink
from spoold.spool import (
    accepting,
    escrow,
    held,
    ledger,
    receiving,
    repairs,
    replica,
    replication,
    rights,
    sqlite,
)


class Patch(NamedTuple):
    """`old`, which stands once in the source of `function`, is `new`."""

    function: Callable[..., Any]
    old: str
    new: str


@dataclass(frozen=True)
class Bug:
    what: str
    patches: tuple[Patch, ...]
    seed: int

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            for patch in self.patches:
                stack.enter_context(_patched(patch))
            yield


@contextmanager
def _patched(patch: Patch) -> Iterator[None]:
    """The function runs other code, wherever it has been imported to."""
    function = inspect.unwrap(patch.function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(patch.old) == 1, f"{function.__qualname__} has changed: {patch.old!r}"
    found: dict[str, Any] = {}
    text = "from __future__ import annotations\n" + source.replace(patch.old, patch.new)
    exec(
        compile(text, f"<planted in {function.__qualname__}>", "exec"), function.__globals__, found
    )
    kept = function.__code__
    function.__code__ = found[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = kept


BUGS = {
    "not-synced": Bug(
        "Commits are acknowledged before they are synced.",
        (Patch(sqlite._open, "PRAGMA synchronous = FULL", "PRAGMA synchronous = OFF"),),
        5,
    ),
    "cursor-outside": Bug(
        "Records of a site are applied in one transaction, and its position moves in another.",
        (
            Patch(
                receiving._take,
                'crash_point("received-before-position")',
                'writer.db.execute("COMMIT"); writer.db.execute("BEGIN IMMEDIATE"); '
                'crash_point("received-before-position")',
            ),
        ),
        14,
    ),
    "gap-taken": Bug(
        "Batches are taken as they come, and nobody notices that one is missing before them.",
        (
            Patch(receiver.Receiver._wait_for_earlier, "while first >", "while False and first >"),
            Patch(receiving.receive_records, "if not change.is_oldest:", "if False:"),
        ),
        2,
    ),
    "poison-blocks": Bug(
        "What follows a record that cannot be applied is not applied either.",
        (
            Patch(
                receiving._apply,
                "_quarantine(writer, site, position, kind, poisoned[position])",
                "_quarantine(writer, site, position, kind, poisoned[position]); break",
            ),
        ),
        2,
    ),
    "uuid-twice": Bug(
        "A job-uuid that comes again is taken for another job.",
        (
            Patch(
                accepting.first_answer,
                "return store.Accepted(row[0], uuid, row[1], STATE[row[4]], is_duplicate=True), "
                "row[3]",
                "return None",
            ),
            Patch(
                accepting.accept_job,
                "uuid = change.uuid\n",
                'is_new = change.uuid is None or not writer.db.execute("SELECT 1 FROM job WHERE '
                'uuid = ?", (change.uuid.bytes,)).fetchone()\n'
                "    uuid = change.uuid if is_new else None\n",
            ),
        ),
        3,
    ),
    "given-to-two": Bug(
        "An application server prints by itself what it gives to the site that owns the printer.",
        (
            Patch(
                queues.as_seen_here,
                "return printer if printer.is_ours else",
                "return printer if True else",
            ),
        ),
        0,
    ),
    "revocations-late": Bug(
        "What takes something away comes to sites in its turn, not first.",
        (
            Patch(
                replication.step,
                'keys = _behind(db, "revoked", copy.revoked, end, limit)',
                "keys = []",
            ),
        ),
        3,
    ),
    "settled-twice": Bug(
        "Asking again to settle a charge charges for it again.",
        (Patch(ledger.settle, "if charge.state is ChargeState.SETTLED:", "if False:"),),
        35,
    ),
    "rights-twice": Bug(
        "A site adds up what it was granted altogether, with each answer.",
        (
            Patch(
                held._receive,
                "more = right.amount - before.get(right.purse.guid, 0)",
                "more = right.amount",
            ),
        ),
        0,
    ),
    "spends-more": Bug(
        "Whoever asks may spend, whatever the purses hold.",
        (
            Patch(
                ledger._payable,
                "account = accounts.by_guid(db, payer.guid) if payer.kind is PayerKind.ACCOUNT "
                "else None",
                "return payer, opened",
            ),
        ),
        0,
    ),
    "cap-each-time": Bug(
        "Whoever is below zero already may go so far once more, at a site that is cut off.",
        (
            Patch(
                ledger._payable,
                "limit=wallet.limit + beyond.overdraft",
                "limit=wallet.limit + beyond.overdraft - min(0, wallet.balance)",
            ),
        ),
        610,
    ),
    "no-hysteresis": Bug(
        "A line counts as up at the first sign of life.",
        (
            Patch(
                detector.Detector.look,
                "if due is not None and now >= due and self._signs >= BACK_SIGNS:",
                "if due is not None:",
            ),
        ),
        4,
    ),
    "doubt-is-no": Bug(
        "What a crash cut off is taken as not printed.",
        (
            Patch(
                recovery.end_of,
                "interrupted(CUT_OFF, detail, False, device)",
                "interrupted(CUT_OFF, detail, True, device)",
            ),
        ),
        90,
    ),
    "no-fence": Bug(
        "A site that returns goes on with printers that were given to others meanwhile.",
        (
            Patch(fencing.wait_word, "while not replica.has_word and", "while False and"),
            Patch(
                fencing.Fence._learn,
                "if printer is None or printer.is_ours:",
                "if True:",
            ),
        ),
        200,
    ),
    "hash-unchecked": Bug(
        "Nobody compares the hashes of records that both nodes have.",
        (
            Patch(
                receiving._fork,
                "return at if kept != sent or change.is_behind else None",
                "return None",
            ),
            Patch(
                uplink.Uplink._parts,
                "return own is not None and theirs is not None and own != theirs",
                "return False",
            ),
        ),
        2,
    ),
    "epoch-unchecked": Bug(
        "Rights of an epoch that is over are spent like those of this one.",
        (Patch(held._is_stale, "return row is not None", "return False"),),
        124,
    ),
    "rewind-forgotten": Bug(
        "A site goes on behind what was acknowledged once, whatever its application server has.",
        (
            Patch(
                uplink.Uplink._session,
                "self._acknowledge(stands[chain.incarnation].position if chain.incarnation in "
                "stands else 0)",
                "self._acknowledge(max(self.standing.acknowledged, stands[chain.incarnation]."
                "position if chain.incarnation in stands else 0))",
            ),
        ),
        2,
    ),
    "copy-ahead": Bug(
        "A site keeps its copy when its application server was put back to what it was before.",
        (
            Patch(
                replication._is_of,
                "if (copy.journal, copy.incarnation, copy.scope) != (",
                "if copy.scope == target.digest:\n        return True\n"
                "    if (copy.journal, copy.incarnation, copy.scope) != (",
            ),
        ),
        2,
    ),
    "not-swept": Bug(
        "What a copy that is taken anew does not name any more stays at the site.",
        (
            Patch(
                replica.apply_objects,
                "is_taking = not _sweep(writer, number, taking)",
                "is_taking = False",
            ),
        ),
        2,
    ),
    "tombstone-forgotten": Bug(
        "What is gone at the application server is left out of what sites are told.",
        (
            Patch(
                replication._states,
                "for kind, key in order if kind in found]",
                "for kind, key in order if kind in found and key in found[kind]]",
            ),
        ),
        13,
    ),
    "same-incarnation": Bug(
        "A restored node goes on in the incarnation of its journal that it was in.",
        (Patch(sqlite._begin_incarnation, "if is_same and not begins_anew:", "if True:"),),
        80,
    ),
    "purse-lost": Bug(
        "A restored application server books again what sites hold, but of purses that it knows.",
        (
            Patch(
                rights._book_again,
                "opened=[there, replace(purse, balance=0)]",
                "opened=[there]",
            ),
        ),
        490,
    ),
    "travels-undecided": Bug(
        "A site that gives a job away has it wait there as well.",
        (
            Patch(
                giving.Giving._let_go,
                "await self._journal.commit(self._held_for(job, ELSEWHERE, "
                "only_with=RELEASE_WAIT))",
                "pass",
            ),
            Patch(
                giving.Giving._hand_over,
                "if job is None or ELSEWHERE not in job.reasons:",
                "if job is None:",
            ),
        ),
        43,
    ),
    "giver-throws-away": Bug(
        "A site throws a job away that it gave, before that has come out.",
        (Patch(giving.Giving._note, 'if JobState(told["state"]).is_final:', "if True:"),),
        37,
    ),
    "emergency-goes-on": Bug(
        "An emergency ends a while after the time at which it is to end.",
        (
            Patch(
                emergency.Emergencies._look,
                "now_us < self.now.until_us:",
                "now_us < self.now.until_us + 60_000_000:",
            ),
        ),
        172,
    ),
    "errand-kept": Bug(
        "A site is told later, too, of what was refused since it did not ask in time.",
        (Patch(errands.Errands.run, "del self._errands[number]", "pass"),),
        144,
    ),
    "deleted-in-name": Bug(
        "Whoever deletes what waits at a site is told that this was done, and it was not.",
        (
            Patch(
                errands_done._delete_held,
                "[done] = await services.desk.delete(user, [job.id])\n",
                "return {}\n",
            ),
        ),
        4,
    ),
    "times-as-told": Bug(
        "What a site tells was when its clock says, however wrong that is known to be.",
        (
            Patch(
                policy.told_at_us,
                "for at_us in (told_us + offset_us, told_us) if is_off and offset_us else "
                "(told_us,):",
                "for at_us in (told_us,):",
            ),
        ),
        7,
    ),
    "late-unlooked": Bug(
        "Nobody looks how long ago a job was released for a machine.",
        (
            Patch(
                lateness.Lateness.find,
                "if not 0 <= self._ago_s(job_id, one.released_us, now_s, now_us) <= self.soon_s",
                "if False",
            ),
        ),
        204,
    ),
    "lost-listed": Bug(
        "What a site has lost with its disk is listed as waiting there for ever.",
        (Patch(twins.Losers._disown, "if unknown:", "if False:"),),
        276,
    ),
    "rest-lost": Bug(
        "What a site gives back of a day that is over is not carried over into the next one.",
        (Patch(escrow.book_back, "if one.allowance is not None", "if False"),),
        9,
    ),
    "repair-for-ever": Bug(
        "A repair that was accepted goes on where the printer was changed before its site heard.",
        (
            Patch(
                repairs.over,
                "if (row is None or row.is_reverted) and received",
                "if row is not None and row.is_reverted and received",
            ),
        ),
        43,
    ),
    "repair-lost": Bug(
        "What a site has repaired is as it was when its copy hears of the printer.",
        (
            Patch(
                repairs.keep_over,
                "_apply(writer, printer, device, repair.field, repair.value)",
                "pass",
            ),
        ),
        60,
    ),
    "kept-unsaid": Bug(
        "What can be paid by now stays as it was where its printer keeps jobs by now.",
        (
            Patch(
                counts.Counts._try_again,
                "if others or await self._waits_for_owner(job):",
                "if others:",
            ),
        ),
        154,
    ),
}
