"""Pydantic models of a tool's parameters and of its result, for frameworks that want classes.

Needs pydantic, which every framework brings along; it is imported when a model is asked for.
"""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal

from asys.tools.catalog import ToolSpec

if TYPE_CHECKING:
    from pydantic import BaseModel

_BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
    "pattern": "pattern",
}
_PLAIN: dict[str, type] = {"integer": int, "number": float, "boolean": bool, "string": str}


def parameters_model(spec: ToolSpec) -> type[BaseModel]:
    """A model of what the tool takes; it refuses arguments that the tool does not have."""
    return model_of(_camel(spec.name) + "Parameters", spec.parameters)


def result_model(spec: ToolSpec) -> type[BaseModel]:
    """A model of the `data` of a result that is ok."""
    return model_of(_camel(spec.name) + "Result", spec.result_schema)


def model_of(name: str, schema: dict[str, Any]) -> type[BaseModel]:
    """A model of an object, by a JSON Schema such as `asys.tools.schema` makes."""
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {}
    for key, one in schema["properties"].items():
        annotation = annotation_of(f"{name}{_camel(key)}", one)
        fields[key] = (annotation, ... if key in schema["required"] else one["default"])
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def annotation_of(name: str, schema: dict[str, Any]) -> Any:
    """The type of one value, with its bounds and its description; `name` is for inner models."""
    from pydantic import Field

    bounds: dict[str, Any] = {_BOUNDS[key]: schema[key] for key in _BOUNDS if key in schema}
    return Annotated[_type_of(name, schema, bounds), Field(description=schema.get("description"))]


def _type_of(name: str, schema: dict[str, Any], bounds: dict[str, Any]) -> Any:
    from pydantic import Field

    kind = schema["type"]
    if isinstance(kind, list):  # it may be null
        (only,) = (one for one in kind if one != "null")
        return _type_of(name, {**schema, "type": only}, bounds) | None
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if kind == "object":
        return model_of(name, schema)
    plain: Any = (
        GenericAlias(list, annotation_of(name, schema["items"]))
        if kind == "array"
        else _PLAIN[kind]
    )
    return Annotated[plain, Field(**bounds)] if bounds else plain


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
