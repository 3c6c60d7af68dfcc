"""Configuration from TOML: frozen, checked, unknown keys refused with the nearest known one named."""

from __future__ import annotations

import tomllib
import types
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from unblur.core.errors import InputError, nearest


class Section(BaseModel):
    """Base of every table of a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises InputError for a file that is missing, a folder or not TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        raise InputError(f"Configuration {path} does not exist.") from error
    except IsADirectoryError as error:
        raise InputError(f"Configuration {path} is a directory; name a .toml file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}.") from error


def check(model: type[S], values: dict[str, Any], origin: str) -> S:
    """`values` as a configuration. Raises InputError naming `origin`, each faulty key, its value and the cure."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{origin}: " + "; ".join(_sentence(model, item) for item in error.errors())) from error


def set_value(values: dict[str, Any], assignment: str) -> None:
    """Apply "section.key=value" (a TOML value; anything that is none is taken as text) to nested tables.

    Raises InputError for another form.
    """
    path, equals, text = assignment.partition("=")
    *tables, key = path.strip().split(".")
    if not equals or not key:
        raise InputError(f"--set {assignment}: write SECTION.KEY=VALUE, such as graph.height=128.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {assignment}: {table} is a value, not a section.")
    values[key] = value


def _sentence(model: type[BaseModel], item: Any) -> str:
    """One fault of a ValidationError, in words."""
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"unknown key {where!r}{nearest(str(item['loc'][-1]), _fields(model, item['loc'][:-1]))}"
    if item["type"] == "missing":
        return f"key {where!r} is missing"
    return f"{where} = {item['input']!r}: {item['msg'].removeprefix('Value error, ')}"


def _fields(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Keys that a table knows, following `path` through sections, tuples and tables of sections."""
    for part in path:
        if part in model.model_fields:
            inner = _section(model.model_fields[part].annotation)
            model = inner or model
    return list(model.model_fields)


def _section(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as `Section`, `Section | None`, `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, tuple, list, dict) or get_origin(annotation):
        return next((found for arg in get_args(annotation) if (found := _section(arg))), None)
    return None
