"""Chapters of the page Runs."""

import pandas as pd

from analysis.figures.learning_curves import learning_curves
from analysis.figures.samples import samples_grid
from analysis.quality import EvaluateSettings, sample_quality, summary
from analysis.report.chapter import Chapter, Figure, Part, Shown, asked
from analysis.report.digits import no_digits
from analysis.runs_overview import AVERAGED, HELD_OUT, TRAINING, learning_curves_of, overview
from analysis.runs_overview import with_quality as joined
from analysis.samples import STRIP, grey_range, sampled_images
from mpdit_core.runs import Run

MARKS = asked(sample_quality, EvaluateSettings(), name="quality-ddpm", sampled=True,
              lacking=no_digits)  # fmt: skip


def _too_few_labels(run: Run) -> str:
    most = max(STRIP.labels)
    return "" if run.config.classes > most else f"{run.name} has no label {most}."


SIX = asked(sampled_images, STRIP, name="six-samples", sampled=True, lacking=_too_few_labels)


def _overview(shown: Shown) -> pd.DataFrame:
    marks = shown.table(MARKS)
    return joined(overview(shown.runs), None if marks.empty else summary(marks))


def _curves(shown: Shown) -> pd.DataFrame:
    return pd.concat([learning_curves_of(run) for run in shown.runs], ignore_index=True)


def _no_log(shown: Shown) -> str:
    return "" if len(_curves(shown)) else "None of the runs has a training log (metrics.jsonl)."


def _curves_figure(shown: Shown) -> Figure:
    table = _curves(shown)
    known = set(table["part"])
    bold = next((part for part in (AVERAGED, HELD_OUT) if part in known), HELD_OUT)
    rows = table[table["part"].isin((TRAINING, bold))].reset_index(drop=True)
    return learning_curves(rows, bold)


def _six(shown: Shown) -> Figure:
    title = f"Six samples a run, {shown.weights}, no guidance"
    return samples_grid(shown.table(SIX), grey_range(shown.runs[0].data), title)


PART = Part(
    "runs",
    "Runs",
    "Which runs are here, and how good are they?",
    (
        Chapter("overview", "What each run is", (), rows=_overview, beside=(MARKS,)),
        Chapter("learning-curves", "Loss over training", (), _curves_figure, rows=_curves,
                lacking=_no_log),
        Chapter("six-samples", "Six samples a run", (SIX,), _six),
    ),
)  # fmt: skip
