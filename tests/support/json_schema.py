"""As much of JSON Schema (2020-12) as our OpenAPI documents use, and not a keyword more."""

from __future__ import annotations

from typing import Any

_KINDS = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_KNOWN = {
    *("type", "description", "default", "enum", "minimum", "maximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "items", "minProperties", "maxProperties", "properties"),
    *("required", "additionalProperties", "format"),
}


def is_valid(schema: dict[str, Any], value: Any) -> bool:
    """Whether `value` is what the schema says."""
    assert set(schema) <= _KNOWN, set(schema) - _KNOWN
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if type(value) not in [_KINDS[name] for name in names]:
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    size = value if type(value) is int else len(value) if hasattr(value, "__len__") else None
    least, most = {
        int: ("minimum", "maximum"),
        str: ("minLength", "maxLength"),
        list: ("minItems", "maxItems"),
        dict: ("minProperties", "maxProperties"),
    }.get(type(value), ("", ""))
    if size is not None and not schema.get(least, size) <= size <= schema.get(most, size):
        return False
    if type(value) is list:
        return all(is_valid(schema["items"], one) for one in value) if "items" in schema else True
    return _is_valid_map(schema, value) if type(value) is dict else True


def _is_valid_map(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not set(schema.get("required", ())) <= set(value):
        return False
    for name, one in value.items():
        if name in known:
            if not is_valid(known[name], one):
                return False
        elif others is False or (others is not True and not is_valid(others, one)):
            return False
    return True
