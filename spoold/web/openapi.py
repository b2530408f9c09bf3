"""Operations as an OpenAPI 3.1 document: made from the table that checks the arguments.

Pure: operations in, a map out. What an argument may be is said once, in the table; here it becomes
JSON Schema (2020-12), so that the document cannot promise what the table refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

OPENAPI = "3.1.0"
_TYPES = {str: "string", int: "integer", bool: "boolean", list: "array", dict: "object"}


class Described(Protocol):
    """An argument, as the table knows it."""

    @property
    def name(self) -> str: ...
    @property
    def types(self) -> tuple[type, ...]: ...
    @property
    def required(self) -> bool: ...
    @property
    def default(self) -> Any: ...
    @property
    def least(self) -> int: ...
    @property
    def choices(self) -> tuple[str, ...]: ...
    @property
    def each(self) -> Described | None: ...
    @property
    def keys(self) -> tuple[Described, ...]: ...
    @property
    def summary(self) -> str: ...
    def most_of(self, kind: type) -> int:
        """The most of a number, of a text's characters, of elements or entries."""
        ...


class Operation(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> Sequence[Described]: ...
    @property
    def answers(self) -> Sequence[Described]: ...
    @property
    def summary(self) -> str: ...


def schema(argument: Described) -> dict[str, Any]:
    """What the argument may be; nil, too, where it may be left out."""
    names = [_TYPES[kind] for kind in argument.types if kind is not type(None)]
    may_be_nil = not argument.required  # nil is what is not given
    found: dict[str, Any] = {"type": [*names, "null"] if may_be_nil else names}
    if len(found["type"]) == 1:
        (found["type"],) = found["type"]
    if argument.summary:
        found["description"] = argument.summary
    if argument.default is not None:
        found["default"] = argument.default
    if argument.choices:
        found["enum"] = [*argument.choices, None] if may_be_nil else list(argument.choices)
    for kind in argument.types:
        found |= _bounds(argument, kind)
    return found


def _bounds(argument: Described, kind: type) -> dict[str, Any]:
    least, most = argument.least, argument.most_of(kind)
    if kind is int:
        return {"minimum": least, "maximum": most}
    if kind is str:
        return {"minLength": least, "maxLength": most} if not argument.choices else {}
    if kind is list:
        items = {} if argument.each is None else {"items": _value(argument.each)}
        return {"minItems": least, "maxItems": most, **items}
    if kind is dict:
        if argument.keys:
            found = fields(argument.keys, is_closed=True)
            del found["type"]
            return found
        values = {} if argument.each is None else {"additionalProperties": _value(argument.each)}
        return {"minProperties": least, "maxProperties": most, **values}
    return {}


def _value(argument: Described) -> dict[str, Any]:
    """An element or value: nil is none."""
    found = schema(argument)
    if type(None) not in argument.types:
        types = [one for one in _as_list(found["type"]) if one != "null"]
        found["type"] = types[0] if len(types) == 1 else types
        if argument.choices:
            found["enum"] = list(argument.choices)
    return found


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def fields(arguments: Iterable[Described], *, is_closed: bool) -> dict[str, Any]:
    """A map with these entries; `is_closed`: and no others."""
    known = tuple(arguments)
    found: dict[str, Any] = {
        "type": "object",
        "properties": {one.name: schema(one) for one in known},
    }
    required = [one.name for one in known if one.required]
    if required:
        found["required"] = required
    if is_closed:
        found["additionalProperties"] = False
    return found


def document(
    operations: Iterable[Operation],
    *,
    prefix: str,
    version: str,
    statuses: Mapping[str, int],
    streams: frozenset[str],
) -> dict[str, Any]:
    """The document of `operations`, each a POST to the path `prefix` and its last word.

    `statuses` are the HTTP statuses of error codes; `streams` the names of operations that answer
    with a stream of events.
    """
    paths = {
        prefix + one.name.rpartition(".")[2]: {"post": _post(one, statuses, one.name in streams)}
        for one in operations
    }
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "spoold for MFDs",
            "version": version,
            "description": "The operations of section 10 of spoold/codec/FRAMES.md over HTTPS.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "9192: the token of `spoold device enrol NAME --token`.",
                },
                "certificate": {
                    "type": "mutualTLS",
                    "description": "9195: the certificate of `spoold device enrol NAME`.",
                },
            },
        },
        "security": [{"token": []}, {"certificate": []}],
    }


_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "advice"],
            "properties": {
                "code": {"type": "string", "description": "For programs; see FRAMES.md."},
                "message": {"type": "string", "description": "What is wrong."},
                "advice": {"type": "string", "description": "What to do; may be empty."},
            },
        }
    },
}


def _post(operation: Operation, statuses: Mapping[str, int], is_stream: bool) -> dict[str, Any]:
    media_type = "text/event-stream" if is_stream else "application/json"
    answer = {"type": "string"} if is_stream else fields(operation.answers, is_closed=False)
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": fields(operation.arguments, is_closed=True)}
            },
        },
        "responses": {
            "200": {
                "description": "Done; what it changed is durable.",
                "content": {media_type: {"schema": answer}},
            },
            **_refusals(statuses),
        },
    }


def _refusals(statuses: Mapping[str, int]) -> dict[str, Any]:
    """A response for each status, with the codes that it stands for."""
    by_status: dict[int, list[str]] = {}
    for code, status in statuses.items():
        by_status.setdefault(status, []).append(code)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        str(status): {"description": f"Refused: {', '.join(codes)}.", "content": content}
        for status, codes in sorted(by_status.items())
    }
