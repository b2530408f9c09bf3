"""Scopes of roles as people give and read them: printers and sites by name.

They are kept by GUID, so that a printer may be renamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from spoold.daemon.operations.context import Services
from spoold.daemon.operations.jobs import find_printer
from spoold.daemon.operations.table import Argument
from spoold.daemon.operations.views import uuid_of
from spoold.model.errors import OperationError
from spoold.model.principal import Role, Scope
from spoold.model.text import plain
from spoold.model.user import (
    GRANTABLE,
    SCOPE_NAMES_MAX,
    SCOPES_MAX,
    TEXT_CHARACTERS_MAX,
    User,
    check_fields,
)


async def scopes_of(
    services: Services, given: list[dict[str, Any]] | None, roles: Iterable[Role]
) -> dict[str, Any]:
    """The field `scopes` of a user, when it was given.

    Raises:
        OperationError: `bad-request`: of a role that the user has not; `not-found`: a printer.
    """
    if given is None:
        return {}
    known = await services.catalogue.look()
    found = []
    for one in given:
        role = Role(one["role"])
        if role not in roles:
            raise OperationError(
                "bad-request",
                f"the user is no {role.value}.",
                f"Give the role, too: --role {role.value}.",
            )
        sites = [_site(services, name) for name in one["sites"]]
        printers = [str(find_printer(known, name).guid) for name in one["printers"]]
        found.append(Scope(role, tuple(sites), tuple(printers), tuple(one["groups"])))
    return check_fields({"scopes": found})


def _site(services: Services, name: str) -> str:
    guid = services.node_guid if name == services.node_name else uuid_of(name)
    if guid is None:
        raise OperationError(
            "bad-request",
            f"{plain(name[:60])} is no site.",
            f"This node is {services.node_name}; name another one by its GUID.",
        )
    return str(guid)


async def scope_maps(services: Services, users: Sequence[User]) -> list[list[dict[str, Any]]]:
    """The scopes of each user; a printer that was removed by its GUID."""
    if not any(user.scopes for user in users):
        return [[] for _ in users]
    known = await services.catalogue.look()
    printers = {str(one.guid): one.name for one in known.printers.values()}
    sites = {str(services.node_guid): services.node_name}
    return [
        [
            {
                "role": one.role.value,
                "sites": [sites.get(guid, guid) for guid in one.sites],
                "printers": [printers.get(guid, guid) for guid in one.printers],
                "groups": list(one.groups),
            }
            for one in user.scopes
        ]
        for user in users
    ]


def _names(name: str) -> Argument:
    return Argument(
        name,
        (list,),
        default=(),
        most=SCOPE_NAMES_MAX,
        each=Argument("", least=1, most=TEXT_CHARACTERS_MAX),
    )


SCOPES = Argument(
    "scopes",
    (list,),
    most=SCOPES_MAX,
    each=Argument(
        "",
        (dict,),
        keys=(
            Argument("role", required=True, choices=tuple(GRANTABLE)),
            _names("sites"),
            _names("printers"),
            _names("groups"),
        ),
    ),
    summary="Within what a role counts; without any, everywhere.",
)
