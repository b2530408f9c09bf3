"""The real daemon as a process: how it starts, refuses to, serves under strain, and stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from spoold.model.printer import Printer
from spoold.provider.blocking import BlockingProvider
from spoold.provider.receipt import SubmitRefused
from spoold.spool.store import PutDevice, PutPrinter
from support import forking
from support.peers import Jobs, finished, incoming, wait_until
from support.process import RAW_PORT, all_jobs, config_with, injected, running, send_raw

pytestmark = pytest.mark.slow

CONFIG = config_with()
EVERY_PORT = config_with("tls", "mutual", "lpd") + RAW_PORT
FULL = '[limits]\nspool_share = 0.01\nreserve_bytes = "1024 GiB"\n'
PRINTERS = 2000
STALLED = 300


def refused_start(folder: Path, config: str) -> tuple[int, str]:
    """The exit code and the errors of a daemon that cannot start."""
    file = folder / "spoold.toml"
    file.write_text(config)
    done = forking.run("serve", "--config", file)
    return done.returncode, done.stderr


@contextmanager
def connected(port: int, *, timeout_s: float = 30.0):
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.settimeout(timeout_s)
        yield connection


def is_cut(connection: socket.socket) -> bool:
    """Whether it ends without a byte; a FIN or a reset."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def is_reset(connection: socket.socket) -> bool:
    try:
        connection.recv(1)
    except ConnectionResetError:
        return True
    return False


def is_turned_away(port: int) -> bool:
    """Whether a connection is reset at once: the reset may come before or after it is made."""
    try:
        with connected(port) as connection:
            return is_reset(connection)
    except ConnectionResetError:
        return True


def is_refused(port: int) -> bool:
    """Whether nobody listens there any more."""
    try:
        socket.create_connection(("127.0.0.1", port), 30).close()
    except ConnectionError:
        return True
    return False


def logged(daemon, *words: str) -> list[str]:
    return [line for line in daemon.log if all(word in line for word in words)]


def reconfigure(daemon, folder: Path, config: str) -> None:
    """The daemon has read this configuration."""
    (folder / "spoold.toml").write_text(config)
    before = len(logged(daemon, '"configuration_'))
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(logged(daemon, '"configuration_')) > before)


