"""The chapter that the report opens with: what stands out, from tables of the pages after it."""

from collections.abc import Mapping

import pandas as pd

from analysis.findings import Findings, Measure, as_table, findings, scope
from analysis.findings_measures import MEASURES
from analysis.report import attention, channels, interventions, magnitudes, quality
from analysis.report.chapter import Chapter, Shown, Source
from mpdit_core.runs import Run

SOURCES: Mapping[str, tuple[Source, ...]] = {
    "growth of the stream": (magnitudes.TRAINED,),
    "largest channel of the stream": (channels.SPREAD,),
    "output shared by all tokens": (channels.MEANS,),
    "spread of attention": (attention.HEADS,),
    "samples misread": (quality.BY_RUN,),
    "held-out loss": (quality.LOSS,),
    "distance to training images": (quality.NEAREST,),
    "skipping the MLP of block 3": (interventions.BEFORE, interventions.AFTER["skip"]),
    "leaving out the rotation": (interventions.BEFORE, interventions.AFTER["rotation"]),
}
"""Measure -> the tables it is read from, in the order in which it asks for them."""


def _findings(shown: Shown) -> Findings:
    measures = [m for m in MEASURES if any(m.applies(run.config) for run in shown.runs)]
    return findings(measures, {measure.name: _tables(measure, shown) for measure in measures})


def _tables(measure: Measure, shown: Shown) -> list[pd.DataFrame] | None:
    """The measure's tables, of the runs that have them all; None where no run has."""
    tables = [shown.table(source) for source in SOURCES[measure.name]]
    there = [set() if table.empty else set(table["run"]) for table in tables]
    runs = [
        run.name
        for run in shown.runs
        if all(run.name in names for names in there) and _asks_that(measure, run)
    ]
    return [table[table["run"].isin(runs)] for table in tables] if runs else None


def _asks_that(measure: Measure, run: Run) -> bool:
    """Whether the report asks this run what the measure asks; what is skipped depends on depth."""
    pairs = zip(SOURCES[measure.name], measure.asked, strict=True)
    return measure.applies(run.config) and all(
        settings in [point.settings for point in source.points(run, "final")]
        for source, (_, settings) in pairs
    )


def _answer(shown: Shown) -> str:
    found = _findings(shown)
    told = [f"{one.sentence}." for one in found.found]
    return " ".join([*told, scope(found)]) or "No two runs can be compared."


CHAPTER = Chapter(
    "findings", "What stands out", (), answer=_answer,
    rows=lambda shown: as_table(_findings(shown)),
    beside=tuple({source.name: source for of in SOURCES.values() for source in of}.values()),
)  # fmt: skip
