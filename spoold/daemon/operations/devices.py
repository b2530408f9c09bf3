"""MFDs that come in by themselves: `device.enrol`, `.set`, `.revoke` and `.enrolled`.

An MFD stands for one machine, and may release on the printers that it is bound to. It shows a
certificate (9195), or a token (9192) that is told once and kept as a hash.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

from spoold.accounts.authentication import Method
from spoold.daemon.operations import certificates
from spoold.daemon.operations.access import ADMINS, KNOWN, LOCAL, STAFF
from spoold.daemon.operations.jobs import find_printer
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting
from spoold.daemon.operations.watch import Known
from spoold.model import card as cards
from spoold.model.errors import OperationError
from spoold.model.mfd import (
    IDLE_S_MAX,
    PRINTERS_MAX,
    TOKEN_BYTES,
    TOKEN_PREFIX,
    Mfd,
    MfdSettings,
    secret_key,
)
from spoold.model.printer import check_printer_name
from spoold.spool.mfds import unknown
from spoold.spool.store import PutMfd, RevokeMfd

DAYS_MAX = 3650
CREDENTIALS = ("certificate", "token")


def mfd_map(mfd: Mfd, known: Known) -> dict[str, Any]:
    return {
        "name": mfd.name,
        "guid": str(mfd.guid),
        "printers": printer_names(known, mfd.printers),
        "converter": mfd.settings.converter,
        "methods": list(mfd.settings.methods),
        "idle_s": mfd.settings.idle_s,
        "has_token": mfd.has_token,
        "revoked": mfd.revoked,
        "created_us": mfd.created_us,
        "changed_us": mfd.changed_us,
    }


def printer_names(known: Known, guids: Iterable[UUID]) -> list[str]:
    """The names of printers by their GUIDs, in this order; removed ones are left out."""
    names = {printer.guid: printer.name for printer in known.printers.values()}
    return [names[guid] for guid in guids if guid in names]


def _settings(args: dict[str, Any], known: Known, before: MfdSettings) -> MfdSettings:
    """What is not named stays."""
    printers = before.printers
    if args["printers"] is not None:
        found = [find_printer(known, name) for name in args["printers"]]
        roaming = next((one.name for one in found if one.is_find_me), "")
        if roaming:
            raise OperationError(
                "bad-request",
                f"nothing comes out at {roaming}.",
                "Name printers where its jobs come out.",
            )
        printers = tuple(dict.fromkeys(one.guid for one in found))
    methods = before.methods
    if args["methods"] is not None:
        methods = tuple(dict.fromkeys(args["methods"]))
    converter = before.converter
    if args["converter"] is not None:
        converter = cards.find_converter(args["converter"]) if args["converter"] else ""
    idle_s = before.idle_s if args["idle_s"] is None else args["idle_s"]
    return MfdSettings(printers, converter, methods, idle_s)


async def enrol(call: Call) -> dict[str, Any]:
    """A certificate or a token for an MFD, known here when it is handed out.

    An MFD that is enrolled again keeps its GUID, its certificates, and what is not named; its
    token gives way to the new one.
    """
    args, services = call.args, call.services
    name = check_printer_name(args["name"], "MFD")
    async with services.changing:
        known = await services.catalogue.look()
        before = services.mfds.by_name(name)
        settings = _settings(args, known, before.settings if before else MfdSettings())
        if not settings.printers:
            raise OperationError(
                "bad-request", f"{name} would release nowhere.", "Name its printers."
            )
        guid = before.guid if before else uuid4()
        if args["credential"] == "token":
            shown, change = _token(call, guid, name)
        else:
            shown, change = _certificate(call, guid, name, args["days"])
        change.settings = settings
        mfd: Mfd = await services.journal.commit(change)
    return {**mfd_map(mfd, known), **shown}


def _token(call: Call, guid: UUID, name: str) -> tuple[dict[str, Any], PutMfd]:
    services = call.services
    random = services.random_bytes(TOKEN_BYTES)
    token = TOKEN_PREFIX + urlsafe_b64encode(random).decode().rstrip("=")
    now_us = services.wall_clock()
    change = PutMfd(guid, name, now_us, token_key=secret_key(token), actor=call.actor)
    return {"token": token, "ca_pem": services.identity.ca_pem.decode()}, change


def _certificate(call: Call, guid: UUID, name: str, days: int) -> tuple[dict[str, Any], PutMfd]:
    made = certificates.make(call, "device", guid, name, days)
    change = PutMfd(
        guid,
        name,
        call.services.wall_clock(),
        serial=made.serial,
        not_after_us=made.until_us,
        actor=call.actor,
    )
    return made.shown, change


async def change(call: Call) -> dict[str, Any]:
    """Bind an MFD to other printers, or change its panel's settings."""
    services = call.services
    async with services.changing:
        known = await services.catalogue.look()
        before = _find(call)
        if all(call.args[one.name] is None for one in _SETTINGS):
            raise OperationError(
                "bad-request", "nothing is to be changed.", "Name printers or settings."
            )
        settings = _settings(call.args, known, before.settings)
        if settings == before.settings:
            return mfd_map(before, known)
        put = PutMfd(
            before.guid, before.name, services.wall_clock(), settings, actor=call.actor
        )  # fmt: skip
        mfd = await services.journal.commit(put)
    return mfd_map(mfd, known)


