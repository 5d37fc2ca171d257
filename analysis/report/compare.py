"""Chapters of the page Compare: every run against the first."""

from functools import lru_cache

import pandas as pd

from analysis.compare import CompareSettings, compared_statistics
from analysis.compare_answer import Names, difference_sentence, with_words
from analysis.compare_configuration import configuration_differences, configuration_sentence
from analysis.compare_difference import differences, largest_of_each
from analysis.compare_weights import (
    measured,
    weight_differences_from,
    weights_base,
    weights_sentence,
)
from analysis.figures.compare import difference_dots, weights_dots
from analysis.report.chapter import Chapter, Figure, Part, Shown, asked
from mpdit_core.runs import Run

STATISTICS = asked(compared_statistics, CompareSettings())
MOST = 15


def _names(shown: Shown) -> Names:
    return shown.runs[0].name, shown.run.name


def _first(shown: Shown) -> str:
    if shown.run is not shown.runs[0]:
        return ""
    return f"{shown.run.name} is what the other runs are compared with."


def _differences(shown: Shown) -> pd.DataFrame:
    first = shown.of(shown.runs[0])
    return with_words(differences(first.own(STATISTICS), shown.own(STATISTICS)))


def _dots(shown: Shown) -> Figure:
    table, names = _differences(shown), _names(shown)
    title = f"Where {names[1]} differs most from {names[0]}"
    return difference_dots(largest_of_each(table).head(MOST), table, names, title)


def _answer(shown: Shown) -> str:
    return difference_sentence(_differences(shown), _names(shown))


def _configurations(shown: Shown) -> pd.DataFrame:
    tables = [_of_run(configuration_differences(shown.runs[0], run), run) for run in shown.runs[1:]]
    return pd.concat(tables, ignore_index=True)


def _of_run(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    table.insert(0, "run", run.name)
    return table


def _configuration_answer(shown: Shown) -> str:
    base, *others = shown.runs
    return " ".join(
        configuration_sentence(configuration_differences(base, run), (base.name, run.name))
        for run in others
    )


def _alone(shown: Shown) -> str:
    return "" if len(shown.runs) > 1 else f"{shown.run.name} is the only run."


def _apart(shown: Shown) -> pd.DataFrame:
    """How far the weights of the run in focus are from the first run's."""
    sides = (shown.runs[0], shown.run)
    return _apart_from(*sides, *(shown.reported[run.name] for run in sides))


@lru_cache(maxsize=64)
def _apart_from(base: Run, run: Run, base_weights: str, weights: str) -> pd.DataFrame:
    """Kept, because figure, answer and table of a run ask for it in turn."""
    return weight_differences_from(base, base_weights)(
        run, weights, weights_base(base, base_weights)
    )


def _every_apart(shown: Shown) -> pd.DataFrame:
    return pd.concat([_apart(shown.of(run)) for run in shown.runs[1:]], ignore_index=True)


def _weights_dots(shown: Shown) -> Figure:
    names = _names(shown)
    title = f"How {names[1]} turned and grew against {names[0]}"
    return weights_dots(measured(_apart(shown)), names, title)


def _nothing_shared(shown: Shown) -> str:
    if reason := _first(shown):
        return reason
    shared = len(measured(_apart(shown)))
    return "" if shared else weights_sentence(_apart(shown), _names(shown))


PART = Part(
    "compare",
    "Compare",
    "What differs between two runs, or two sets of weights of one, and where most?",
    (
        Chapter("differences", "Where a run differs most from the first", (STATISTICS,), _dots,
                _answer, each_run=True, lacking=_first),
        Chapter("configurations", "Configuration beside the first run's", (),
                answer=_configuration_answer, rows=_configurations, lacking=_alone),
        Chapter("weights-beside", "Weights beside the first run's", (), _weights_dots,
                lambda shown: weights_sentence(_apart(shown), _names(shown)), each_run=True,
                lacking=_nothing_shared),
        Chapter("weights-of-all", "Every parameter beside the first run's", (),
                rows=_every_apart, lacking=_alone),
    ),
)  # fmt: skip
