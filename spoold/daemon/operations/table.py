"""Operations as values, who may call them, and the check of their arguments.

Access is decided before anything else is looked at; what is not named is denied. A role counts
only at the doors where its credential can be shown, whatever the principal brings along.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Protocol

from spoold.daemon.operations.context import Services
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal, Role, Scope
from spoold.model.text import plain

SendEvent = Callable[[str, dict[str, Any]], Awaitable[None]]

# Where each role's credential can be shown: the socket's peer, a login or a token, a certificate.
DOORS: dict[Role, frozenset[Port]] = {
    Role.ADMIN: frozenset({Port.CONTROL, Port.TLS, Port.MUTUAL}),
    Role.OPERATOR: frozenset({Port.CONTROL, Port.TLS, Port.MUTUAL}),
    Role.HELP_DESK: frozenset({Port.CONTROL, Port.TLS, Port.MUTUAL}),
    Role.ACCOUNTANT: frozenset({Port.CONTROL, Port.TLS, Port.MUTUAL}),
    Role.PROVIDER: frozenset({Port.MUTUAL}),
    Role.DEVICE: frozenset({Port.TLS, Port.MUTUAL}),
    Role.SITE: frozenset({Port.MUTUAL}),
    Role.JOINER: frozenset({Port.JOIN}),
    Role.USER: frozenset({Port.TLS, Port.MUTUAL}),
    Role.ANYBODY: frozenset({Port.CLEAR, Port.TLS}),
}
_SPOKEN = {
    Port.CLEAR: "the clear port",
    Port.TLS: "the TLS port",
    Port.MUTUAL: "the port for client certificates",
    Port.JOIN: "the port for client certificates, before there is one",
    Port.CONTROL: "the control socket",
}
_TYPES = {
    str: "a text",
    bytes: "bytes",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a map",
    type(None): "nil",
}
WHOLE_MAX = 2**53 - 1  # what JSON carries exactly
# The most of a number, of characters, elements and entries, where an argument does not say.
MOST: dict[type, int] = {int: WHOLE_MAX, str: 1024, list: 1000, dict: 64}


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument. `least` and `most` bound a number, a text's characters, or how many elements.

    `types` are the types that it may have; `each` describes the elements of a list or the values
    of a map; `keys`, when there are any, are the only ones that a map may have.
    """

    name: str
    types: tuple[type, ...] = (str,)
    required: bool = False
    default: Any = None
    least: int = 0
    most: int | None = None
    choices: tuple[str, ...] = ()
    each: Argument | None = None
    keys: tuple[Argument, ...] = ()
    summary: str = ""

    def read(self, value: Any, path: str) -> Any:
        """`value` when it can be this argument.

        Raises:
            OperationError: `bad-request`, with what it should be.
        """
        if type(value) not in self.types:
            wanted = " or ".join(_TYPES[one] for one in self.types)
            raise _bad(f"{path} is {_TYPES.get(type(value), 'something else')}.", f"Give {wanted}.")
        if type(value) is int:
            self._measure(int, value, path, "")
        elif type(value) is str:
            self._measure(str, len(value), path, " characters long")
            if self.choices and value not in self.choices:
                raise _bad(
                    f"{path} is {plain(value[:40])!r}.",
                    f"Use {_or(self.choices)}. {near(value, self.choices)}".strip(),
                )
        elif type(value) is list:
            self._measure(list, len(value), path, " elements long")
            if self.each is not None:
                return [self.each.read(one, f"{path}[{n}]") for n, one in enumerate(value)]
        elif type(value) is dict:
            self._measure(dict, len(value), path, " entries long")
            if self.keys:
                return read_arguments(self.keys, value, f"{path}.")
            if self.each is not None:
                return {key: self.each.read(one, f"{path}.{key}") for key, one in value.items()}
        return value

    def most_of(self, kind: type) -> int:
        """The most of a number, of a text's characters, of elements or entries."""
        return MOST.get(kind, 0) if self.most is None else self.most

    def _measure(self, kind: type, size: int, path: str, unit: str) -> None:
        most = self.most_of(kind)
        if not self.least <= size <= most:
            raise _bad(f"{path} is {size}{unit}.", f"It can be {self.least} to {most}{unit}.")


def read_arguments(
    known: tuple[Argument, ...], given: Mapping[str, Any], path: str = ""
) -> dict[str, Any]:
    """Every argument of `known`, as given or by its default; nil counts as not given.

    Raises:
        OperationError: `bad-request`: one is unknown, missing, or not what it should be.
    """
    names = tuple(argument.name for argument in known)
    for name in given:
        if name not in names:
            allowed = f"Known are {', '.join(names)}." if names else "It takes none."
            raise _bad(
                f"there is no argument {plain(path + str(name)[:40])}.",
                near(str(name), names) or allowed,
            )
    values: dict[str, Any] = {}
    for argument in known:
        value = given.get(argument.name)
        if value is None:
            if argument.required:
                raise _bad(f"the argument {path}{argument.name} is missing.", argument.summary)
            values[argument.name] = argument.default
        else:
            values[argument.name] = argument.read(value, path + argument.name)
    return values


