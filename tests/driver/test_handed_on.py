"""What two nodes say to each other of a job: pure rules, and what is taken on trust from whom."""

from __future__ import annotations

from uuid import UUID

import pytest

from spoold.driver.handed_on import UNKNOWN, by_owner
from spoold.intake import arguments
from spoold.model.errors import OperationError
from spoold.model.job import JobState
from spoold.model.person import Known
from spoold.model.principal import Port, Principal, Role
from spoold.model.transitions import JobEvent
from spoold.spool.handed import HandedJob

UUID_ = UUID("01234567-89ab-4def-8123-456789abcdef")
SITE = Principal("node:1", Port.MUTUAL, frozenset({Role.SITE}), "library")
ORIGIN = {
    "submitter": "provider:7",
    "known": "authenticated",
    "by": "card",
    "client_host": "10.1.2.3",
    "copies_embedded": True,
    "created_us": 1_700_000_000_000_000,
}


def handed(*, is_canceled: bool = False) -> HandedJob:
    evidence = {"node": "9", "node-name": "library", "job": 7}
    return HandedJob(1, UUID_, 0, 1, evidence, is_canceled)


def submission(principal: Principal, **handed_on):
    args = {"job_uuid": str(UUID_), "printer": "desk", "user": "EXAMPLE\\Ada"}
    told = {**ORIGIN, **handed_on}
    return arguments.submission(args | {"handed_on": told}, principal, "192.0.2.1")


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (JobState.COMPLETED, JobEvent.DELIVER),
        (JobState.CANCELED, JobEvent.CANCELED),
        (JobState.ABORTED, JobEvent.REFUSE),
        (JobState.PENDING, JobEvent.HAND_ON),
        (JobState.PENDING_HELD, JobEvent.HAND_ON),
        (JobState.PROCESSING_STOPPED, JobEvent.HAND_ON),
        (UNKNOWN, JobEvent.DEFER),
    ],
)
def test_a_job_ends_here_as_it_ends_there(state, event):
    """What its owner tells decides; one that the owner never had is handed on again."""
    change = by_owner(handed(), {"state": str(state), "reasons": ["x"], "message": "m"}, 5)
    assert change.event is event
    assert change.only_from == (JobState.PROCESSING, JobState.PROCESSING_STOPPED)


def test_a_canceled_job_that_the_owner_never_had_is_canceled():
    """It is not handed on again only to be canceled there."""
    change = by_owner(handed(is_canceled=True), {"state": UNKNOWN}, 5)
    assert change.event is JobEvent.CANCELED


@pytest.mark.parametrize("told", [{}, {"state": "melting"}, {"state": 7}, {"state": None}])
def test_nonsense_from_a_node_changes_nothing(told):
    """A node with a fault, or another version, does not end jobs here."""
    assert by_owner(handed(), told, 5) is None


def test_a_wait_for_release_there_is_no_wait_for_release_here():
    """Why the owner holds a job is told in words: here nobody can release it."""
    told = {"state": "pending-held", "reasons": ["job-release-wait"], "message": ""}
    change = by_owner(handed(), told, 5)
    assert change.reasons == ("queued-in-device",)
    assert "library has it as job 7: pending-held: job-release-wait." in change.message


def test_what_a_node_says_of_a_job_is_carried_along():
    """Submitter, owner, how that is known, and when it came are those of the first node."""
    found = submission(SITE)
    assert (found.owner.name, found.owner.known, found.owner.by) == (
        "ada",
        Known.AUTHENTICATED,
        "card",
    )
    assert (found.submitter, found.client_host) == ("provider:7", "10.1.2.3")
    assert (found.intake, found.copies_embedded) == ("handed-on", True)
    assert found.created_us == ORIGIN["created_us"]


@pytest.mark.parametrize(
    "principal",
    [
        Principal("provider:1", Port.MUTUAL, frozenset({Role.PROVIDER}), "till", ("ada",)),
        Principal("user:1", Port.MUTUAL, frozenset({Role.USER}), "ada"),
        Principal("device:1", Port.MUTUAL, frozenset({Role.DEVICE}), "mfd"),
        Principal("uid:0", Port.CONTROL, frozenset({Role.ADMIN}), "root", ("*",)),
        Principal("address:192.0.2.1", Port.CLEAR),
        Principal("node:1", Port.CLEAR, frozenset({Role.SITE}), "library"),
    ],
)
def test_nobody_else_is_believed_whose_job_it_was(principal):
    """Whoever may not speak for anybody cannot make a job an authenticated one of somebody else."""
    with pytest.raises(OperationError) as error:
        submission(principal)
    assert error.value.code == "forbidden"


@pytest.mark.parametrize(
    "wrong",
    [
        {"submitter": "nobody"},
        {"submitter": "a b:c"},
        {"submitter": 7},
        {"known": "certain"},
        {"created_us": -1},
        {"created_us": "now"},
        {"by": 1},
        {"client_host": None},
        {"copies_embedded": 1},
    ],
)
def test_what_makes_no_sense_of_an_origin_is_refused(wrong):
    """A node is told what is wrong about it, and nothing is guessed."""
    with pytest.raises(OperationError) as error:
        submission(SITE, **wrong)
    assert error.value.code == "bad-request"