def _find(call: Call) -> Mfd:
    name = call.args["name"]
    mfd = call.services.mfds.by_name(name)
    if mfd is None:
        raise unknown(name)
    return mfd


async def revoke(call: Call) -> dict[str, Any]:
    """Refuse an MFD's certificates and its token, now and for ever."""
    services = call.services
    name = call.args["name"]
    serials = await services.journal.commit(RevokeMfd(name, services.wall_clock(), call.actor))
    return {"name": name, "serials": serials[-200:]}


async def list_enrolled(call: Call) -> dict[str, Any]:
    known = await call.services.catalogue.look()
    after, limit = call.args["after_id"], call.args["limit"]
    found = (mfd for mfd in call.services.mfds.all() if mfd.name > after)
    page, more = fitting((mfd_map(mfd, known) for mfd in found), limit)
    return {"mfds": page, "next_after_id": page[-1]["name"] if more else None}


_NAME = Argument("name", required=True, least=1, most=127, summary="Name an MFD.")
_SETTINGS = (
    Argument(
        "printers",
        (list,),
        least=1,
        most=PRINTERS_MAX,
        each=Argument("", most=127),
        summary="The printers that it may release on, the one it stands for first.",
    ),
    Argument(
        "converter",
        most=cards.RAW_CHARACTERS_MAX,
        summary="What the card numbers of its reader pass first.",
    ),
    Argument(
        "methods",
        (list,),
        most=len(Method),
        each=Argument("", choices=tuple(Method)),
        summary="How people may log in; an empty list is every way.",
    ),
    Argument(
        "idle_s", (int,), least=10, most=IDLE_S_MAX, summary="A session ends after so long unused."
    ),
)

OPERATIONS = (
    Operation(
        "device.enrol",
        (
            _NAME,
            *_SETTINGS,
            Argument("credential", default="certificate", choices=CREDENTIALS),
            Argument("days", (int,), default=365, least=1, most=DAYS_MAX),
        ),
        ADMINS,
        LOCAL,
        enrol,
        "A certificate or a token for an MFD.",
    ),
    Operation(
        "device.set", (_NAME, *_SETTINGS), ADMINS, LOCAL, change, "Change an MFD's settings."
    ),
    Operation("device.revoke", (_NAME,), ADMINS, LOCAL, revoke, "Refuse an MFD for ever."),
    Operation(
        "device.enrolled",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        STAFF,
        KNOWN,
        list_enrolled,
        "The MFDs that may come in.",
    ),
)
