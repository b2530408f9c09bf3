"""Directories that people come from: `source.add`, `.set`, `.remove`, `.list`; and `user.sync`.

The password of a source stays in its file: nothing here takes or shows one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from spoold.accounts.rounds import Told
from spoold.accounts.synchronise import Step
from spoold.daemon.operations.access import ADMINS, LOCAL, STAFF
from spoold.daemon.operations.table import Argument, Call, Operation
from spoold.daemon.operations.views import fitting, plain_value
from spoold.model.source import (
    BASES_MAX,
    GROUPS_MAX,
    SERVERS_MAX,
    Flavour,
    Vanished,
    check_source_name,
    settings_map,
    source_of,
)
from spoold.spool import synchronised
from spoold.spool.store import PutSource, RemoveSource
from spoold.spool.synchronised import KeptSource

STEPS_SHOWN_MAX = 200

_TEXT = Argument("", least=1, most=1024)
ARGUMENTS = (
    Argument(
        "servers",
        (list,),
        most=SERVERS_MAX,
        each=_TEXT,
        summary="In order, as ldap://dc1.example.org or ldaps://dc1.example.org.",
    ),
    Argument("bases", (list,), most=BASES_MAX, each=_TEXT, summary="Where people are."),
    Argument("group_bases", (list,), most=BASES_MAX, each=_TEXT, summary="Else the bases."),
    Argument("flavour", choices=("", *Flavour), summary="How it speaks of people and groups."),
    Argument("start_tls", (bool,), summary="For ldap://; on, unless somebody says otherwise."),
    Argument("ca_file", summary="Who vouches for its certificate: PEM."),
    Argument("bind_dn", summary="Who logs in; nobody without it."),
    Argument("password_file", summary="Its first line is the password: a path, credential:NAME."),
    Argument("clear_password", (bool,), summary="Let the password go out without TLS."),
    Argument("logins", (bool,), summary="Ask it for the passwords of its users."),
    Argument("people_filter", summary="As (objectClass=person)."),
    Argument("group_filter", summary="As (objectClass=groupOfNames)."),
    Argument(
        "attributes",
        (dict,),
        most=16,
        each=Argument("", most=128),
        summary="Attributes under other names: full_name, email, card, account…",
    ),
    Argument("card_converter", summary="What makes a card's number of its attribute."),
    Argument("members_of", (list,), most=GROUPS_MAX, each=_TEXT, summary="Only members of these."),
    Argument("groups", (list,), most=GROUPS_MAX, each=_TEXT, summary="Only these are taken over."),
    Argument("vanished", choices=("", *Vanished), summary="What becomes of users who are gone."),
    Argument("vanish_share", (int,), summary="Percent of users that may go in one round."),
    Argument("every_s", (int,), summary="How often, in seconds; 0 only when asked."),
    Argument("deadline_s", (int,), summary="How long it may take to answer."),
)


def source_map(kept: KeptSource) -> dict[str, Any]:
    """A source, and how its last round went."""
    return {
        "name": kept.source.name,
        "guid": str(kept.source.guid),
        **settings_map(kept.source),
        "round": plain_value(kept.round),
    }


async def _find(call: Call, name: str) -> KeptSource:
    """Raises:
    OperationError: `not-found`.
    """
    kept: KeptSource | None
    kept = await call.services.reader.look(synchronised.find_source, name)
    if kept is None:
        raise synchronised.unknown(name)
    return kept


async def add(call: Call) -> dict[str, Any]:
    name = check_source_name(call.args["name"])
    source = source_of(uuid4(), name, _given(call))
    put = PutSource(source, call.services.wall_clock(), True, call.actor)
    return source_map(KeptSource(await call.services.journal.commit(put), {}))


async def change(call: Call) -> dict[str, Any]:
    """What is not named stays; of attributes, an empty one goes back to the flavour's."""
    kept = await _find(call, call.args["name"])
    old, given = settings_map(kept.source), _given(call)
    if "attributes" in given:
        given["attributes"] = {**old["attributes"], **given["attributes"]}
    source = source_of(kept.source.guid, kept.source.name, {**old, **given})
    if source != kept.source:
        put = PutSource(source, call.services.wall_clock(), False, call.actor)
        await call.services.journal.commit(put)
    return source_map(KeptSource(source, kept.round))


def _given(call: Call) -> dict[str, Any]:
    values = {one.name: call.args[one.name] for one in ARGUMENTS}
    return {key: value for key, value in values.items() if value is not None}


async def remove(call: Call) -> dict[str, Any]:
    """Its users stay, and are then as if made by hand."""
    services = call.services
    kept = await _find(call, call.args["name"])
    gone = RemoveSource(kept.source.name, services.wall_clock(), call.actor)
    return {"name": kept.source.name, "users": await services.journal.commit(gone)}


async def list_sources(call: Call) -> dict[str, Any]:
    found = await call.services.reader.look(synchronised.sources)
    rest = [kept for kept in found if kept.source.name > call.args["after_id"]]
    page, more = fitting(map(source_map, rest), call.args["limit"])
    return {"sources": page, "next_after_id": page[-1]["name"] if more else None}


async def show_source(call: Call) -> dict[str, Any]:
    return source_map(await _find(call, call.args["name"]))


async def sync(call: Call) -> dict[str, Any]:
    """One round, now; how it went is the answer, also when nothing could be done."""
    kept = await _find(call, call.args["source"])
    shown: list[dict[str, Any]] = []
    counts = [0]

    def show(steps: Sequence[Step]) -> None:
        counts[0] = len(steps)
        shown.extend(map(step_map, steps[:STEPS_SHOWN_MAX]))

    told: Told = await call.services.rounds.round(
        kept.source,
        actor=call.actor,
        is_dry=call.args["dry_run"],
        lets_go=call.args["let_go"],
        adopts=call.args["adopt"],
        show=show,
    )
    answer = told.as_map()
    page, _ = fitting(shown, STEPS_SHOWN_MAX, answer)
    return {**answer, "steps": page, "steps_in_all": counts[0]}


def step_map(step: Step) -> dict[str, Any]:
    """What a round does to one user."""
    return {
        "action": step.action,
        "name": step.name,
        "was": step.was,
        "fields": plain_value(dict(step.fields)),
        "card": None if step.card is None else bool(step.card),
    }


_NAME = Argument("name", required=True, least=1, summary="Name a source.")

OPERATIONS = (
    Operation("source.add", (_NAME, *ARGUMENTS), ADMINS, LOCAL, add, "Add a directory of people."),
    Operation("source.set", (_NAME, *ARGUMENTS), ADMINS, LOCAL, change, "Change a source."),
    Operation("source.remove", (_NAME,), ADMINS, LOCAL, remove, "Forget a source, not its users."),
    Operation(
        "source.list",
        (
            Argument("after_id", default="", summary="The page before's next_after_id."),
            Argument("limit", (int,), default=100, least=1, most=500),
        ),
        STAFF,
        LOCAL,
        list_sources,
        "The directories that people come from.",
    ),
    Operation("source.show", (_NAME,), STAFF, LOCAL, show_source, "A source and its last round."),
    Operation(
        "user.sync",
        (
            Argument("source", required=True, least=1, summary="Name a source."),
            Argument("dry_run", (bool,), default=False, summary="Only say what would be done."),
            Argument("let_go", (bool,), default=False, summary="However many users vanish."),
            Argument("adopt", (bool,), default=False, summary="Take over who was made by hand."),
        ),
        ADMINS,
        LOCAL,
        sync,
        "Take people over from a source now.",
    ),
)
