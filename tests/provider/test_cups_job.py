"""What CUPS tells a backend: device URIs, arguments, and one job-uuid for one job."""

from __future__ import annotations

import pytest

from spoold.codec import ipp_plain
from spoold.model.errors import ConfigError
from spoold.provider.cups_job import Queue, Task
from spoold.provider.cups_messages import RETRY, RETRY_CURRENT

OPTIONS = (
    "finishings=3 media=a4 number-up=1 print-color-mode=monochrome print-quality=5 "
    "sides=two-sided-long-edge collate=true Duplex=DuplexNoTumble page-ranges=1-2 "
    "job-uuid=urn:uuid:58f3d6ea-cf3c-3d45-60eb-2888645591b1 job-billing=a\\ b "
    "job-originating-host-name=localhost date-time-at-creation= time-at-creation=1795261298 "
    "time-at-processing={0} document-name-supplied=report.pdf"
)


def task(options: str = OPTIONS.format(1), *files: str, number: str = "7", **environ: str) -> Task:
    return Task.parse([number, "cashier", "Report", "3", options, *files], environ)


# --- the device URI --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "endpoints"),
    [
        ("one", ["one:9195"]),
        ("one,two", ["one:9195", "two:9195"]),
        ("one,two:9200", ["one:9200", "two:9200"]),
        ("one%3A9100,two:9200", ["one:9100", "two:9200"]),
        ("one:9100,two", ["one:9100", "two:9195"]),
        ("[2001:db8::1],192.0.2.1:9200", ["[2001:db8::1]:9200", "192.0.2.1:9200"]),
        ("[2001:db8::1]:9100,[::1]:9200", ["[2001:db8::1]:9100", "[::1]:9200"]),
        ("one,one", ["one:9195"]),
    ],
)
def test_servers_of_a_device_uri(servers, endpoints):
    """The port of the last one holds for those before it that name none."""
    queue = Queue.parse(f"spoold://{servers}/front%20desk")
    assert list(queue.endpoints) == endpoints
    assert queue.printer == "front desk"
    assert queue.is_tls


def test_options_of_a_device_uri():
    """Each has a default that does what people expect of a CUPS queue."""
    plain = Queue.parse("spoold://one/p")
    assert (plain.waits_for_end, plain.contimeout_s, plain.hold) == (False, None, False)
    assert (plain.gives_back, plain.priority) == (RETRY_CURRENT, 50)
    query = "waitjob=yes&contimeout=600&away=retry&hold=on&priority=70&tls=no"
    queue = Queue.parse(f"spoold://one/p?{query}")
    assert (queue.waits_for_end, queue.contimeout_s, queue.hold) == (True, 600.0, True)
    assert (queue.gives_back, queue.priority, queue.is_tls) == (RETRY, 70, False)


def test_the_clear_port_is_clear_without_a_word():
    """9191 everywhere in the deployment is the port without TLS."""
    assert not Queue.parse("spoold://one,two:9191/p").is_tls
    assert Queue.parse("spoold://one,two:9191/p?tls=yes").is_tls
    assert Queue.parse("spoold://one%3A9191,two:9192/p").is_tls


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("", "scheme"),
        ("socket://one", "scheme"),
        ("spoold://one", "no printer"),
        ("spoold://one/", "no printer"),
        ("spoold://one/a/b", "no printer"),
        ("spoold:///p", "names no server"),
        ("spoold://one,,two/p", "names no server"),
        ("spoold://one:0/p", "port 0"),
        ("spoold://one:99999/p", "names no server"),
        ("spoold://[::1/p", "Invalid IPv6"),
        ("spoold://cashier:secret@one/p", "it has a user"),
        ("spoold://one/p?waitjob=maybe", "waitjob=maybe"),
        ("spoold://one/p?priority=101", "priority=101"),
        ("spoold://one/p?contimeout=-1", "contimeout=-1"),
        ("spoold://one/p?nonsense=1", "no option nonsense"),
    ],
)
def test_a_device_uri_that_cannot_be_is_refused_with_advice(uri, cause):
    """CUPS takes nearly any URI: the first job brings it to light."""
    with pytest.raises(ConfigError, match=cause) as caught:
        Queue.parse(uri)
    assert caught.value.advice
    assert "secret" not in str(caught.value)


# --- the job ----------------------------------------------------------------------------------


