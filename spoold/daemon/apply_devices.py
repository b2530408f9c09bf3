"""MFDs as objects of a file: `[device.NAME]`, with the keys that `device.set` takes.

A file changes an MFD that is enrolled. It enrols none, for that hands out a key or a token, and
revokes none, for that is for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from spoold.daemon.apply import Asked, Kind, Problem, Whole
from spoold.daemon.operations import devices
from spoold.model.card import find_converter
from spoold.model.mfd import MfdSettings
from spoold.model.objects import Action, Object, Step
from spoold.model.release import ReleaseMode
from spoold.model.text import plain

_SET = next(one for one in devices.OPERATIONS if one.name == "device.set")


class Devices(Kind):
    word = "device"
    arguments = tuple(one for one in _SET.arguments if one.name != "name")
    listing = Asked("device.enrolled", {})
    rows = "mfds"
    refers = ("printer",)
    is_pruned = False

    def wanted(self, name: str, given: dict[str, Any]) -> Object:
        found = dict(given)
        if "converter" in found:
            found["converter"] = find_converter(found["converter"]) if found["converter"] else ""
        if "methods" in found:
            found["methods"] = sorted(set(found["methods"]))
        return found

    def there(self, row: dict[str, Any]) -> Object:
        return {**super().there(row), "methods": sorted(row["methods"])}

    def is_left_alone(self, row: dict[str, Any]) -> bool:
        return bool(row["revoked"])

    def problems(self, steps: Sequence[Step], whole: Whole, gone: set[str]) -> Iterable[Problem]:
        printers = whole.names("printer")
        for step in steps:
            path = f"device.{step.name}"
            if step.action is Action.ADD or step.name in whole.kept["device"]:
                advice = f"Enrol it first: `spoold device enrol {step.name} --printer NAME`."
                yield Problem(path, "there is no such MFD.", advice)
            for name in (step.wanted or {}).get("printers", ()):
                if name not in printers:
                    yield Problem(path, f"there is no printer {plain(name)}.", "Name it, too.")
                elif whole.after("printer", name).get("release") == ReleaseMode.FIND_ME:
                    yield Problem(path, f"nothing comes out at {name}.", "Name other printers.")

    def asked(self, step: Step, there: Object | None) -> Asked:
        assert step.wanted is not None
        return Asked(
            "device.set", {"name": step.name, **{key: step.wanted[key] for key in step.keys}}
        )

    def blank(self) -> Object:
        one = MfdSettings()
        return {"converter": one.converter, "methods": list(one.methods), "idle_s": one.idle_s}
