"""Getting to know a device before a printer points to it: its certificate, and what it can do.

In: a device that is wished for. Out: an `Acquaintance`: options to be added, what the printer can
offer its clients, and advice. Asked outside of any lock: a device may be slow to answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import trio

from spoold.daemon.operations.context import Services
from spoold.daemon.operations.offer import merged_offer
from spoold.daemon.operations.table import Argument
from spoold.driver.link import Learning, Pinning, driver_for
from spoold.model.conversion import RECIPES
from spoold.model.errors import OperationError
from spoold.model.printer import Device
from spoold.model.text import plain

LOOK_S = 10.0
TEXT_CHARACTERS_MAX = 127
DRIVERLESS = frozenset({"application/pdf", "image/pwg-raster", "image/urf"})

LEARN = Argument(
    "learn", (bool,), default=False, summary="Ask the device what it can do, and offer that."
)


@dataclass(slots=True)
class Acquaintance:
    """`options` are the driver's, to be kept with the device, `offer` is what the printer offers,
    `fields` are other fields of a printer, and `names` those that only a new one takes over.
    """

    options: dict[str, str] = field(default_factory=dict)
    offer: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    serial: str = ""
    advice: list[str] = field(default_factory=list)


async def get_to_know(
    services: Services, name: str, device: Device, *, is_learning: bool
) -> Acquaintance:
    """Ask the device for what the driver's options leave open, and for what it can do.

    Raises:
        OperationError: it is not to be trusted as it is, or it cannot be asked.
    """
    found = Acquaintance()
    await _pin(services, device, found)
    if is_learning:
        await _learn(services, name, replace(device, options=device.options | found.options), found)
    return found


async def _pin(services: Services, device: Device, found: Acquaintance) -> None:
    """The certificate that the device shows now is its own: whoever adds it says so, and sees it.

    Raises:
        OperationError: it shows none, or nobody vouches for it and nobody said so.
    """
    is_wanted = device.option("tls", "") == "pin" and not device.option("fingerprint", "")
    blind = {**device.options, "tls": "none"}
    try:
        driver = driver_for(
            replace(device, options=blind if is_wanted else device.options), services.network
        )
    except (OperationError, ImportError, AttributeError):
        return  # the driver itself is asked again, and says what is wrong
    if not isinstance(driver, Pinning):
        return
    if is_wanted:
        fingerprint = await _fingerprint(driver, device)
        found.options["fingerprint"] = fingerprint
        found.advice.append(f"Its certificate is trusted from now on: {fingerprint}.")
        return
    if not driver.needs_trust:
        return
    with trio.move_on_after(LOOK_S):
        status = await driver.probe()
        if "device-not-trusted" in status.reasons:
            fingerprint = await _fingerprint(driver, device)
            raise OperationError(
                "not-possible",
                f"nobody vouches for the certificate of {device.uri}: {fingerprint}.",
                "If that is the printer's own, say so: --option tls=pin.",
            )


async def _fingerprint(driver: Pinning, device: Device) -> str:
    try:
        with trio.fail_after(LOOK_S):
            return await driver.fingerprint()
    except (OSError, trio.TooSlowError) as error:
        raise OperationError(
            "not-possible",
            f"{device.uri} shows no certificate: {str(error) or 'no answer'}.",
            "Switch it on, or give the certificate's SHA-256: --option fingerprint=HEX.",
        ) from error


async def _learn(services: Services, name: str, device: Device, found: Acquaintance) -> None:
    driver = driver_for(device, services.network)
    if not isinstance(driver, Learning):
        raise OperationError(
            "bad-request",
            f"a device at {device.scheme}:// cannot be asked what it can do.",
            "Leave out --learn, and name what it can do with --offer and --format.",
        )
    learned = await driver.learn()
    left_out = []
    # What is supported first: a default that is not among it is left out, not the other way.
    for key in sorted(learned.options, key=lambda one: not one.endswith("-supported")):
        try:
            found.offer = merged_offer(found.offer, {key: learned.options[key]})
        except OperationError:
            left_out.append(key)
    said = learned.options.get("document-format-supported", ())
    formats = tuple(dict.fromkeys(one.lower() for one in said))
    if formats:
        found.fields["formats"] = formats
    found.names = {"info": _text(learned.info), "location": _text(learned.location)}
    found.serial = _text(learned.serial)
    found.advice.append(f"It offers {len(found.offer)} attributes: `spoold printer show {name}`.")
    if left_out:
        found.advice.append(f"Left out, for they do not fit: {', '.join(left_out)}.")
    found.advice += converters_for(name, formats)


def _text(said: str) -> str:
    return plain(said)[:TEXT_CHARACTERS_MAX].strip()


def converters_for(name: str, formats: tuple[str, ...]) -> list[str]:
    """What clients without a driver will need of a printer that takes only these formats."""
    if not formats or DRIVERLESS.intersection(formats):
        return []
    for (source, target), command in RECIPES.items():
        if target in formats:
            return [
                f"Clients without a driver send PDF or raster, which {name} does not take. "
                f"For them: spoold printer set {name} "
                f"--convert '{source} -> {target}: {' '.join(command)}'"
            ]
    return [
        f"Clients without a driver send PDF or raster, which {name} does not take, and there is "
        "no recipe for what it takes: see dispatch/README.md on converters."
    ]
