"""Our SNMP questions against a real agent: Debian's snmpd, dressed as a printer."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from uuid import uuid4

import pytest
import trio

from spoold.driver import snmp
from spoold.driver.link import driver_for
from spoold.model.printer import Device
from spoold.net.connect import TcpNetwork

START_S = 20

CONF = """\
agentaddress udp:127.0.0.1:{port}
rocommunity labels 127.0.0.1
override .1.3.6.1.2.1.43.10.2.1.4.1.1 counter 123456
override .1.3.6.1.2.1.25.3.5.1.1.1 integer 4
override .1.3.6.1.2.1.25.3.5.1.2.1 octet_str "@"
"""


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
async def agent_port(tmp_path, nursery):
    assert shutil.which("snmpd", path="/usr/sbin:/usr/bin"), "install snmpd (tests/run does it)"
    port = free_udp_port()
    (tmp_path / "snmpd.conf").write_text(CONF.format(port=port))

    async def run(task_status) -> None:
        process = await trio.lowlevel.open_process(
            ["/usr/sbin/snmpd", "-f", "-Lf", tmp_path / "log", "-C", "-c", tmp_path / "snmpd.conf"],
            env={"SNMP_PERSISTENT_DIR": str(tmp_path), "PATH": "/usr/sbin:/usr/bin"},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with trio.fail_after(START_S):
                while "NET-SNMP version" not in read(tmp_path / "log"):
                    assert process.poll() is None, read(tmp_path / "log")
                    await trio.sleep(0.02)
            task_status.started()
            await trio.sleep_forever()
        finally:
            process.send_signal(signal.SIGTERM)
            with trio.CancelScope(shield=True), trio.move_on_after(10):
                await process.wait()

    await nursery.start(run)
    return port


def read(path) -> str:
    return path.read_text() if path.exists() else ""


def device(port: int, **options: str) -> Device:
    uri = "socket://127.0.0.1:9"
    return Device(1, uuid4(), uri, {"snmp": "on", "snmp_port": str(port)} | options)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1", "2c"])
async def test_a_printers_counter_and_state_are_read(agent_port, version):
    """The lifetime counter, the state, and the error bits as printer-state-reasons."""
    options = {"snmp_community": "labels", "snmp_version": version}
    agent = snmp.agent_of(device(agent_port, **options), "127.0.0.1")
    assert await agent.ask() == snmp.Answer(123456, "printing", ("media-needed",))
    status = await driver_for(device(agent_port, **options), TcpNetwork()).probe()
    assert status.counters == {"snmp": 123456}
    assert status.reasons == ("connecting-to-device", "media-needed")


@pytest.mark.slow
async def test_a_wrong_community_is_no_answer_and_no_error(agent_port):
    """The agent is silent; the question ends at its deadline."""
    agent = snmp.agent_of(
        device(agent_port, snmp_community="wrong", snmp_timeout_s="0.3"), "127.0.0.1"
    )
    assert await agent.ask() is None


async def test_nobody_there_is_no_answer():
    """A closed port, a name that is none, and a device that was not asked to speak SNMP."""
    for host in ("127.0.0.1", "no-such-host.invalid"):
        agent = snmp.agent_of(device(free_udp_port(), snmp_timeout_s="0.2"), host)
        assert await agent.ask() is None
    assert snmp.agent_of(Device(1, uuid4(), "socket://h", {}), "h") is None


async def test_a_peer_that_sends_nonsense_is_no_answer(nursery):
    """Datagrams that are no SNMP, empty ones among them."""
    sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    answers = [
        b"",
        b"\x30",
        b"\x30\x82\xff\xff",
        b"\x02\x01\x00",
        b"x" * 600,
        b"\x30\x03\x02\x01\x01",
    ]

    async def serve() -> None:
        with sock:
            while True:
                _, address = await sock.recvfrom(2000)
                for answer in answers:
                    await sock.sendto(answer, address)

    nursery.start_soon(serve)
    agent = snmp.agent_of(device(sock.getsockname()[1], snmp_timeout_s="0.1"), "127.0.0.1")
    assert await agent.ask() is None


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (b"", ()),
        (b"\x00", ()),
        (b"\x40", ("media-needed",)),
        (b"\x0c", ("door-open", "media-jam")),
        (b"\x03\x80", ("input-tray-missing",)),
        (b"\x00\x08", ("output-area-full",)),
        (b"\xff\xff\xff\xff", None),
    ],
)
def test_error_bits_are_printer_state_reasons(bits, reasons):
    """RFC 2790's bits, from the highest on; offline and service tell too little."""
    found = snmp.reasons_of(bits)
    assert found == reasons if reasons is not None else len(found) == 11
