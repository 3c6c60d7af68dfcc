"""Read a report that `unblur compare` or `unblur run` wrote, and the schema that says what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unblur.compare.report import Report
from unblur.core.errors import InputError
from unblur.core.reading import read_json


def load_report(path: Path | str) -> Report:
    """The comparison in a `report.json`, or in the folder that holds one, checked field by field; without pictures.

    Raises InputError for a file that is missing, no JSON, no comparison, or one of another version of unblur.
    """
    file = Path(path)
    file = file / "report.json" if file.is_dir() else file
    values = read_json(file)
    form = Report.model_fields["form"].default
    if not isinstance(values, dict) or values.get("form") != form:
        found = values.get("form") if isinstance(values, dict) else None
        raise InputError(f"{file} is no report of a comparison: its form is {found!r}, not {form!r}; compare again.")
    return checked(values, str(file))


def checked(values: dict[str, Any], name: str) -> Report:
    """The report of these values. Raises InputError, naming the first field that is not as the schema says."""
    try:
        return Report.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(f"{name} is no whole report: {place}: {first['msg']}; compare again.") from error


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of report.json; `compare/report.schema.json` is this."""
    found = Report.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
