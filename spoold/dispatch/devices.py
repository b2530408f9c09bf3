"""The devices of this node, and a driver for each one, made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spoold.driver import link
from spoold.model.errors import OperationError
from spoold.model.printer import Device, Printer

SAID_S = 300.0  # how long what a device said of itself is shown, at the least
UNUSABLE = (OperationError, ImportError, AttributeError)  # a driver may come from anywhere


@dataclass(frozen=True, slots=True)
class _Made:
    """A driver, and what it can do beside delivering: asked once, for that is slow."""

    device: Device
    driver: link.Driver
    can_resume: bool
    telling: link.Telling | None


class Devices:
    """`converting` puts around a driver what a printer needs to have documents converted.

    What a device said of itself is believed for `said_s`.
    """

    def __init__(
        self,
        network: link.Network,
        driver_for: link.DriverFactory,
        converting: Callable[[Printer, link.Driver], link.Driver],
        said_s: float = SAID_S,
    ) -> None:
        self._network = network
        self._driver_for = driver_for
        self._converting = converting
        self._said_s = said_s
        self._devices: dict[int, Device] = {}
        self._made: dict[int, _Made] = {}
        self._telling_schemes: dict[str, bool] = {}

    def put(self, device: Device) -> bool:
        """Add a device, or change it. False when nothing of it is new."""
        if self._devices.get(device.id) == device:
            return False
        self._devices[device.id] = device
        self._made.pop(device.id, None)
        return True

    def get(self, device_id: int) -> Device | None:
        return self._devices.get(device_id)

    def __getitem__(self, device_id: int) -> Device:
        return self._devices[device_id]

    def driver_of(self, printer: Printer, device: Device) -> tuple[link.Driver, bool]:
        """What delivers the jobs of `printer`, and whether it can go on after a restart.

        Raises:
            OperationError: the driver cannot work with the URI or an option; or whatever else.
        """
        made = self._driver(device)
        return self._converting(printer, made.driver), made.can_resume

    def driver(self, device: Device) -> link.Driver:
        """As it is, without conversion; raises as `driver_of`."""
        return self._driver(device).driver

    def can_resume(self, device: Device) -> bool:
        """Whether the device can be asked what became of an attempt that was cut off."""
        try:
            return self._driver(device).can_resume
        except UNUSABLE:
            return False

    def is_telling(self, device_id: int) -> bool:
        """Whether the device can be asked at any time how it is: as its driver's scheme says."""
        device = self._devices.get(device_id)
        if device is None:
            return False
        known = self._telling_schemes.get(device.scheme)
        if known is None:
            try:
                known = self._driver(device).telling is not None
            except UNUSABLE:
                return False
            self._telling_schemes[device.scheme] = known
        return known

    def last_said(self, device_id: int) -> link.DeviceStatus | None:
        """What the device said of itself lately; never waits."""
        made = self._made.get(device_id)
        if made is None or made.telling is None:
            return None
        return made.telling.last_said(self._said_s)

    async def ask(self, device_id: int) -> link.DeviceStatus | None:
        """How the device is, asked now; None for one that cannot be asked at any time."""
        device = self._devices.get(device_id)
        if device is None:
            return None
        try:
            telling = self._driver(device).telling
        except UNUSABLE:
            return None
        return None if telling is None else await telling.probe()

    def _driver(self, device: Device) -> _Made:
        made = self._made.get(device.id)
        if made is None or made.device is not device:
            driver = self._driver_for(device, self._network)
            can_resume = isinstance(driver, link.Resuming)
            telling = driver if isinstance(driver, link.Telling) else None
            made = _Made(device, driver, can_resume, telling)
            if self._devices.get(device.id) is device:  # else an attempt ends at its old address
                self._made[device.id] = made
        return made
