"""TLS as openssl speaks it, and certificates from their enrolment to their revocation."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest

from spoold.daemon.authority import Authority
from support.documents import document
from support.peers import Jobs, finished, incoming, printed_files, records, wait_until
from support.process import config_with

pytestmark = pytest.mark.slow

CONFIG = config_with("tls", "mutual")
TEN_MINUTES_US = 600_000_000
FRAMES_MAGIC = b"\x00SPOOLD1"
VERSIONS = ("-tls1_2", "-tls1_3")


def spoold(daemon, *arguments: object) -> subprocess.CompletedProcess:
    """A command of the operator, as a person gives it."""
    return subprocess.run(
        [sys.executable, "-m", "spoold", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "SPOOLD_CONTROL": str(daemon.control)},
    )


@pytest.fixture
def enrolled(daemon, tmp_path):
    """`enrolled(name)` enrols a provider and gives the files of its key and certificate."""

    def enrol(name: str) -> SimpleNamespace:
        done = spoold(
            daemon, "provider", "enrol", name, "--may-assert", "cashier", "--out", tmp_path
        )
        assert done.returncode == 0, done.stderr
        key, certificate = tmp_path / f"{name}.key", tmp_path / f"{name}.crt"
        assert key.stat().st_mode & 0o077 == 0
        return SimpleNamespace(name=name, key=key, certificate=certificate)

    return enrol


def openssl(daemon, label: str, *options: object, document: bytes = b"") -> tuple[int, str]:
    """Its exit code and all it said, after it sent the document and ended with close_notify."""
    ca = daemon.control.parent.parent / "ca.pem"
    done = subprocess.run(
        [
            "openssl", "s_client", "-connect", daemon.ports[label], "-CAfile", ca,
            "-verify_return_error", "-verify_hostname", "localhost", "-no_ign_eof", "-nocommands",
            *map(str, options),
        ],
        input=document,
        capture_output=True,
        timeout=60,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def refusals(daemon) -> int:
    return sum('"certificate_refused"' in line for line in daemon.log)


def assert_refused(daemon, alert: str, *options: object) -> None:
    """openssl was told by `alert`, and the operator by an event."""
    before = refusals(daemon)
    # In TLS 1.3 the client is done before the server judges: it must read to learn the verdict.
    _, said = openssl(daemon, "mutual", *options, "-ign_eof", document=FRAMES_MAGIC)
    assert re.search(rf"SSL alert number {alert}\b", said), said
    wait_until(lambda: refusals(daemon) > before)


# --- 9192: TLS without certificates of clients -----------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_raw_job_over_tls_ends_with_close_notify(daemon, folder, version):
    """openssl checks the chain and the name; the job is whole because the client said so."""
    jobs = Jobs(daemon)
    code, said = openssl(daemon, "tls", version, document=document("pxlmono"))
    assert code == 0, said
    assert "Verify return code: 0 (ok)" in said
    job = jobs.one_finished()
    assert (job["state"], job["intake"]) == ("completed", "raw")
    assert printed_files(folder, job) == [document("pxlmono")]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tcp_end_without_close_notify_is_an_interruption(daemon, folder, version):
    """A killed sender's kernel ends TCP in order; over TLS that is seen, whatever the format."""
    jobs = Jobs(daemon)
    sender = subprocess.Popen(
        ["openssl", "s_client", "-connect", daemon.ports["tls"], version, "-quiet"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        sender.stdin.write(b"%!PS half a job\n" * 100_000)
        sender.stdin.flush()
        wait_until(lambda: incoming(folder))
    finally:
        sender.kill()
        sender.stdin.close()
        sender.wait(30)
    job = jobs.one()
    assert (job["state"], job["reasons"]) == ("pending-held", ["submission-interrupted"])
    assert printed_files(folder, job) == []


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_of_tls_are_refused_with_an_alert(daemon, version):
    """`protocol_version` is alert 70."""
    code, said = openssl(daemon, "tls", version, "-cipher", "DEFAULT@SECLEVEL=0")
    assert code != 0
    assert "alert number 70" in said


def test_tls_on_the_clear_port_is_answered_with_an_alert(daemon):
    """And is no job."""
    jobs = Jobs(daemon)
    code, said = openssl(daemon, "clear")
    assert code != 0
    assert "alert number 70" in said
    assert jobs.new() == []


def test_clear_text_on_the_tls_port_is_no_job(daemon):
    """A job that comes to the wrong port is refused, and the operator hears of it."""
    jobs = Jobs(daemon)
    host, _, port = daemon.ports["tls"].rpartition(":")
    with socket.create_connection((host, int(port)), 30) as sender:
        sender.sendall(b"%!PS not a handshake\n" * 10)
        sender.settimeout(30)
        try:
            answer = b"".join(iter(lambda: sender.recv(100), b""))
        except ConnectionResetError:
            answer = b""
    assert not answer or answer[0] == 0x15  # an alert at most
    assert jobs.new() == []
    wait_until(lambda: any('"tls_refused"' in line for line in daemon.log))


# --- 9195: providers by their certificates ---------------------------------------------------


@pytest.mark.parametrize(("version", "alert"), [("-tls1_2", "40"), ("-tls1_3", "116")])
def test_no_certificate_is_refused_with_an_alert(daemon, version, alert):
    """`handshake_failure`, and in TLS 1.3 `certificate_required`."""
    assert_refused(daemon, alert, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_of_another_authority_is_refused(daemon, tmp_path, version):
    """`unknown_ca` is alert 48; the event is in the log and the record in the journal."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", "/CN=till-7", "-days", "2", "-keyout", key, "-out", certificate,
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )  # fmt: skip
    assert_refused(daemon, "48", version, "-cert", certificate, "-key", key)
    assert wait_until(lambda: records(daemon, "certificate-refused"))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_expired_certificate_is_refused(daemon, folder, tmp_path, version):
    """`certificate_expired` is alert 45."""
    files = signed(daemon, folder, tmp_path, UUID(int=7), days=0, ago_us=TEN_MINUTES_US)
    assert_refused(daemon, "45", version, *files)


def signed(daemon, folder, tmp_path, guid: UUID, *, days: int, ago_us: int = 0) -> tuple:
    """openssl's options for a certificate that the deployment's CA signed, for nobody enrolled."""
    identity = folder / "data" / "identity"
    now_us = records(daemon, "node-started")[0]["event_us"] - ago_us
    authority = Authority(
        (identity / "ca.pem").read_bytes(),
        (identity / "ca-key.pem").read_bytes(),
        lambda: now_us,
    )
    key_pem, certificate_pem, _ = authority.enrol("provider", guid, "nobody", days)
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    key.write_bytes(key_pem)
    certificate.write_bytes(certificate_pem)
    return "-cert", certificate, "-key", key


def test_a_certificate_that_was_never_enrolled_is_turned_away(daemon, folder, tmp_path):
    """The CA signed it, but nobody is known by its GUID: no job, and an event."""
    files = signed(daemon, folder, tmp_path, UUID(int=8), days=30)
    before, jobs = refusals(daemon), Jobs(daemon)
    openssl(daemon, "mutual", *files, document=document("pdfwrite"))
    wait_until(lambda: refusals(daemon) > before)
    assert jobs.new() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_an_enrolled_provider_may_send_raw_jobs(daemon, folder, enrolled, version):
    """openssl with the files that `spoold provider enrol` wrote: the job is the provider's."""
    till = enrolled(f"till{version}")
    jobs = Jobs(daemon)
    files = ("-cert", till.certificate, "-key", till.key)
    code, said = openssl(daemon, "mutual", version, *files, document=document("ljet4"))
    assert code == 0, said
    job = jobs.one_finished()
    assert job["state"] == "completed"
    assert job["submitter"].startswith("provider:")
    assert printed_files(folder, job) == [document("ljet4")]


def submit(daemon, till, path: Path, *options: str) -> subprocess.CompletedProcess:
    ca = path.parent / "ca.crt"
    files = ("--ca", ca, "--cert", till.certificate, "--key", till.key)
    where = ("--server", daemon.ports["mutual"])
    return spoold(daemon, "submit", *where, *files, "--json", *options, path)


def test_revoking_a_provider_closes_its_connections_and_refuses_new_ones(
    daemon, folder, enrolled, tmp_path
):
    """It submits for the user it may assert; revoked, it is out at once, with an alert."""
    till = enrolled("till-9")
    path = tmp_path / "report.pdf"
    path.write_bytes(document("pdfwrite"))
    done = submit(daemon, till, path, "--user", "cashier", "--wait", "5")
    assert done.returncode == 0, done.stderr
    job = finished(daemon, json.loads(done.stdout)["job_id"])
    assert (job["owner"], job["owner_known"]) == ("cashier", "asserted")

    context = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    context.load_cert_chain(till.certificate, till.key)
    host, _, port = daemon.ports["mutual"].rpartition(":")
    with (
        socket.create_connection((host, int(port)), 30) as plain,
        context.wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False
        ) as connection,
    ):
        connection.settimeout(30)
        connection.sendall(b"%!PS the beginning of a job\n" * 50_000)
        jobs = Jobs(daemon)
        wait_until(lambda: incoming(folder))
        assert spoold(daemon, "provider", "revoke", till.name).returncode == 0
        with pytest.raises(OSError, match=r"reset|EOF"):
            connection.recv(1)  # an orderly end would acknowledge the job that had begun
    assert jobs.one()["reasons"] == ["submission-interrupted"]
    wait_until(lambda: daemon.call("status")["connections"]["mutual"] == 0)

    for version in VERSIONS:
        files = ("-cert", till.certificate, "-key", till.key)
        assert_refused(daemon, "44", version, *files)  # certificate_revoked
    done = submit(daemon, till, path, "--user", "cashier", "--wait", "1")
    assert done.returncode == 1, done.stderr  # refused: no server has it
    assert "revoked" in done.stderr
    revoked = records(daemon, "provider-revoked")
    assert len(revoked) == 1
    assert records(daemon, "certificate-refused")
