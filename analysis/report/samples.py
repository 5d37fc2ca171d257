"""Chapters of the page Samples."""

import pandas as pd

from analysis.figures.samples import samples_grid
from analysis.report.chapter import Chapter, Figure, Part, Shown, asked
from analysis.samples import SampleSettings, grey_range, pixel_correlations, sampled_images
from mpdit_core.runs import Run
from mpdit_core.sampling import SAMPLERS

ALL_LABELS, COLUMNS = 20, 10
"""A run with at most so many labels has all of them drawn; so many are shown."""


def _settings(run: Run) -> SampleSettings:
    every = run.config.classes <= ALL_LABELS
    return SampleSettings(labels=() if every else tuple(range(COLUMNS)))


DRAWN = asked(sampled_images, _settings, sampled=True)


def _finished(shown: Shown) -> pd.DataFrame:
    table = shown.table(DRAWN)
    last = table["step"] == table["step"].max()
    return table[last & (table["label"] < COLUMNS)].reset_index(drop=True)


def _grid(shown: Shown) -> Figure:
    asked_for = SampleSettings()
    sampler = f"{SAMPLERS[asked_for.sampler]}, {asked_for.steps:,} steps"
    title = f"Samples of {shown.weights}, guidance {asked_for.guidance:g}, {sampler}"
    return samples_grid(_finished(shown), grey_range(shown.runs[0].data), title)


def _pairs(shown: Shown) -> pd.DataFrame:
    return pixel_correlations(_finished(shown))


PART = Part(
    "samples",
    "Samples",
    "What do the runs draw from the same noise?",
    (
        Chapter("samples", "Samples from the same noise", (DRAWN,), _grid),
        Chapter("sample-correlations", "How alike two runs draw", (DRAWN,), rows=_pairs),
    ),
)
