"""The one place that says how a job's state changes (RFC 8011 5.3.7).

A state is never assigned anywhere else: the store asks `next_state` inside the committing
transaction. Events that a state does not name are refused with what to do instead.
"""

from __future__ import annotations

from enum import StrEnum

from spoold.model.errors import OperationError
from spoold.model.job import ACTIVE, FINAL, WAITING, JobReason, JobState


class JobEvent(StrEnum):
    SUBMIT = "submit"  # its last document has come
    START = "start"  # an attempt may send bytes from now on
    STALL = "stall"  # the device takes no more bytes, for now
    RESUME = "resume"  # it takes bytes again
    DEFER = "defer"  # the attempt left nothing on paper; wait
    DELIVER = "deliver"
    HAND_ON = "hand-on"  # another node has it; said again when something changes there
    NEXT = "next"  # a document is printed, and the job has others
    REFUSE = "refuse"  # can never print
    MISFIT = "misfit"  # cannot print here as it is; an operator may move it
    DOUBT = "doubt"  # held: nobody knows whether it printed
    ASSUME = "assume"  # in doubt, and taken as printed
    REPRINT = "reprint"  # in doubt, and to be printed again
    HOLD = "hold"
    RELEASE = "release"
    CANCEL = "cancel"
    STOP = "stop"  # asked to cancel while bytes leave; the attempt ends first
    CANCELED = "canceled"  # the attempt that was to be canceled has ended
    RETRY = "retry"  # a finished job, once more
    MOVE = "move"  # to another printer
    DAMAGE = "damage"  # the stored document is missing or changed


_S = JobState

TABLE: dict[tuple[JobState, JobEvent], JobState] = {
    (_S.PENDING_HELD, JobEvent.SUBMIT): _S.PENDING,
    (_S.PENDING, JobEvent.START): _S.PROCESSING,
    (_S.PROCESSING, JobEvent.STALL): _S.PROCESSING_STOPPED,
    (_S.PROCESSING_STOPPED, JobEvent.RESUME): _S.PROCESSING,
    (_S.PENDING, JobEvent.HOLD): _S.PENDING_HELD,
    (_S.PENDING_HELD, JobEvent.HOLD): _S.PENDING_HELD,
    (_S.PENDING_HELD, JobEvent.RELEASE): _S.PENDING,
    (_S.PENDING_HELD, JobEvent.ASSUME): _S.COMPLETED,
    (_S.PENDING_HELD, JobEvent.NEXT): _S.PENDING,
    (_S.PENDING_HELD, JobEvent.REPRINT): _S.PENDING,
    (_S.PENDING, JobEvent.MISFIT): _S.PENDING_HELD,
    (_S.PENDING_HELD, JobEvent.MISFIT): _S.PENDING_HELD,
}
for _state in ACTIVE:
    TABLE |= {
        (_state, JobEvent.DEFER): _S.PENDING,
        (_state, JobEvent.DELIVER): _S.COMPLETED,
        (_state, JobEvent.HAND_ON): _S.PROCESSING,
        (_state, JobEvent.NEXT): _S.PENDING,
        (_state, JobEvent.REFUSE): _S.ABORTED,
        (_state, JobEvent.MISFIT): _S.PENDING_HELD,
        (_state, JobEvent.DOUBT): _S.PENDING_HELD,
        (_state, JobEvent.ASSUME): _S.COMPLETED,
        (_state, JobEvent.REPRINT): _S.PENDING,
        (_state, JobEvent.STOP): _state,
        (_state, JobEvent.CANCELED): _S.CANCELED,
    }
for _state in WAITING:
    TABLE |= {
        (_state, JobEvent.CANCEL): _S.CANCELED,
        (_state, JobEvent.REFUSE): _S.ABORTED,
        (_state, JobEvent.MOVE): _state,
    }
for _state in (*ACTIVE, *WAITING):
    TABLE[_state, JobEvent.DAMAGE] = _S.ABORTED
for _state in FINAL:
    TABLE[_state, JobEvent.RETRY] = _S.PENDING

# How a doubt is settled.
OF_DOUBT = frozenset({JobEvent.REPRINT, JobEvent.NEXT, JobEvent.ASSUME})

# What means that nothing more is to be done for a document.
_ENDS_DOCUMENT = frozenset({JobEvent.DELIVER, JobEvent.ASSUME, JobEvent.HAND_ON})

# What an open job does not take: nothing of it can print yet, nor be in doubt.
_NOT_WHILE_INCOMING = frozenset(
    {JobEvent.RELEASE, JobEvent.ASSUME, JobEvent.NEXT, JobEvent.REPRINT, JobEvent.SUBMIT}
)

