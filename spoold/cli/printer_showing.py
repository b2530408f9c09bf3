"""`spoold printer list | show`: printers as a table, and one of them whole."""

from __future__ import annotations

import shlex
from argparse import Namespace
from typing import Any

from spoold.cli import render
from spoold.cli.render import Column
from spoold.cli.showing import show_each, show_list
from spoold.model.text import plain


def list_printers(args: Namespace) -> int:
    columns = (
        Column("NAME", gives_way=True),
        Column("STATE"),
        Column("WAITING", align_right=True),
        Column("HELD", align_right=True),
        Column("PRINTING", align_right=True),
        Column("DEVICE", gives_way=True),
        Column("REASON", gives_way=True),
    )
    none = "No printers yet: `spoold printer add NAME DEVICE-URI`."
    return show_list(args, "printer.list", "printers", columns, _row, none)


def _row(printer: dict[str, Any]) -> list[str]:
    return [
        printer["name"],
        _state(printer),
        str(printer["jobs"]["pending"]),
        str(printer["jobs"]["held"]),
        str(printer["jobs"]["processing"]),
        _target(printer),
        _why(printer),
    ]


def _target(printer: dict[str, Any]) -> str:
    if printer.get("release") == "find-me":
        return f"find-me, at {', '.join(printer['releases_at']) or 'any that fits'}"
    return printer["uri"] or f"pool of {', '.join(printer['members'])}"


def _state(printer: dict[str, Any]) -> str:
    state = "paused" if printer["paused"] else printer["state"]
    return state if printer["accepting"] else f"{state}, not accepting"


def _why(printer: dict[str, Any]) -> str:
    reasons = [one for one in printer["reasons"] if one not in ("none", "paused")]
    owner = printer.get("owner")
    where = f"belongs to {owner}" if owner else ""
    why = printer["message"] or ", ".join(reasons)
    return "; ".join(one for one in (where, why) if one)


def show(args: Namespace) -> int:
    return show_each(args, "printer.show", ({"name": name} for name in args.names), _print)


def _print(printer: dict[str, Any]) -> None:
    jobs, told = printer["jobs"], printer.get("said_us")
    render.print_fields(
        [
            ("printer", printer["name"]),
            ("guid", printer["guid"]),
            ("info", printer.get("info")),
            ("location", printer.get("location")),
            ("geo location", printer.get("geo_location")),
            ("organization", printer.get("organization")),
            ("organizational unit", printer.get("organizational_unit")),
            ("more info", printer.get("more_info")),
            ("shared", printer.get("shared") or None),
            ("announced as", printer.get("announced_as")),
            ("state", _state(printer)),
            ("reasons", [one for one in printer["reasons"] if one != "none"]),
            ("message", printer["message"]),
            ("owner", printer.get("owner") or None),
            ("device", printer["uri"]),
            ("options", printer.get("options")),
            ("members", printer.get("members")),
            ("standby", printer.get("standby")),
            ("order", printer.get("order")),
            ("in doubt", printer.get("in_doubt")),
            ("when unreachable", _if_not("hold", printer.get("when_unreachable"))),
            ("formats", printer.get("formats") or "any"),
            *(("converts", conversion_text(one)) for one in printer.get("conversions", ())),
            ("offers", printer.get("offer")),
            ("least owner", printer.get("least_owner")),
            ("holds new jobs", printer.get("hold_new_jobs") or None),
            *_release_fields(printer),
            (
                "jobs",
                f"{jobs['pending']} waiting, {jobs['held']} held, {jobs['processing']} printing",
            ),
            ("supplies", [supply_text(one) for one in printer.get("supplies") or ()] or None),
            ("device asked", told and f"{render.age(told)} ago"),
            ("failures", printer.get("failures") or None),
            ("next try", _in(printer.get("retry_at_us"))),
            ("interrupted today", printer.get("interrupted_today") or None),
        ]
    )
    for advice in printer.get("advice") or ():
        print(plain(f"  {advice}"))


def _if_not(usual: str, value: str | None) -> str | None:
    return None if value == usual else value


def _release_fields(printer: dict[str, Any]) -> list[tuple[str, Any]]:
    """What there is to say of release and charging, where it is not as usual."""
    mode, charging = printer.get("release", "immediate"), printer.get("charging", "off")
    kept = printer.get("keep_held_s")
    return [
        ("release", mode if mode != "immediate" else None),
        ("releases at", printer.get("releases_at")),
        ("keeps held jobs", None if mode == "immediate" else _kept(kept)),
        ("charging", charging if charging != "off" else None),
        ("default account", printer.get("default_account")),
        *(("policy", one) for one in printer.get("policies", ())),
        *(("sender", one) for one in printer.get("senders", ())),
    ]


def _kept(seconds: int | None) -> str:
    return render.duration(seconds) if seconds else "for ever"


def supply_text(supply: dict[str, Any]) -> str:
    """Ink or toner for people: `Black 70 %`, `Yellow 4 %, low`."""
    level = f" {supply['level']} %" if "level" in supply else ""
    return f"{supply.get('name') or supply.get('type') or '?'}{level}" + (
        " (low)" if supply.get("is_low") else ""
    )


def _in(at_us: int | None) -> str | None:
    if not at_us:
        return None
    import time

    return f"in {render.duration(at_us / 1e6 - time.time())}, at {render.local_time(at_us)}"


def conversion_text(one: dict[str, Any]) -> str:
    """A conversion as it is given."""
    return f"{one['from']} -> {one['to']}: {shlex.join(one['command'])}"
