"""What stands out in the runs in view: sentences computed from the tables of all pages.

Every measure is compared between runs, or before and after a change of one run. The largest ratio
of each whose interval leaves out 1 becomes a sentence. All intervals hold together with 95 %: each
is widened for the number of comparisons made (Bonferroni), because the largest of many is chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd
from pydantic import BaseModel

from analysis.estimates import Estimate, Ratio
from analysis.question import Question
from mpdit_core.config import ModelConfig
from mpdit_core.words import listed

CONFIDENCE = 0.95
MOST = 5
"""Sentences that anyone reads."""


@dataclass(frozen=True)
class Measure:
    """One thing that can differ. asked: the tables it needs, as pages ask for them.

    estimates(tables) -> what was measured, by run, or (before, after) by run where `within`.
    words(larger, smaller, their numbers) -> the sentence up to its interval. applies: to which
    models it can be put."""

    name: str
    asked: tuple[tuple[Question, BaseModel], ...]
    estimates: Callable[[Sequence[pd.DataFrame]], Mapping[str, Any]]
    words: Callable[[str, str, float, float], str]
    unit: str
    within: bool = False
    applies: Callable[[ModelConfig], bool] = lambda config: True


@dataclass(frozen=True)
class Finding:
    """A sentence, and what it speaks of. runs: the one that is larger first; of a change within
    a run, that run alone."""

    measure: str
    runs: tuple[str, ...]
    sentence: str
    ratio: Ratio


@dataclass(frozen=True)
class Findings:
    """The sentences, largest effect first, and what became of everything that was compared.

    uncertain: measures in which no two runs differ beyond chance; absent: those whose tables
    are not there."""

    found: tuple[Finding, ...]
    comparisons: int
    uncertain: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


Tables = Mapping[str, Sequence[pd.DataFrame] | None]
"""Name of a measure -> its tables over all runs in view, in the order it asks; None if absent."""


def findings(measures: Sequence[Measure], tables: Tables, most: int = MOST) -> Findings:
    """The most striking differences in these tables."""
    present = [measure for measure in measures if tables.get(measure.name) is not None]
    absent = tuple(measure.name for measure in measures if measure not in present)
    compared = {measure.name: _compared(measure, tables[measure.name] or ()) for measure in present}
    count = sum(map(len, compared.values()))
    level = 1 - (1 - CONFIDENCE) / max(count, 1)
    found, uncertain = [], []
    for measure in present:
        ratios = [
            _finding(measure, runs, *sides, level) for runs, sides in compared[measure.name].items()
        ]
        certain = [one for one in ratios if one.ratio.certain]
        if certain:
            found.append(max(certain, key=lambda one: one.ratio.effect))
        elif ratios:
            uncertain.append(measure.name)
    found.sort(key=lambda one: one.ratio.effect, reverse=True)
    return Findings(tuple(found[:most]), count, tuple(uncertain), absent)


def scope(found: Findings) -> str:
    """What was compared, what came out equal, and what is not known, in words."""
    if not found.comparisons:
        return ""
    said = (
        f"Largest effect first, of {found.comparisons} comparisons; the intervals hold together "
        "with 95 %."
    )
    if found.uncertain:
        said += f" No difference beyond chance: {listed(found.uncertain)}."
    if found.absent:
        said += f" Not computed for these weights yet: {listed(found.absent)}."
    return said


def as_table(found: Findings) -> pd.DataFrame:
    """One row a sentence: measure, larger, smaller (runs; the same within a run), factor, low,
    high, n, sentence."""
    rows = [
        (one.measure, one.runs[0], one.runs[-1], one.ratio.value, one.ratio.low, one.ratio.high,
         one.ratio.n, one.sentence)
        for one in found.found
    ]  # fmt: skip
    names = ["measure", "larger", "smaller", "factor", "low", "high", "n", "sentence"]
    return pd.DataFrame(rows, columns=names)


Sides = tuple[Estimate, Estimate]


def _compared(measure: Measure, tables: Sequence[pd.DataFrame]) -> dict[tuple[str, ...], Sides]:
    """Runs that are compared -> their two sides."""
    estimates = measure.estimates(tables)
    if measure.within:
        return {(run,): sides for run, sides in estimates.items()}
    return {pair: (estimates[pair[0]], estimates[pair[1]]) for pair in combinations(estimates, 2)}


def _finding(measure: Measure, runs: tuple[str, ...], a: Any, b: Any, level: float) -> Finding:
    """The sentence for two sides; of two runs the larger first."""
    if not measure.within and b.value > a.value:
        a, b, runs = b, a, runs[::-1]
    ratio = a.ratio(b, level)
    told = measure.words(runs[0], runs[-1], a.shown, b.shown)
    sentence = (
        f"{told}; a factor of {ratio.value:.3g} ({ratio.low:.3g} to {ratio.high:.3g}, "
        f"{ratio.n:,} {measure.unit})"
    )
    return Finding(measure.name, runs, sentence, ratio)
