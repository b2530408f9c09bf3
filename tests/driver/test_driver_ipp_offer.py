"""What a printer says of itself and of jobs, read for the `ipp` driver: whatever it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import ipp
from spoold.codec.ipp_names import JobState, Operation, Status
from spoold.codec.ipp_plain import PRINTER
from spoold.codec.ipp_values import Attribute, Group, Message, Tag, Value
from spoold.driver import ipp_verdict
from spoold.driver.ipp_offer import ABILITIES, STATE, SUPPLIES, Offer, learn, wishes_of
from spoold.driver.ipp_peer import JOB_ATTRIBUTES, IppRefused, JobView, is_called, job_name
from spoold.driver.ipp_session import Broken, HttpRefused
from spoold.driver.ipp_verdict import Sent
from spoold.model.outcome import Blame, Deferred, Refused

from .conftest import JOB_UUID, new_job

NAMES = (*STATE, *SUPPLIES, *ABILITIES, *PRINTER)
texts = st.text(max_size=20)
values = st.one_of(
    st.builds(Value, st.just(int(Tag.INTEGER)), st.integers(-(1 << 31), (1 << 31) - 1)),
    st.builds(Value, st.just(int(Tag.ENUM)), st.integers(-2, 70)),
    st.builds(Value, st.just(int(Tag.BOOLEAN)), st.booleans()),
    st.builds(Value, st.just(int(Tag.KEYWORD)), texts),
    st.builds(Value, st.just(int(Tag.TEXT)), texts),
    st.builds(Value, st.just(int(Tag.OCTETS)), st.binary(max_size=40)),
    st.builds(Value, st.just(int(Tag.NAME_LANGUAGE)), st.builds(ipp.WithLanguage, texts, texts)),
    st.builds(Value, st.just(int(Tag.RANGE)), st.builds(ipp.Range, st.integers(), st.integers())),
    st.builds(
        Value,
        st.just(int(Tag.RESOLUTION)),
        st.builds(ipp.Resolution, st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 9)),
    ),
    st.just(Value(int(Tag.NO_VALUE), None)),
    st.just(Value(int(Tag.COLLECTION), {"x": ipp.integer("x", 1)})),
)


def groups(names):
    """Groups with any values under known names."""
    return st.dictionaries(
        st.sampled_from(names), st.lists(values, min_size=1, max_size=3), max_size=12
    ).map(lambda found: Group(Tag.PRINTER, {name: Attribute(name, v) for name, v in found.items()}))


@pytest.mark.slow
@given(groups(NAMES))
def test_nothing_that_a_printer_says_of_itself_breaks_its_reader(group):
    """State, abilities, supplies and what is learned: wrong syntaxes are as if they were not."""
    offer = Offer(group)
    assert isinstance(offer.is_accepting, bool)
    assert isinstance(offer.message, str)
    assert offer.copies_max >= 1
    assert all(isinstance(one, str) for one in (*offer.reasons, *offer.formats))
    assert all(isinstance(count, int) for count in offer.counters.values())
    assert all(0 <= supply.get("level", 0) <= 100 for supply in offer.supplies)
    wishes = {"sides": "one-sided", "media": "a4", "page-ranges": ["1-2"], "finishings": [3]}
    known, left_out = wishes_of(new_job(b"", attributes=wishes), offer)
    assert {one.name for one in known} | set(left_out) == set(wishes)
    learned = learn(group)
    assert set(learned.options) <= set(PRINTER)


@pytest.mark.slow
@given(groups(JOB_ATTRIBUTES), st.sampled_from(Sent))
def test_nothing_that_a_printer_says_of_a_job_breaks_its_reader(group, sent):
    """It has a state or it has none; words for people in any case."""
    job = JobView(group)
    assert isinstance(ipp_verdict.described(job), str)
    assert isinstance(ipp_verdict.evidence_of(job), dict)
    assert not (ipp_verdict.is_waiting_for_data(job) and job.is_final)
    assert not ipp_verdict.is_evidently_whole(job, 1) or job.state == JobState.COMPLETED
    assert isinstance(ipp_verdict.is_canceled_there(job, sent), bool)


@given(st.text(max_size=300), st.integers(1, 10**6))
def test_a_job_is_named_so_that_it_is_found_again(title, number):
    """At most 127 octets, printable, the token whole at its end."""
    name = job_name(title, f"{JOB_UUID}/{number}")
    assert len(name.encode()) <= 127
    assert name.isprintable()
    assert name.endswith(f"[{JOB_UUID}/{number}]")
    assert is_called(name, name)
    assert is_called(name[:20], name)
    assert is_called("", name)


def test_a_job_of_somebody_else_is_told_from_ours():
    """By its name, also when the printer cut it or changed its characters."""
    name = job_name("Größe 10 %", f"{JOB_UUID}/1")
    assert is_called("Gr??e 10 % [0000", name)
    assert not is_called("Microsoft Word - Vacation", name)


@pytest.mark.parametrize(
    ("status", "outcome", "reason"),
    [
        (Status.SERVER_ERROR_BUSY, Deferred, "device-busy"),
        (Status.SERVER_ERROR_TOO_MANY_JOBS, Deferred, "device-busy"),
        (Status.SERVER_ERROR_TEMPORARY_ERROR, Deferred, "device-busy"),
        (Status.SERVER_ERROR_SERVICE_UNAVAILABLE, Deferred, "device-busy"),
        (Status.SERVER_ERROR_NOT_ACCEPTING_JOBS, Deferred, "not-accepting-jobs"),
        (Status.SERVER_ERROR_DEVICE_ERROR, Deferred, "device-error"),
        (Status.CLIENT_ERROR_NOT_FOUND, Deferred, "device-not-found"),
        (Status.CLIENT_ERROR_NOT_AUTHENTICATED, Deferred, "device-wants-login"),
        (Status.CLIENT_ERROR_DOCUMENT_FORMAT_NOT_SUPPORTED, Refused, "document-format-error"),
        (Status.CLIENT_ERROR_DOCUMENT_UNPRINTABLE_ERROR, Refused, "document-format-error"),
        (
            Status.CLIENT_ERROR_REQUEST_ENTITY_TOO_LARGE,
            Refused,
            "client-error-request-entity-too-large",
        ),
        (
            Status.CLIENT_ERROR_ACCOUNT_LIMIT_REACHED,
            Refused,
            "client-error-account-limit-reached",
        ),
    ],
    ids=lambda value: value.keyword if isinstance(value, Status) else "",
)
def test_what_passes_by_itself_is_waited_for_and_what_never_will_is_refused(
    status, outcome, reason
):
    """Every status of RFC 8011 that a printer gives for a job means one of the two."""
    found = ipp_verdict.refusal(IppRefused(Operation.CREATE_JOB, Message((2, 0), status, 1, [])))
    assert isinstance(found, outcome)
    assert found.reason == reason
    assert found.detail


def test_an_unknown_status_makes_only_this_job_wait():
    """Something about the request: the printer is not to blame."""
    found = ipp_verdict.refusal(IppRefused(Operation.CREATE_JOB, Message((2, 0), 0x04FF, 1, [])))
    assert isinstance(found, Deferred)
    assert found.blame is Blame.JOB


def test_http_and_silence_have_their_outcomes_too():
    """403, 413, a Retry-After; and a connection that was never made."""
    assert ipp_verdict.refusal(HttpRefused(403, "no")).reason == "device-wants-login"
    assert isinstance(ipp_verdict.refusal(HttpRefused(413, "no")), Refused)
    later = ipp_verdict.refusal(HttpRefused(503, "no", 7.0))
    assert isinstance(later, Deferred)
    assert later.not_before_s == 7.0
    broken = Broken("silence", may_have_arrived=True, reason="device-not-trusted")
    assert ipp_verdict.refusal(broken).reason == "device-not-trusted"
