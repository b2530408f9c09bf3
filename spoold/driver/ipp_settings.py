"""The options of the `ipp` driver as values: where the printer is, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

from spoold.driver import sending
from spoold.driver.options import Options, seconds, switches, texts
from spoold.model.errors import OperationError
from spoold.model.printer import Device

PORT: Final = 631
PATH: Final = "/ipp/print"  # where a printer of IPP Everywhere is (PWG 5100.14 4.2)


OPTIONS: Final[Options] = {
    **seconds("connect_timeout_s", "answer_timeout_s", "document_timeout_s", "expect_wait_s"),
    **seconds("answer_wait_s", "incoming_s", "counter_wait_s", "offer_s"),
    **seconds("poll_first_s", "poll_max_s"),
    **texts("aborts_max", "format", "as_user"),
    **switches("chunked"),
    **sending.OPTIONS,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the printer is. `path` is ready for a request line."""

    host: str
    port: int
    path: str
    is_tls: bool

    @property
    def where(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def uri(self) -> str:
        """printer-uri: what the printer calls itself, as far as we know."""
        where = self.where.removesuffix(f":{PORT}")
        return f"{'ipps' if self.is_tls else 'ipp'}://{where}{self.path}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Deadlines in seconds, and what a device's options ask for."""

    connect_timeout_s: float
    answer_timeout_s: float  # of a request without a document
    document_timeout_s: float  # of the answer, once the printer has taken a whole document
    expect_wait_s: float
    answer_wait_s: float  # for a printer that has a job of ours and does not answer
    incoming_s: float  # for a printer to notice that the rest of a document will not come
    counter_wait_s: float
    poll_first_s: float
    poll_max_s: float
    offer_s: float  # how long what a printer offers is believed
    aborts_max: int
    format: str  # said instead of the document's own; "" says that one
    user: str  # whose jobs they are to the printer; "" says each owner
    may_login_in_clear: bool
    is_chunked: bool


def place_of(device: Device) -> Place:
    """Where the device's URI says that its printer is.

    Raises:
        OperationError: `bad-request`, it names no host, or its path cannot be.
    """
    host, port = sending.endpoint(device, PORT)
    path = quote(unquote(device.parts.path), safe="/:@!$&'()*+,;=~-._") or PATH
    if not path.startswith("/") or len(path) > 512:
        raise OperationError(
            "bad-request",
            f"{device.uri!r} has a path that cannot be.",
            f"Write {device.scheme}://printer.example.org{PATH}.",
        )
    return Place(host, port, path, device.scheme == "ipps")


def settings_of(device: Device) -> Settings:
    """What the device's options say.

    Raises:
        OperationError: `bad-request`, one cannot be.
    """
    aborts = device.option("aborts_max", "3")
    if not aborts.isdecimal():
        raise OperationError("bad-request", f"aborts_max={aborts} cannot be.", "Give a number.")
    return Settings(
        connect_timeout_s=device.seconds("connect_timeout_s", 10.0),
        answer_timeout_s=device.seconds("answer_timeout_s", 30.0),
        document_timeout_s=device.seconds("document_timeout_s", 3600.0),
        expect_wait_s=device.seconds("expect_wait_s", 1.0),
        answer_wait_s=device.seconds("answer_wait_s", 3600.0),
        incoming_s=device.seconds("incoming_s", 5.0),
        counter_wait_s=device.seconds("counter_wait_s", 15.0),
        poll_first_s=max(0.01, device.seconds("poll_first_s", 0.25)),
        poll_max_s=max(0.01, device.seconds("poll_max_s", 5.0)),
        offer_s=device.seconds("offer_s", 10.0),
        aborts_max=int(aborts),
        format=device.option("format", ""),
        user=device.option("as_user", ""),
        may_login_in_clear=device.is_on("clear_password"),
        is_chunked=device.is_on("chunked"),
    )