def test_a_thread_that_hangs_on_a_disk_does_not_keep_the_daemon():
    """What is not done a while after the disk failed is not waited for: the exit code says why."""
    code = (
        "import threading; from spoold.daemon import process; "
        "threading.Thread(target=threading.Event().wait).start(); process._leave_within(0.05)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 74


# --- starting --------------------------------------------------------------------------------


def test_each_port_has_a_line_at_the_start_and_answers(tmp_path):
    """Clear, TLS, mutual, LPD, a raw port and the control socket."""
    with running(tmp_path, config=EVERY_PORT) as daemon:
        assert set(daemon.ports) == {"clear", "tls", "mutual", "lpd", "raw default", "control"}
        for label, address in daemon.ports.items():
            if label != "control":
                with connected(int(address.rpartition(":")[2])):
                    pass
        assert Path(daemon.ports["control"]) == daemon.control
        assert daemon.call("status")["state"] == "up"
        assert daemon.end() == 0


def test_a_taken_port_stops_the_start_with_advice(tmp_path):
    """The message names the address; nothing half-open stays behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, errors = refused_start(tmp_path, CONFIG.replace(":0", f":{port}"))
    assert code == 78
    assert f"127.0.0.1:{port}" in errors
    assert f"port {port} is taken" in errors
    assert "Traceback" not in errors
    with running(tmp_path, config=CONFIG) as daemon:
        assert send_raw(daemon.port, b"%!PS\n")


@pytest.mark.parametrize("place", ["a-file/data", "/proc/sys/spoold"])
def test_a_data_directory_that_cannot_be_made_stops_the_start(tmp_path, place):
    """Its path is named, and what to do."""
    (tmp_path / "a-file").write_text("in the way")
    code, errors = refused_start(tmp_path, CONFIG.replace('"data"', f'"{place}"'))
    assert code == 78
    assert place in errors
    assert "data_dir" in errors
    assert "Traceback" not in errors


def test_a_second_daemon_on_the_same_data_is_refused(tmp_path):
    """The first one does not notice."""
    with running(tmp_path, config=CONFIG) as daemon:
        code, errors = refused_start(tmp_path, CONFIG)
        assert code == 78
        assert "another spoold has it" in errors
        assert send_raw(daemon.port, b"%!PS\n")
        assert daemon.call("status")["state"] == "up"
        assert daemon.end() == 0


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("[limits]\nconnection_max = 3\n", "connections_max"),
        ("[limit]\n", "limits"),
        ("[limits]\nidle_deadline_s = 'soon'\n", "limits.idle_deadline_s"),
        ("[drain]\ndeadline_s = -1\n", "drain.deadline_s"),
        ("[limits\n", "TOML"),
    ],
)
def test_a_configuration_that_cannot_be_stops_the_start(tmp_path, wrong, told):
    """File, key and advice are told; nothing is made on the disk."""
    code, errors = refused_start(tmp_path, CONFIG + wrong)
    assert code == 78
    assert "spoold.toml" in errors
    assert told in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "data").exists()


# --- stopping --------------------------------------------------------------------------------


def test_sigterm_lets_an_upload_finish(tmp_path):
    """No new connection is taken; the job under way is acknowledged and there afterwards."""
    body = b"%!PS " + bytes(range(32, 127)) * 50_000
    with running(tmp_path, config=CONFIG) as daemon, connected(daemon.port) as sender:
        sender.sendall(body[:3_000_000])
        wait_until(lambda: incoming(tmp_path))
        with connected(daemon.port) as idle:
            wait_until(lambda: daemon.call("status")["connections"]["clear"] == 2)
            daemon.process.send_signal(signal.SIGTERM)
            assert is_cut(idle)  # on which nothing had begun
        wait_until(lambda: is_refused(daemon.port))
        sender.sendall(body[3_000_000:])
        sender.shutdown(socket.SHUT_WR)
        assert sender.recv(1) == b""
        assert daemon.process.wait(30) == 0
    with running(tmp_path, config=CONFIG) as daemon:
        (job,) = all_jobs(daemon.control)
        assert (finished(daemon, job["id"])["state"], job["size"]) == ("completed", len(body))


def test_the_drain_has_a_deadline(tmp_path):
    """An upload that stands still is reset then, and kept as interrupted; the exit is in order."""
    config = CONFIG + "[drain]\ndeadline_s = 0.5\n"  # without it, most of a minute
    with running(tmp_path, config=config) as daemon, connected(daemon.port) as sender:
        sender.sendall(b"%!PS half\n" * 300_000)
        wait_until(lambda: incoming(tmp_path))
        daemon.process.send_signal(signal.SIGTERM)
        assert is_reset(sender)
        assert daemon.process.wait(30) == 0
    with running(tmp_path, config=config) as daemon:
        (job,) = all_jobs(daemon.control)
        assert (job["state"], job["reasons"]) == ("pending-held", ["submission-interrupted"])


def test_the_watchdog_hears_nothing_while_the_journal_stands_still(tmp_path, monkeypatch):
    """A loop that turns is no sign of life when nothing can be committed; later it is again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "100000")

        def beats() -> int:
            heard = []
            with suppress(BlockingIOError):
                while True:
                    heard.append(listener.recv(1000))
            return heard.count(b"WATCHDOG=1")

        with running(tmp_path, config=CONFIG) as daemon:
            wait_until(beats)

            def is_silent() -> bool:
                beats()
                time.sleep(1)  # twenty of them at other times
                return beats() == 0

            with injected(daemon, "fdatasync", "delay_enter=60000000"):
                sending = threading.Thread(target=send_raw, args=(daemon.port, b"%!PS\n"))
                sending.start()
                wait_until(is_silent)
            wait_until(beats)
            sending.join()


def test_a_second_sigterm_does_not_wait(tmp_path):
    """Whoever is in a hurry sends it twice; the job that was not acknowledged is not there."""
    with running(tmp_path, config=CONFIG) as daemon, connected(daemon.port) as sender:
        sender.sendall(b"%!PS half\n" * 300_000)
        wait_until(lambda: incoming(tmp_path))
        daemon.process.send_signal(signal.SIGTERM)
        (line,) = wait_until(lambda: logged(daemon, '"stopping"'))
        assert '"deliveries": 0, "waits_at_most_s": ' in line
        daemon.process.send_signal(signal.SIGTERM)
        assert is_reset(sender)
        assert daemon.process.wait(30) == 128 + signal.SIGTERM
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    with running(tmp_path, config=CONFIG) as daemon:
        assert [job for job in all_jobs(daemon.control) if job["state"] != "pending-held"] == []