@dataclass(frozen=True, slots=True)
class Call:
    """One request that may be answered. `roles` are those that opened the door, no others."""

    services: Services
    principal: Principal
    roles: frozenset[Role]
    args: dict[str, Any]
    send_event: SendEvent

    @property
    def is_staff(self) -> bool:
        """Whether the caller may see every job, with its personal fields."""
        return not self.roles.isdisjoint({Role.ADMIN, Role.OPERATOR, Role.HELP_DESK})

    @property
    def actor(self) -> str:
        """Who the records name. An address is personal, and records name people by key only."""
        identity = self.principal.identity
        return "client" if identity.startswith("address:") else identity


Handler = Callable[[Call], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Operation:
    """What may be asked: by each of `roles`, at those of `ports` that are a door of that role.

    `answers` describes the entries of the result, where programs of others are told of it.
    """

    name: str
    arguments: tuple[Argument, ...]
    roles: frozenset[Role]
    ports: frozenset[Port]
    handler: Handler
    summary: str = ""
    answers: tuple[Argument, ...] = ()
    pairs: frozenset[tuple[Role, Port]] = field(init=False)

    def __post_init__(self) -> None:
        pairs = {(role, port) for role in self.roles for port in self.ports & DOORS[role]}
        object.__setattr__(self, "pairs", frozenset(pairs))

    def granted(self, principal: Principal) -> frozenset[Role]:
        """The roles by which `principal` may call this; empty when it may not."""
        return frozenset(role for role in principal.roles if (role, principal.port) in self.pairs)

    def limited(self, principal: Principal) -> tuple[Scope, ...]:
        """Within what further roles of `principal` may call this."""
        return tuple(one for one in principal.scopes if (one.role, principal.port) in self.pairs)

    def refusal(self) -> OperationError:
        """`forbidden`, with what would do."""
        roles: dict[Port, list[str]] = {}
        for role, port in sorted(self.pairs):
            roles.setdefault(port, []).append(role.value)
        doors: dict[str, list[str]] = {}
        for port, those in roles.items():
            doors.setdefault(_or(those), []).append(_SPOKEN[port])
        ways = [f"on {_or(those)} as {who}" for who, those in doors.items()]
        return OperationError(
            "forbidden",
            f"{self.name} is not for you here.",
            f"It can be called {', or '.join(ways)}.",
        )


class Scoping(Protocol):
    """What a call is about, held against the scopes of the caller's roles."""

    async def counting(
        self, operation: Operation, principal: Principal, args: Mapping[str, Any]
    ) -> frozenset[Role]:
        """The limited roles that count for this call."""
        ...

    async def shown(
        self, operation: Operation, principal: Principal, answer: dict[str, Any]
    ) -> dict[str, Any]:
        """A listing without the rows that are beyond the scopes."""
        ...


class Table:
    """Every operation of a node, by name. Without `scoping` limited roles count nowhere."""

    def __init__(
        self,
        operations: Iterable[Operation],
        services: Services,
        scoping: Scoping | None = None,
    ) -> None:
        self._services = services
        self._scoping = scoping
        self.operations: dict[str, Operation] = {}
        for operation in operations:
            if operation.name in self.operations:
                raise ValueError(f"two operations are called {operation.name}")
            self.operations[operation.name] = operation

    async def call(
        self, principal: Principal, op: str, args: Mapping[str, Any], send_event: SendEvent
    ) -> dict[str, Any]:
        """Do what is asked; what it changed is durable when this returns.

        Raises:
            OperationError: there is no such operation, it is not for the caller, an argument is
                wrong, or it was refused.
        """
        operation = self.operations.get(op)
        if operation is None:
            known = [one.name for one in self.operations.values() if one.granted(principal)]
            raise OperationError(
                "not-found",
                f"there is no operation {plain(op[:60])!r}.",
                near(op, known) or f"Known here are {', '.join(sorted(known))}.",
            )
        roles = operation.granted(principal)
        limited = operation.limited(principal) if self._scoping is not None else ()
        if not roles and not limited:
            raise operation.refusal()
        values = read_arguments(operation.arguments, args)
        more: frozenset[Role] = frozenset()
        if limited and self._scoping is not None:
            more = await self._scoping.counting(operation, principal, values) - roles
            if not roles | more:
                raise beyond(limited)
        call = Call(self._services, principal, roles | more, values, send_event)
        answer = await operation.handler(call)
        if more and self._scoping is not None:
            return await self._scoping.shown(operation, principal, answer)
        return answer


def beyond(limited: Iterable[Scope]) -> OperationError:
    roles = _or(sorted({one.role.value for one in limited}))
    return OperationError(
        "forbidden",
        f"this is beyond what you are {roles} for.",
        "Name one of your printers, or a job or user of your groups; or ask an administrator.",
    )


def _bad(message: str, advice: str) -> OperationError:
    return OperationError("bad-request", message, advice)


def near(word: str, known: Iterable[str]) -> str:
    """A question that names the one of `known` that `word` comes close to, or ""."""
    found = get_close_matches(word[:60], list(known), n=1)
    return f"Did you mean {found[0]}?" if found else ""


def _or(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
