"""What differs in the configuration of two runs, field by field."""

from typing import Any

import pandas as pd

from mpdit_core.runs import Run

COLUMNS = ("part", "field", "base", "other")


def configuration_differences(base: Run, other: Run) -> pd.DataFrame:
    """One row per field of model, data and training that differs.

    Columns: part (model, data, training), field, base, other (values in words; `not known` where a
    run does not say, `none` for nothing)."""
    rows = []
    for part in ("model", "data", "training"):
        left, right = _fields(base, part), _fields(other, part)
        for name in dict.fromkeys([*left, *right]):
            ends = (_in_words(left, name), _in_words(right, name))
            if ends[0] != ends[1]:
                rows.append((part, name, *ends))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _fields(run: Run, part: str) -> dict[str, Any]:
    settings = {"model": run.config, "data": run.data, "training": run.training}[part]
    return {} if settings is None else settings.model_dump(exclude={"folder"})


def _in_words(fields: dict[str, Any], name: str) -> str:
    if name not in fields:
        return "not known"
    value = fields[name]
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def configuration_sentence(table: pd.DataFrame, names: tuple[str, str]) -> str:
    """How many fields differ, by part; table: `configuration_differences`; names: base, other."""
    if table.empty:
        return f"{names[0]} and {names[1]} have the same configuration in every field."
    counts = table["part"].value_counts(sort=False)
    told = ", ".join(f"{count} of the {part}" for part, count in counts.items())
    fields = "field differs" if len(table) == 1 else "fields differ"
    return f"{len(table)} {fields} between {names[0]} and {names[1]}: {told}."
