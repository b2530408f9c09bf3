"""What a printer says of itself over SNMP: its page counter and its state. Optional.

In: host, community. Out: `Answer`, or None when nothing answers; never an error, never longer than
its deadline. Printer MIB (RFC 3805) prtMarkerLifeCount, Host Resources MIB (RFC 2790)
hrPrinterStatus and hrPrinterDetectedErrorState.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

import trio

from spoold.codec import snmp
from spoold.driver.options import Options, seconds, switches, texts
from spoold.model.errors import OperationError, RemoteProtocolError
from spoold.model.printer import Device

PORT: Final = 161
TRIES: Final = 2
OPTIONS: Final[Options] = {
    **switches("snmp"),
    **texts("snmp_community", "snmp_version", "snmp_port"),
    **seconds("snmp_timeout_s"),
}
LIFE_COUNT: Final = "1.3.6.1.2.1.43.10.2.1.4.1.1"
PRINTER_STATUS: Final = "1.3.6.1.2.1.25.3.5.1.1.1"
ERROR_STATE: Final = "1.3.6.1.2.1.25.3.5.1.2.1"

# RFC 2790: bit 0 is the highest of the first octet. The offline and service bits tell too little.
_ERROR_BITS: Final = (
    "media-low",
    "media-needed",
    "toner-low",
    "toner-empty",
    "door-open",
    "media-jam",
    "",  # offline
    "",  # service requested
    "input-tray-missing",
    "output-tray-missing",
    "marker-supply-missing",
    "output-area-almost-full",
    "output-area-full",
    "",  # input tray empty: another tray may do
    "",  # overdue preventive maintenance
)
_STATUS: Final = {1: "other", 2: "unknown", 3: "idle", 4: "printing", 5: "warmup"}


@dataclass(frozen=True, slots=True)
class Answer:
    page_count: int | None = None
    status: str = ""  # the name of hrPrinterStatus; "" where the printer has none
    reasons: tuple[str, ...] = ()  # printer-state-reasons


@dataclass(frozen=True, slots=True)
class Agent:
    """Whom to ask, and how: device options `snmp_community`, `snmp_version`, `snmp_port`."""

    host: str
    port: int
    community: bytes
    version: str
    timeout_s: float

    async def ask(self) -> Answer | None:
        """The printer's answer; None when there is none within `timeout_s`."""
        names = [PRINTER_STATUS, ERROR_STATE, LIFE_COUNT]
        # To SNMPv1 one name that it does not have is an error of the whole request.
        questions = [[name] for name in names] if self.version == "1" else [names]
        values: dict[str, snmp.Value] = {}
        has_answer = False
        with trio.move_on_after(self.timeout_s):
            try:
                for question in questions:
                    response = await self._get(question)
                    has_answer = True
                    if not response.error:
                        values |= response.values
            except OSError:  # no such host, a closed port: nothing answers
                pass
        if not has_answer:
            return None
        count, state = values.get(LIFE_COUNT), values.get(PRINTER_STATUS)
        bits = values.get(ERROR_STATE)
        return Answer(
            count if isinstance(count, int) else None,
            _STATUS.get(state, "") if isinstance(state, int) else "",
            reasons_of(bits) if isinstance(bits, bytes) else (),
        )

    async def _get(self, names: list[str]) -> snmp.Response:
        """The response to one request, asked again until it comes.

        Raises:
            OSError: there is nobody.
        """
        request_id = random.getrandbits(31)
        request = snmp.get_request(self.version, self.community, request_id, names)
        found = await trio.socket.getaddrinfo(
            self.host, self.port, type=trio.socket.SOCK_DGRAM, proto=trio.socket.IPPROTO_UDP
        )
        family, kind, protocol, _, address = found[0]
        with trio.socket.socket(family, kind, protocol) as sock:
            await sock.connect(address)
            while True:
                await sock.send(request)
                with trio.move_on_after(self.timeout_s / TRIES):
                    while True:
                        datagram = await sock.recv(snmp.DATAGRAM_BYTES_MAX)
                        try:
                            response = snmp.parse_response(datagram)
                        except RemoteProtocolError:
                            continue  # not the answer; that may still come
                        if response.request_id == request_id:
                            return response


def agent_of(device: Device, host: str) -> Agent | None:
    """The SNMP agent of a device with `snmp=on`; None without.

    Raises:
        OperationError: `bad-request`, an option cannot be.
    """
    if not device.is_on("snmp"):
        return None
    version = device.option("snmp_version", "2c")
    port = device.option("snmp_port", str(PORT))
    if version not in snmp.VERSIONS or not (port.isdigit() and 0 < int(port) < 65536):
        raise OperationError(
            "bad-request",
            f"snmp_version={version}, snmp_port={port} cannot be.",
            "Versions are 1 and 2c; the port is 161 on most printers.",
        )
    return Agent(
        host,
        int(port),
        device.option("snmp_community", "public").encode(),
        version,
        device.seconds("snmp_timeout_s", 3.0),
    )


def reasons_of(bits: bytes) -> tuple[str, ...]:
    """hrPrinterDetectedErrorState as printer-state-reasons."""
    return tuple(
        reason
        for number, reason in enumerate(_ERROR_BITS)
        if reason and number // 8 < len(bits) and bits[number // 8] & (0x80 >> number % 8)
    )
