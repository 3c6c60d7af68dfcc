"""Configuration from TOML: frozen, checked, unknown keys refused with the nearest known one named."""

from __future__ import annotations

import reprlib
import tomllib
import types
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from unblur.core.bounds import SEED_MAX, SIDE_MAX, THREADS_MAX
from unblur.core.errors import InputError, nearest
from unblur.core.reading import read_regular

FAULTS = 8
"""So many are named in one message."""


class Section(BaseModel):
    """Base of every table of a configuration file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, about: ValidationInfo) -> Any:
        """A number in quotes and true for a number are slips, and pydantic would take both."""
        kinds = _plain(cls.model_fields[about.field_name or ""].annotation)
        given = value if isinstance(value, list | tuple) else (value,)
        if kinds & {int, float} and not kinds & {str, Path}:
            if any(isinstance(one, str) and _is_number(one) for one in given):
                raise ValueError("is text; write the number without quotes")
            if bool not in kinds and any(isinstance(one, bool) for one in given):
                raise ValueError("is no number")
        if kinds == {bool} and not isinstance(value, bool):
            raise ValueError("write true or false, without quotes")
        return value


S = TypeVar("S", bound=Section)

Side = Annotated[int, Field(ge=16, le=SIDE_MAX)]
"""A height or width of frames, in pixels."""

Seed = Annotated[int, Field(ge=0, le=SEED_MAX)]
Threads = Annotated[int, Field(ge=0, le=THREADS_MAX)]


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file. Raises InputError for a file that is missing, no regular file or not TOML."""
    try:
        return tomllib.loads(read_regular(path).decode())
    except FileNotFoundError as error:
        raise InputError(f"Configuration {path} does not exist.") from error
    except OSError as error:
        raise InputError(f"Configuration {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # no TOML, no UTF-8, or a number of thousands of digits
        raise InputError(f"{path} is not TOML: {error}.") from error
    except RecursionError as error:
        raise InputError(f"{path} is nested too deep to be a configuration.") from error


def check(model: type[S], values: dict[str, Any], origin: str) -> S:
    """`values` as a configuration. Raises InputError naming `origin`, each faulty key, its value and the cure."""
    _refuse_nul(values, origin)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [_sentence(model, item) for item in error.errors()]
        more = f"; and {len(faults) - FAULTS} more" if len(faults) > FAULTS else ""
        raise InputError(f"{origin}: " + "; ".join(faults[:FAULTS]) + more) from error


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
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or lists in lists in lists
        raise InputError(f"--set {path}: {_shown(text)} is no value of a configuration.") from error
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
    return f"{where} = {_shown(item['input'])}: {item['msg'].removeprefix('Value error, ')}"


def _shown(value: Any) -> str:
    """A value as a message shows it: not ten thousand characters of it."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 200
    try:
        return short.repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"


def _refuse_nul(values: Any, origin: str) -> None:
    """No name of a file has a NUL, and what is behind one would be dropped in silence."""
    left = [values]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str) and "\0" in value:
            raise InputError(f"{origin}: {_shown(value)} has a NUL character in it; take it out.")


def _plain(annotation: Any) -> set[Any]:
    """The types inside an annotation such as `tuple[int, ...] | None`, without None."""
    if inner := get_args(annotation):
        return set().union(*map(_plain, inner))
    return {annotation} - {type(None)} if isinstance(annotation, type) else set()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