# What a job does not take that its application server has: it goes on there, or ends.
_NOT_WHILE_ELSEWHERE = frozenset({*_NOT_WHILE_INCOMING, JobEvent.MOVE})

_ADVICE = {
    JobEvent.HOLD: "Only a waiting job can be held; cancel one that is printing.",
    JobEvent.RELEASE: "Only a held job can be released.",
    JobEvent.CANCEL: "It is finished already.",
    JobEvent.RETRY: "Only a finished job can be retried; release a held one.",
    JobEvent.MOVE: "Only a waiting job whose bytes have not left can be moved.",
    JobEvent.ASSUME: "Only a job in doubt can be settled.",
    JobEvent.REPRINT: "Only a job in doubt can be settled.",
}


def next_state(state: JobState, event: JobEvent) -> JobState:
    """The state after `event`.

    Raises:
        OperationError: `not-possible`, when `state` does not take `event`.
    """
    after = TABLE.get((state, event))
    if after is None:
        raise OperationError(
            "not-possible", f"a job that is {state} does not take {event}.", _ADVICE.get(event, "")
        )
    return after


def canceling(state: JobState, why: str) -> tuple[JobEvent, tuple[str, ...]]:
    """The event by which a job in `state` is canceled, and its reasons from then on: one that is
    being printed is asked to stop.

    Raises:
        OperationError: `not-possible`: it is finished.
    """
    if state in ACTIVE:
        return JobEvent.STOP, (JobReason.PROCESSING_TO_STOP_POINT, why)
    next_state(state, JobEvent.CANCEL)
    return JobEvent.CANCEL, (why,)


def onward(
    event: JobEvent, before: tuple[str, ...], reasons: tuple[str, ...], *, has_more: bool
) -> tuple[JobEvent, tuple[str, ...]]:
    """What an event of a document means for its job, and the job's reasons by it.

    A job that `has_more` documents goes on with the next one, unless it was asked to stop: `before`
    are the reasons that it had until now.

    Raises:
        OperationError: `not-possible`: it is to go on, and has no more.
    """
    if event is JobEvent.NEXT and not has_more:
        raise OperationError("not-possible", "the job has no further document.")
    stop = JobReason.PROCESSING_TO_STOP_POINT
    if event is JobEvent.HAND_ON and not has_more and stop in before:
        return event, tuple(dict.fromkeys((*before, *reasons)))  # to be canceled there, too
    if not has_more or event not in _ENDS_DOCUMENT:
        return event, reasons
    if stop not in before:
        return JobEvent.NEXT, ()
    kept = tuple(one for one in before if one != stop)
    return JobEvent.CANCELED, kept or (JobReason.JOB_CANCELED_BY_OPERATOR.value,)


def decided(
    state: JobState,
    event: JobEvent,
    before: tuple[str, ...],
    reasons: tuple[str, ...],
    *,
    has_more: bool,
) -> tuple[JobEvent, JobState, tuple[str, ...]]:
    """What somebody's decision on a job in `state` comes to: the event (see `onward`), and the
    state and the reasons after it.

    A doubt that leaves something to print waits for a second word where another node may have
    printed it: a job that was re-homed stays held.

    Raises:
        OperationError: `not-possible`.
    """
    event, words = onward(event, before, reasons, has_more=has_more)
    after = next_state(state, event)
    if event in OF_DOUBT and JobReason.JOB_REHOMED in before and not after.is_final:
        return event, next_state(after, JobEvent.HOLD), (JobReason.JOB_REHOMED.value,)
    return event, after, words


def reasons_while_incoming(
    event: JobEvent, after: JobState, reasons: tuple[str, ...]
) -> tuple[str, ...]:
    """The reasons of an open job after `event`: as long as it is held, it is also incoming.

    Raises:
        OperationError: `not-possible`: its document is still to come.
    """
    if event in _NOT_WHILE_INCOMING:
        raise OperationError(
            "not-possible",
            f"the document of the job is still to come; it does not take {event}.",
            "Wait for it, or cancel the job.",
        )
    if after is not JobState.PENDING_HELD or JobReason.JOB_INCOMING in reasons:
        return reasons
    return (JobReason.JOB_INCOMING, *reasons)


def check_is_here(event: JobEvent, before: tuple[str, ...], reasons: tuple[str, ...]) -> None:
    """Let through what may be done with a job that had the reasons `before`, for these reasons.

    Raises:
        OperationError: `not-possible`: another node has it, and decides.
    """
    is_refused = event in _NOT_WHILE_ELSEWHERE or JobReason.JOB_CANCELED_BY_USER in reasons
    if is_refused and JobReason.JOB_WAITS_ELSEWHERE in before:
        raise OperationError(
            "not-possible",
            "the job waits at the application server by now.",
            "Release or delete it at a machine.",
        )
