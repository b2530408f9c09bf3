"""What a printer says of itself over SNMP: its page counter and its state. Optional.

In: host, community. Out: `Answer`, or None when nothing answers; never an error, never longer than
its deadline. Printer MIB (RFC 3805) prtMarkerLifeCount, Host Resources MIB (RFC 2790)
hrPrinterStatus and hrPrinterDetectedErrorState. puresnmp (extra `snmp`) makes and reads the
packets; the socket is Trio's.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from typing import Any, Final

import trio

from spoold.model.errors import OperationError
from spoold.model.printer import Device

PORT: Final = 161
PACKET_BYTES_MAX: Final = 65507
TRIES: Final = 2
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
    community: str
    is_v1: bool
    timeout_s: float

    async def ask(self) -> Answer | None:
        """The printer's answer; None when there is none within `timeout_s`."""
        values: dict[str, Any] = {}
        with trio.move_on_after(self.timeout_s):
            for oid in (PRINTER_STATUS, ERROR_STATE, LIFE_COUNT):
                # One by one: to SNMPv1 one unknown name is an error of the whole request.
                values[oid] = await self._get(oid)
        if all(value is None for value in values.values()):
            return None
        count, state = values.get(LIFE_COUNT), values.get(PRINTER_STATUS)
        bits = values.get(ERROR_STATE)
        return Answer(
            count if isinstance(count, int) else None,
            _STATUS.get(state, "") if isinstance(state, int) else "",
            reasons_of(bits) if isinstance(bits, bytes) else (),
        )

    async def _get(self, oid: str) -> Any:
        from puresnmp import V1, V2C, Client, ObjectIdentifier
        from puresnmp.exc import SnmpError
        from x690.exc import X690Error

        credentials = V1(self.community) if self.is_v1 else V2C(self.community)
        # It would look a name up right here, blocking; `_send` knows where to send.
        client = Client("127.0.0.1", credentials, sender=self._send)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # it calls its SNMPv1 experimental
                value = await client.get(ObjectIdentifier(oid))
        except (SnmpError, X690Error, OSError, ValueError, IndexError, KeyError, TypeError):
            return None  # no such object, or a packet that is none: puresnmp does not say which
        return value.pythonize()

    async def _send(
        self, endpoint: Any, packet: bytes, timeout: int = 1, loop: Any = None, retries: int = 1
    ) -> bytes:
        found = await trio.socket.getaddrinfo(
            self.host, self.port, type=trio.socket.SOCK_DGRAM, proto=trio.socket.IPPROTO_UDP
        )
        family, kind, protocol, _, address = found[0]
        with trio.socket.socket(family, kind, protocol) as sock:
            await sock.connect(address)
            for _ in range(TRIES):
                await sock.send(packet)
                with trio.move_on_after(self.timeout_s / 3 / TRIES):
                    return await sock.recv(PACKET_BYTES_MAX)
        raise TimeoutError


def agent_of(device: Device, host: str) -> Agent | None:
    """The SNMP agent of a device with `snmp=on`; None without.

    Raises:
        OperationError: `bad-request`, the library is not installed or an option cannot be.
    """
    if not device.is_on("snmp"):
        return None
    if importlib.util.find_spec("puresnmp") is None:
        raise OperationError(
            "bad-request",
            "snmp=on needs the library puresnmp.",
            "Install spoold[snmp], or leave the option out.",
        )
    version = device.option("snmp_version", "2c")
    port = device.option("snmp_port", str(PORT))
    if version not in ("1", "2c") or not (port.isdigit() and 0 < int(port) < 65536):
        raise OperationError(
            "bad-request",
            f"snmp_version={version}, snmp_port={port} cannot be.",
            "Versions are 1 and 2c; the port is 161 on most printers.",
        )
    return Agent(
        host,
        int(port),
        device.option("snmp_community", "public"),
        version == "1",
        device.seconds("snmp_timeout_s", 3.0),
    )


def reasons_of(bits: bytes) -> tuple[str, ...]:
    """hrPrinterDetectedErrorState as printer-state-reasons."""
    return tuple(
        reason
        for number, reason in enumerate(_ERROR_BITS)
        if reason and number // 8 < len(bits) and bits[number // 8] & (0x80 >> number % 8)
    )