# --- changing the configuration --------------------------------------------------------------


def test_sighup_says_what_changed_and_applies_limits(tmp_path):
    """What can change at once does, the rest is said to need a restart; connections stay."""
    with running(tmp_path, config=CONFIG) as daemon, connected(daemon.port) as first:
        wait_until(lambda: daemon.call("status")["connections"]["clear"] == 1)
        changed = CONFIG.replace("tls = []", 'tls = ["127.0.0.1:0"]')
        reconfigure(daemon, tmp_path, changed + "[limits]\nconnections_per_address_max = 1\n")
        wait_until(lambda: logged(daemon, "listen.tls", "needs a restart"))
        (line,) = wait_until(lambda: logged(daemon, "connections_per_address_max"))
        assert "1000 -> 1 (takes effect now)" in line
        assert is_turned_away(daemon.port)
        first.sendall(b"%!PS still here\n")
        first.shutdown(socket.SHUT_WR)
        assert first.recv(1) == b""
        reconfigure(daemon, tmp_path, changed)
        assert send_raw(daemon.port, b"%!PS\n")


def test_a_wrong_configuration_on_sighup_changes_nothing(tmp_path):
    """It is said, and the daemon goes on as it was."""
    with running(tmp_path, config=CONFIG) as daemon:
        (tmp_path / "spoold.toml").write_text(CONFIG + "[limits]\nconnection_max = 1\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: logged(daemon, '"reload_failed"', "connection_max"))
        assert send_raw(daemon.port, b"%!PS\n")
        assert daemon.end() == 0


# --- clients that misbehave ------------------------------------------------------------------


def test_one_address_has_only_so_many_connections(tmp_path):
    """One more is reset and logged; when one ends there is room again. The operator always is."""
    config = CONFIG + "[limits]\nconnections_per_address_max = 3\n"
    with running(tmp_path, config=config) as daemon, ExitStack() as stack:
        held = [stack.enter_context(connected(daemon.port)) for _ in range(3)]
        wait_until(lambda: daemon.call("status")["connections"]["clear"] == 3)
        assert is_turned_away(daemon.port)
        wait_until(lambda: logged(daemon, '"connection_limit_reached"', "127.0.0.1"))
        held[0].close()
        wait_until(lambda: daemon.call("status")["connections"]["clear"] == 2)
        assert send_raw(daemon.port, b"%!PS\n")


@pytest.mark.parametrize("head", [b"POST /printers/x HT", b"\x00SPOOL", b"\x00SPOOLD1\x00\x00"])
def test_half_a_header_has_a_deadline(tmp_path, head):
    """HTTP, our magic bytes, and a hello that never comes: cut off, and no job."""
    config = CONFIG + "[limits]\nheader_deadline_s = 0.3\n"
    with running(tmp_path, config=config) as daemon:
        started = time.monotonic()
        with connected(daemon.port) as client:
            client.sendall(head)
            while True:
                try:
                    if not client.recv(1000):
                        break
                except ConnectionResetError:
                    break
        assert time.monotonic() - started > 0.2
        assert all_jobs(daemon.control) == []


def test_a_silent_raw_sender_is_reset_and_its_job_held(tmp_path):
    """Silence is no end."""
    config = CONFIG + "[limits]\nidle_deadline_s = 0.5\n"
    with running(tmp_path, config=config) as daemon, connected(daemon.port) as sender:
        jobs = Jobs(daemon)
        sender.sendall(b"%!PS and then nothing\n")
        assert is_reset(sender)
        job = jobs.one()
        assert (job["state"], job["reasons"]) == ("pending-held", ["submission-interrupted"])


def test_stalled_clients_do_not_delay_others(tmp_path):
    """Hundreds that stopped in a header or a body; a job beside them is as quick as ever."""
    heads = [b"POST /", b"%!PS half", b"\x00SPOOL", b"\x00SPOOLD1\x00", b"%!PS " + b"x" * 300_000]
    with running(tmp_path, config=CONFIG) as daemon, ExitStack() as stack:

        def times() -> list[float]:
            taken = []
            for _ in range(100):
                started = time.monotonic()
                assert send_raw(daemon.port, b"%!PS quick\n")
                taken.append(time.monotonic() - started)
            return sorted(taken)

        before = times()
        for number in range(STALLED):
            stalled = stack.enter_context(connected(daemon.port))
            stalled.sendall(heads[number % len(heads)])
        wait_until(lambda: daemon.call("status")["connections"]["clear"] == STALLED)
        after = times()
        assert after[50] < 2 * before[50] + 0.25  # this machine may have other work by now
        assert daemon.call("status")["connections"]["clear"] == STALLED


# --- a full disk, and many printers ----------------------------------------------------------


def test_a_full_spool_refuses_jobs_and_goes_on_working(tmp_path):
    """Raw is reset, frames have an error, LPD a refusal; control and printing go on."""
    config = CONFIG + 'lpd = ["127.0.0.1:0"]\n'
    with running(tmp_path, config=config) as daemon:
        where = [f"127.0.0.1:{daemon.port}"]
        with BlockingProvider(where) as provider:
            held = provider.submit(b"%!PS held\n", printer="default", hold=True)
            reconfigure(daemon, tmp_path, config + FULL)
            # The room is looked at now and then, not for each job.
            wait_until(lambda: not send_raw(daemon.port, b"%!PS refused\n"))
            with pytest.raises(SubmitRefused, match="no room"):
                provider.submit(b"%!PS refused\n", printer="default", timeout_s=30)
        with connected(int(daemon.ports["lpd"].rpartition(":")[2])) as client:
            client.sendall(b"\x02default\n")
            assert client.recv(1) not in (b"", b"\0")
        known = Jobs(daemon)
        daemon.call("printer.pause", name="default", reason="no paper")
        daemon.call("printer.resume", name="default")
        daemon.call("job.release", job=str(held.job_id))
        assert finished(daemon, held.job_id)["state"] == "completed"
        assert known.new() == []
        reconfigure(daemon, tmp_path, config)
        wait_until(lambda: send_raw(daemon.port, b"%!PS room again\n"))
        assert daemon.end() == 0


def usage(pid: int) -> tuple[float, float]:
    """Resident memory in MB, and seconds of CPU used."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (one for one in status.splitlines() if one.startswith("VmRSS:"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return int(line.split()[1]) / 1000, ticks / os.sysconf("SC_CLK_TCK")


async def test_two_thousand_idle_printers_cost_little(tmp_path, spool_at):
    """Time to start, memory, CPU while idle, and a job for the last of them."""
    with running(tmp_path, config=CONFIG) as daemon:
        few_mb, _ = usage(daemon.process.pid)
        assert daemon.end() == 0
    async with spool_at(tmp_path / "data") as spool:
        now_us = spool.wall_clock()
        ports = range(10_000, 10_000 + PRINTERS)
        devices = await spool.journal.commit_all(
            [PutDevice(uuid4(), f"socket://127.0.0.1:{port}", now_us) for port in ports]
        )
        await spool.journal.commit_all(
            [
                PutPrinter(Printer(0, uuid4(), f"printer-{number}", device.id), now_us)
                for number, device in enumerate(devices)
            ]
        )
    with running(tmp_path, config=CONFIG) as daemon:
        many_mb, cpu_s = usage(daemon.process.pid)
        assert many_mb - few_mb < 20
        assert cpu_s < 3

        def is_idle() -> bool:
            before_s = usage(daemon.process.pid)[1]
            time.sleep(1)
            return usage(daemon.process.pid)[1] - before_s < 0.1

        wait_until(is_idle)  # something is done once after the start
        head = b'\x1b%-12345X@PJL SET SPOOLD-PRINTER="printer-1999"\r\n'
        assert send_raw(daemon.port, head + b"@PJL ENTER LANGUAGE=PCL\r\n\x1bE\x1b%-12345X")
        (job,) = all_jobs(daemon.control)
        assert job["printer"] == "printer-1999"
        assert daemon.end() == 0