def test_a_file_brings_its_copies_and_its_format():
    """As the user sent it: the backend is to apply what it asks for."""
    found = task(OPTIONS.format(1), "/var/spool/cups/d00007-001", CONTENT_TYPE="application/pdf")
    assert (found.user, found.title, found.copies) == ("cashier", "Report", 3)
    assert found.format == "application/pdf"
    assert found.attributes() == {
        "collate": "true",
        "job-billing": "a b",
        "media": "a4",
        "page-ranges": ["1-2"],
        "print-quality": 5,
        "sides": "two-sided-long-edge",
    }


def test_filters_have_made_copies_and_pages():
    """What they have drawn is not asked for again; what the printer does is."""
    found = task(CONTENT_TYPE="text/plain", FINAL_CONTENT_TYPE="application/vnd.cups-raster")
    assert (found.copies, found.format) == (1, "application/octet-stream")
    attributes = found.attributes()
    assert "page-ranges" not in attributes
    assert attributes["sides"] == "two-sided-long-edge"


def test_what_cups_adds_for_want_of_a_driver_is_left_out(tmp_path):
    """It takes a queue without a driver for a monochrome printer; with one it knows."""
    ppd = tmp_path / "q.ppd"
    assert "print-color-mode" not in task(PPD=str(ppd)).attributes()
    ppd.touch()
    assert task(PPD=str(ppd)).attributes()["print-color-mode"] == "monochrome"
    colour = task("print-color-mode=color finishings=4,5").attributes()
    assert colour == {"print-color-mode": "color", "finishings": [4, 5]}


def test_values_have_the_form_that_ipp_gives_them():
    """Numbers, lists and collections; a name that looks like a number stays a text."""
    found = task(
        "finishings=4,5 page-ranges=1-2,7 orientation-requested=4 job-billing=4711 "
        "media-col={media-size={x-dimension=21000 y-dimension=29700} media-type=labels}",
        "/a",
    )
    assert found.attributes() == {
        "finishings": [4, 5],
        "page-ranges": ["1-2", "7"],
        "orientation-requested": 4,
        "job-billing": "4711",
        "media-col": {
            "media-size": {"x-dimension": 21000, "y-dimension": 29700},
            "media-type": "labels",
        },
    }
    for name, value in found.attributes().items():
        if name in ipp_plain.TEMPLATE:
            assert ipp_plain.to_attribute(name, value)


def test_hostile_options_stay_within_limits():
    """Names that are none, values without end and any number of them."""
    many = " ".join(f"o{number}=1" for number in range(1000))
    assert len(task(many).attributes()) == 128
    assert task("a={b={c={d={e={f=1}}}}}").attributes() == {"a": {"b": {"c": {"d": {}}}}}
    assert task(f"a={'x' * 5000} ../b=1 B=1 c\x1b=1 d=1").attributes() == {"d": "1"}


def test_arguments_of_any_bytes_are_read():
    """A title in Latin-1 comes as bytes that are no UTF-8."""
    title = b"Gr\xf6\xdfe".decode("utf-8", "surrogateescape")
    found = Task.parse(["7", "u" * 300, title, "x", "", "/a"], {"CONTENT_TYPE": "no type"})
    assert (found.title, found.copies) == ("Gr��e", 1)
    assert (len(found.user), found.format) == (255, "application/octet-stream")
    with pytest.raises(ConfigError, match="arguments"):
        Task.parse(["7", "user"], {})


def test_a_retry_has_the_job_uuid_of_the_first_try():
    """Whenever CUPS starts it again, in another queue as well; the clock moves on."""
    first = task(OPTIONS.format(1795261298), "/a", PRINTER="front").job_uuid(0, 0)
    assert task(OPTIONS.format(1795269999), "/a", PRINTER="annex").job_uuid(0, 0) == first


def test_other_jobs_have_other_uuids():
    """Another number, another time, another document, and the same job once more by request."""
    made = OPTIONS.format(1)
    uuids = {
        task(made).job_uuid(0, 0),
        task(made).job_uuid(1, 0),
        task(made).job_uuid(0, 1),
        task(made, number="8").job_uuid(0, 0),
        task(made.replace("1795261298", "1795261299")).job_uuid(0, 0),
        task(made.replace("58f3d6ea", "58f3d6eb")).job_uuid(0, 0),
        task(made + " time-at-completed=1795261300").job_uuid(0, 0),
    }
    assert len(uuids) == 7


def test_a_job_that_nothing_tells_from_others_gets_a_uuid_of_its_own():
    """No CUPS that is in use today; rather a second job than one that is taken for another."""
    assert task("media=a4").job_uuid(0, 0) != task("media=a4").job_uuid(0, 0)
