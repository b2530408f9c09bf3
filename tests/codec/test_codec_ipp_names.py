"""The numbers of IPP, and messages, held against libcups, which everything that prints shares."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from spoold.codec import ipp, ipp_names
from spoold.codec.ipp import Message, Tag
from spoold.codec.ipp_names import JobState, Operation, PrinterState, Status
from spoold.model import job

LAST_OPERATION_OF_LIBCUPS_2 = Operation.STARTUP_ALL_PRINTERS
NOT_IN_LIBCUPS_2 = {Status.CLIENT_ERROR_NOT_FETCHABLE}
STATE_DATA = 3  # IPP_STATE_DATA: the attributes are done


@pytest.fixture(scope="module")
def libcups() -> ctypes.CDLL:
    library = ctypes.CDLL("libcups.so.2")
    for name in ("ippOpString", "ippErrorString", "ippTagString", "ippEnumString"):
        getattr(library, name).restype = ctypes.c_char_p
    library.ippNew.restype = ctypes.c_void_p
    library.ippReadFile.argtypes = (ctypes.c_int, ctypes.c_void_p)
    library.ippWriteFile.argtypes = (ctypes.c_int, ctypes.c_void_p)
    library.ippSetState.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.ippDelete.argtypes = (ctypes.c_void_p,)
    return library


def test_operations_and_statuses_have_their_numbers(libcups: ctypes.CDLL) -> None:
    """Names and numbers are those of the registry, spelled as the standard does."""
    for operation in Operation:
        if operation <= LAST_OPERATION_OF_LIBCUPS_2 or operation > 0x4000:
            assert libcups.ippOpString(operation).decode() == operation.keyword
    for status in set(Status) - NOT_IN_LIBCUPS_2:
        assert libcups.ippErrorString(status).decode() == status.keyword


def test_states_have_their_numbers(libcups: ctypes.CDLL) -> None:
    """States of jobs and printers, also those of the model, are the enums of the wire."""
    for state in JobState:
        assert libcups.ippEnumString(b"job-state", state).decode() == state.keyword
    for state in PrinterState:
        assert libcups.ippEnumString(b"printer-state", state).decode() == state.keyword
    assert [JobState.of(state).keyword for state in job.JobState] == list(job.JobState)


def test_what_has_no_name_has_its_number() -> None:
    """Codes off the wire can be shown, whatever they are."""
    assert ipp_names.status_keyword(0x0406) == "client-error-not-found"
    assert ipp_names.status_keyword(0x04FF) == "0x04ff"
    assert Status.of("") is Status.CLIENT_ERROR_BAD_REQUEST
    assert Status(0x0001).is_success
    assert not Status.CLIENT_ERROR_GONE.is_success


def test_libcups_reads_and_writes_the_same_bytes(libcups: ctypes.CDLL, tmp_path: Path) -> None:
    """A message of every syntax goes through libcups and comes back as it was."""
    attributes = [
        ipp.charset("attributes-charset", "utf-8"),
        ipp.language("attributes-natural-language", "en"),
        ipp.uri("printer-uri", "ipp://localhost/printers/q"),
        ipp.text("status-message", "Größe"),
        ipp.name_("job-name", "", "x" * 255),
    ]
    more = [
        ipp.integer("copies", 1, -2),
        ipp.boolean("last-document", True),
        ipp.enum_("finishings", 3, 4),
        ipp.octets("job-password", b"\x00\xff"),
        ipp.date_time("date-time-at-creation", ipp.DateTime.at(1_800_000_000)),
        ipp.resolution("printer-resolution", ipp.Resolution(600, 300)),
        ipp.range_("page-ranges", ipp.Range(1, 4), ipp.Range(7, 7)),
        ipp.mime("document-format", "application/pdf"),
        ipp.keyword("sides", "one-sided"),
        ipp.uri_scheme("scheme", "ipp"),
        ipp.no_value("job-impressions"),
        ipp.unknown("job-media-sheets"),
        ipp.collection(
            "media-col",
            [
                ipp.collection("media-size", [ipp.integer("x-dimension", 21000)]),
                ipp.keyword("media-type", "stationery"),
            ],
            [ipp.keyword("media-color", "white")],
        ),
    ]
    groups = [ipp.group(Tag.OPERATION, attributes), ipp.group(Tag.JOB, more)]
    groups.append(ipp.group(Tag.JOB, [ipp.integer("job-id", 2)]))
    sent = ipp.encode(Message((2, 0), Status.SUCCESSFUL_OK, 0x01020304, groups))
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(sent)
    message = libcups.ippNew()
    try:
        with there.open("rb") as source:
            assert libcups.ippReadFile(source.fileno(), message) == STATE_DATA
        libcups.ippSetState(message, 0)
        with back.open("wb") as target:
            assert libcups.ippWriteFile(target.fileno(), message) == STATE_DATA
    finally:
        libcups.ippDelete(message)
    assert back.read_bytes() == sent
