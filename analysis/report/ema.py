"""Chapters of the page EMA: the first width that nobody tracked."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from analysis.ema_health import HealthSettings, ema_health
from analysis.ema_profiles import (
    FIRST_WIDTH,
    CoefficientSettings,
    DecaySettings,
    LengthSettings,
    ProfileSettings,
    compared_samples,
    ema_coefficients,
    ema_decay,
    ema_length,
    ema_profile,
)
from analysis.figures import ema as figures
from analysis.figures.samples import samples_grid
from analysis.report.chapter import Chapter, Figure, Part, Shown, Source, asked
from analysis.samples import SampleSettings, grey_range, sampled_images
from mpdit_core.runs import Run, Weights


def _no_averages(run: Run) -> str:
    return "" if run.ema_files else f"{run.name} keeps no EMA (averaged weights)."


def _settings(run: Run) -> SampleSettings:
    return compared_samples(run.config.classes)


_WIDTH = (FIRST_WIDTH,)
PROFILE = asked(ema_profile, ProfileSettings(), weights=_WIDTH, lacking=_no_averages)
DECAY = asked(ema_decay, DecaySettings(), weights=_WIDTH, lacking=_no_averages)
MIX = asked(ema_coefficients, CoefficientSettings(), weights=_WIDTH, lacking=_no_averages)
LENGTH = asked(ema_length, LengthSettings(), weights=_WIDTH, lacking=_no_averages)
HEALTH = asked(ema_health, HealthSettings(), weights=("final",), lacking=_no_averages)
SAMPLES = asked(sampled_images, _settings, name="ema-samples", weights=(FIRST_WIDTH, "final"),
                sampled=True, lacking=_no_averages)  # fmt: skip


def _own(source: Source, shown: Shown, draw: Callable[[pd.DataFrame], Figure]) -> Figure:
    return draw(shown.own(source))


def _samples(shown: Shown) -> Figure:
    table, name = shown.own(SAMPLES), shown.run.name
    words = {text: "raw" if text == "final" else Weights.parse(text).words
             for text in table["weights"].unique()}  # fmt: skip
    rows = table.assign(run=name + ", " + table["weights"].map(words))
    title = f"Samples of {name}: {Weights.parse(FIRST_WIDTH).words} and raw weights"
    return samples_grid(rows, grey_range(shown.run.data), title)


def _no_width(shown: Shown) -> str:
    if shown.table(HEALTH)["width"].notna().any():
        return ""
    return "No file has earlier raw checkpoints beside it; its width is not known."


def _widths(shown: Shown) -> Figure:
    return figures.real_widths(shown.table(HEALTH))


def _lengths(shown: Shown) -> Figure:
    return figures.lengths(shown.table(LENGTH))


PART = Part(
    "ema",
    "EMA",
    "Are the averages what they are called, and how well is any other reconstructed?",
    (
        Chapter("ema-profile", "Ideal and reconstructed profile", (PROFILE,),
                partial(_own, PROFILE, draw=figures.profiles), each_run=True),
        Chapter("ema-decay", "Decay factors", (DECAY,),
                partial(_own, DECAY, draw=figures.decay_factors), each_run=True),
        Chapter("ema-samples", "Samples of the average and of the raw weights", (SAMPLES,),
                _samples, each_run=True),
        Chapter("ema-widths", "Real width of every EMA file", (HEALTH,), _widths,
                lacking=_no_width),
        Chapter("ema-coefficients", "What each snapshot is multiplied by", (MIX,),
                partial(_own, MIX, draw=figures.coefficients), each_run=True),
        Chapter("ema-length", "Length of averaged weights", (LENGTH,), _lengths),
    ),
)  # fmt: skip
