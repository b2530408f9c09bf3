"""CUPS's own backends and curl as clients: each hand-over is one job, right in every part."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from support.documents import KINDS, document, large_pdf
from support.peers import Backend, incoming, printed_files, wait_until
from support.process import RAW_PORT, all_jobs, config_with

pytestmark = pytest.mark.slow

CONFIG = config_with("tls", "lpd") + RAW_PORT
LARGE_BYTES = 50_000_000
ORDERS = ("control,data", "data,control")


@pytest.fixture
def socket_backend(tmp_path):
    return Backend("socket", tmp_path)


@pytest.fixture
def lpd_backend(tmp_path):
    return Backend("lpd", tmp_path)


@pytest.fixture
def pdf(tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(document("pdfwrite"))
    return str(path)


def port_of(daemon, label: str) -> str:
    return daemon.ports[label].rpartition(":")[2]


def lpd_uri(daemon, *options: str, queue: str = "default") -> str:
    every = "&".join(("reserve=none", *options))
    return f"lpd://127.0.0.1:{port_of(daemon, 'lpd')}/{queue}?{every}"


# --- socket:// -------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["clear", "raw default"])
def test_the_socket_backend_hands_over_a_file(daemon, folder, jobs, socket_backend, pdf, label):
    """The port for everything and a port for one printer: one job, the same bytes."""
    socket_backend.send(f"socket://127.0.0.1:{port_of(daemon, label)}", pdf)
    job = jobs.one_finished()
    assert (job["state"], job["intake"], job["copies"]) == ("completed", "raw", 1)
    assert printed_files(folder, job) == [document("pdfwrite")]


def test_the_socket_backend_hands_over_its_input(daemon, folder, jobs, socket_backend):
    """As the end of a chain of filters, with a document of 50 MB."""
    body = large_pdf(LARGE_BYTES)
    socket_backend.send(f"socket://127.0.0.1:{daemon.port}", document=body)
    job = jobs.one_finished()
    assert (job["state"], job["size"]) == ("completed", len(body))
    assert printed_files(folder, job) == [body]


def test_copies_of_the_socket_backend_are_in_the_stream(daemon, folder, jobs, socket_backend, pdf):
    """It writes the file three times into one connection: one job, and nobody copies it again."""
    socket_backend.send(f"socket://127.0.0.1:{daemon.port}", pdf, copies=3)
    job = jobs.one_finished()
    assert job["copies"] == 1
    assert printed_files(folder, job) == [3 * document("pdfwrite")]


# --- lpd:// ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["pdfwrite", "text-utf-8", "windows-pcl"])
def test_the_lpd_backend_hands_over_a_file(
    daemon, folder, jobs, lpd_backend, tmp_path, order, kind
):
    """Both orders of control file and data file: title and owner are what CUPS was told."""
    path = tmp_path / "document"
    path.write_bytes(document(kind))
    lpd_backend.send(
        lpd_uri(daemon, f"order={order}", "sanitize_title=no"),
        str(path),
        title="Größe 10 %",
        user="till 7",
    )
    job = jobs.one_finished()
    assert (job["state"], job["intake"], job["format"]) == ("completed", "lpd", KINDS[kind])
    assert (job["owner"], job["owner_known"], job["owner_by"]) == ("till 7", "claimed", "lpd")
    assert job["title"] == "Größe 10 %"
    assert printed_files(folder, job) == [document(kind)]


@pytest.mark.parametrize("order", ORDERS)
def test_copies_of_the_lpd_backend_become_copies_of_the_job(
    daemon, folder, jobs, lpd_backend, pdf, order
):
    """Without manual copies the control file prints one data file three times: one job of three."""
    lpd_backend.send(lpd_uri(daemon, f"order={order}", "manual_copies=off"), pdf, copies=3)
    job = jobs.one_finished()
    assert job["copies"] == 3
    assert printed_files(folder, job) == [document("pdfwrite")]


@pytest.mark.parametrize("order", ORDERS)
def test_manual_copies_of_the_lpd_backend_are_in_the_data(
    daemon, folder, jobs, lpd_backend, pdf, order
):
    """With manual copies, its default, the data file holds the document three times."""
    lpd_backend.send(lpd_uri(daemon, f"order={order}"), pdf, copies=3)
    job = jobs.one_finished()
    assert job["copies"] == 1
    assert printed_files(folder, job) == [3 * document("pdfwrite")]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("options", [("banner=on",), ("format=o",), ("banner=on", "format=p")])
def test_a_banner_and_a_format_do_not_change_the_job(
    daemon, folder, jobs, lpd_backend, pdf, order, options
):
    """Control-file lines that ask for more than the bytes do no harm."""
    lpd_backend.send(lpd_uri(daemon, f"order={order}", *options), pdf)
    job = jobs.one_finished()
    assert (job["title"], job["owner"]) == ("Weekly report", "cashier")
    assert printed_files(folder, job) == [document("pdfwrite")]


def test_the_lpd_backend_streams_its_input(daemon, folder, jobs, lpd_backend):
    """`mode=stream`: a length that nobody knows is announced; the job is what came, once."""
    lpd_backend.send(lpd_uri(daemon, "mode=stream"), document=document("pdfwrite"))
    job = jobs.one_finished()
    assert (job["state"], job["title"]) == ("completed", "Weekly report")
    assert printed_files(folder, job) == [document("pdfwrite")]


def test_the_lpd_backend_hands_over_50_mb(daemon, folder, jobs, lpd_backend):
    """Its input is spooled first, so the length is known."""
    body = large_pdf(LARGE_BYTES)
    lpd_backend.send(lpd_uri(daemon), document=body)
    job = jobs.one_finished()
    assert (job["state"], job["size"]) == ("completed", len(body))
    assert printed_files(folder, job) == [body]


def test_an_unknown_queue_is_refused_to_the_lpd_backend(daemon, jobs, lpd_backend, pdf):
    """It learns so at once, and no job is made."""
    process = lpd_backend.start(lpd_uri(daemon, queue="nowhere"), pdf)
    try:
        wait_until(lambda: [line for line in daemon.log if "nowhere" in line])
        assert jobs.new() == []
    finally:
        process.kill()
        process.wait(30)


# --- senders that die ------------------------------------------------------------------------


def die_in_the_middle(process: subprocess.Popen, body: bytes, seen) -> None:
    """Feed half of the document, wait until the daemon has some of it, and kill the sender."""
    process.stdin.write(body[: len(body) // 2])
    process.stdin.flush()
    wait_until(seen)
    process.send_signal(signal.SIGKILL)
    process.stdin.close()
    process.wait(30)


def test_a_killed_socket_backend_never_prints_half_a_pdf(daemon, folder, jobs, socket_backend):
    """Its kernel ends the stream in order, but the PDF has no end: held, not printed."""
    body = large_pdf(LARGE_BYTES)
    process = socket_backend.start(f"socket://127.0.0.1:{daemon.port}", stdin=subprocess.PIPE)
    die_in_the_middle(process, body, lambda: incoming(folder) > LARGE_BYTES // 4)
    job = jobs.one()
    assert job["state"] == "pending-held"
    assert job["reasons"] == ["submission-interrupted"]
    assert 0 < job["size"] < len(body)
    assert printed_files(folder, job) == []
    assert daemon.call("printer.show", name="default")["interrupted_today"] >= 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_killed_lpd_backend_leaves_no_printed_job(daemon, folder, jobs, lpd_backend, order):
    """In `mode=stream` the length is unknown, so a cut looks like an end: held, not printed."""
    body = large_pdf(LARGE_BYTES)
    process = lpd_backend.start(
        lpd_uri(daemon, "mode=stream", f"order={order}"), stdin=subprocess.PIPE
    )
    die_in_the_middle(process, body, lambda: incoming(folder) > LARGE_BYTES // 4)
    job = jobs.one()
    assert (job["state"], job["reasons"]) == ("pending-held", ["submission-interrupted"])
    assert 0 < job["size"] < len(body)
    assert printed_files(folder, job) == []


def test_a_killed_lpd_backend_with_a_known_length_leaves_nothing(
    daemon, folder, jobs, lpd_backend, tmp_path
):
    """The length says that bytes are missing, and nothing was acknowledged: no job at all."""
    path = tmp_path / "large.pdf"
    path.write_bytes(large_pdf(LARGE_BYTES))
    # It would send a gigabyte: time enough to be killed in the middle.
    process = lpd_backend.start(lpd_uri(daemon), str(path), copies=20)
    wait_until(lambda: incoming(folder) > 0)
    process.kill()
    process.wait(30)
    wait_until(lambda: daemon.call("status")["connections"]["clear"] == 0)
    assert incoming(folder) == 0
    assert jobs.new() == []


# --- curl ------------------------------------------------------------------------------------


def curl(*arguments: str) -> tuple[int, str]:
    """The status and the body of an answer."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "10"]
    done = subprocess.run(
        [*command, "--write-out", "\n%{http_code}", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_curl_asks_for_health(daemon, tmp_path):
    """On the clear port and over TLS, with the deployment's CA."""
    authority = tmp_path / "ca.pem"
    authority.write_text(daemon.call("node.ca")["pem"])
    for arguments in (
        [f"http://127.0.0.1:{daemon.port}/healthz"],
        ["--cacert", str(authority), f"https://127.0.0.1:{port_of(daemon, 'tls')}/healthz"],
        ["--cacert", str(authority), f"https://localhost:{port_of(daemon, 'tls')}/healthz"],
    ):
        status, body = curl(*arguments)
        assert (status, json.loads(body)["status"]) == (200, "ok")


def test_http_is_never_a_job(daemon, tmp_path):
    """An upload by HTTP is answered, and makes no job."""
    before = len(all_jobs(daemon.control))
    path = tmp_path / "report.pdf"
    path.write_bytes(document("pdfwrite"))
    for method in ("PUT", "POST"):
        where = f"http://127.0.0.1:{daemon.port}/printers/default"
        status, _ = curl("--request", method, "--data-binary", f"@{path}", where)
        assert status in (404, 405, 413, 415)
    assert len(all_jobs(daemon.control)) == before
