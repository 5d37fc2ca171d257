"""Chapters of the page Compare: every run against the first."""

import pandas as pd

from analysis.compare import CompareSettings, compared_statistics
from analysis.compare_answer import Names, difference_sentence, with_words
from analysis.compare_difference import differences, largest_of_each
from analysis.figures.compare import difference_dots
from analysis.report.chapter import Chapter, Figure, Part, Shown, asked

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


PART = Part(
    "compare",
    "Compare",
    "What differs between two runs, or two sets of weights of one, and where most?",
    (
        Chapter("differences", "Where a run differs most from the first", (STATISTICS,), _dots,
                _answer, each_run=True, lacking=_first),
    ),
)  # fmt: skip
