"""Chapters of the page Quality: samples of runs trained on digits, and losses of any."""

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from analysis.copying import (
    CopySettings,
    closest_pairs,
    copying,
    copying_sentence,
    nearest_training,
)
from analysis.figures.copying import distance_panels, pairs_figure
from analysis.figures.loss_by_timestep import loss_figure
from analysis.figures.quality import quality_by_parameters, quality_by_run, sweep_panels
from analysis.loss_by_timestep import (
    LossSettings,
    compared_losses,
    finite_runs,
    loss_by_timestep,
    losses_sentence,
    mean_losses,
)
from analysis.quality import FRECHET, sample_quality
from analysis.quality_answers import (
    MARKS,
    modulation_table,
    parameters_sentence,
    quality_sentence,
    sweep_sentence,
    undiverged,
)
from analysis.quality_sweeps import (
    QUICK,
    SWEEPS,
    Sweep,
    floors,
    marks_at,
    over_runs,
    widths_left_out,
)
from analysis.report.chapter import Chapter, Figure, Part, Shown, Source, asked
from analysis.report.digits import no_digits
from analysis.report.runs import MARKS as DDPM
from analysis.samples import grey_range
from analysis.sweep_point import SweepPoint
from mpdit_core.runs import Run

DRAWN = f"DPM-Solver++, {QUICK.steps} steps"
TITLE = MARKS[FRECHET].title
LOSS = asked(loss_by_timestep, LossSettings())
NEAREST = asked(nearest_training, CopySettings(), sampled=True, lacking=no_digits)


def _judged(name: str, points: Callable[[Run, str], Sequence[SweepPoint]]) -> Source:
    partly = _few_widths if name == "quality-over-sigma" else lambda run: ""
    return Source(name, sample_quality, points, sampled=True, lacking=no_digits, partly=partly)


def _few_widths(run: Run) -> str:
    return " ".join(widths_left_out([run]))


BY_RUN = _judged("quality-by-run", lambda run, weights: over_runs([run], weights))


def _swept(sweep: Sweep) -> Callable[[Run, str], Sequence[SweepPoint]]:
    return lambda run, weights: sweep.points(run, weights, QUICK)


OVER = {name: _judged(f"quality-over-{name}", _swept(sweep)) for name, sweep in SWEEPS.items()}


def _by_run(shown: Shown) -> Figure:
    table = shown.table(BY_RUN)
    seeds = table[table["images"] == "samples"].reset_index(drop=True)
    other = shown.table(DDPM)
    full = None if other.empty else undiverged(marks_at(other))
    title = f"Quality of samples of {shown.weights}, {DRAWN}"
    return quality_by_run(marks_at(table), seeds, floors(table), full, title)


def _by_run_answer(shown: Shown) -> str:
    table = shown.table(BY_RUN)
    drawn = f"{shown.weights}, no guidance"
    return quality_sentence(marks_at(table), floors(table), FRECHET, drawn)


def _sweep(name: str, shown: Shown) -> Figure:
    table, sweep = shown.table(OVER[name]), SWEEPS[name]
    title = f"{TITLE} over {sweep.name}, {DRAWN}"
    return sweep_panels(marks_at(table), FRECHET, floors(table), sweep, title)


def _sweep_answer(name: str, shown: Shown) -> str:
    sweep = SWEEPS[name]
    marks = sweep.spoken_of(marks_at(shown.table(OVER[name])))
    return sweep_sentence(marks, FRECHET, sweep.where, sweep.name)


def _parameters(shown: Shown) -> Figure:
    table = shown.table(BY_RUN)
    title = f"{TITLE} against parameters, {DRAWN}"
    return quality_by_parameters(marks_at(table), FRECHET, floors(table), title)


def _parameters_answer(shown: Shown) -> str:
    return parameters_sentence(shown.runs, marks_at(shown.table(BY_RUN)), FRECHET)


def _ablation(shown: Shown) -> pd.DataFrame:
    return modulation_table(shown.runs, marks_at(shown.table(BY_RUN)))


def _losses(shown: Shown) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Means of losses that are all finite, beside the run that the others are compared with."""
    table, _ = finite_runs(shown.table(LOSS))
    there = set(table["run"])
    reference = next((name for name in shown.names if name in there), "")
    return mean_losses(table), compared_losses(table, reference), reference


def _no_losses(shown: Shown) -> str:
    return "" if _losses(shown)[-1] else "No run has losses that can be drawn."


def _loss(shown: Shown) -> Figure:
    return loss_figure(*_losses(shown))


def _loss_answer(shown: Shown) -> str:
    return losses_sentence(*_losses(shown))


def _copies(shown: Shown) -> Figure:
    table = shown.table(NEAREST)
    without = table.drop(columns=["pixels", "training_pixels"])
    title = f"Samples of {shown.weights} and held-out digits beside the training set"
    return distance_panels(without, copying(table), title)


def _copies_answer(shown: Shown) -> str:
    return copying_sentence(copying(shown.table(NEAREST)))


def _pairs(shown: Shown) -> Figure:
    name = shown.run.name
    pairs = closest_pairs(shown.own(NEAREST), name)
    title = f"Samples of {name} nearest to a training image"
    return pairs_figure(pairs, grey_range(shown.run.data), title)


PART = Part(
    "quality",
    "Quality",
    "How good are the samples, and are they new?",
    (
        Chapter("quality-by-run", "Quality of samples, run by run", (BY_RUN,), _by_run,
                _by_run_answer, beside=(DDPM,)),
        *(
            Chapter(f"quality-over-{name}", f"{TITLE} over {SWEEPS[name].name}", (source,),
                    partial(_sweep, name), partial(_sweep_answer, name))
            for name, source in OVER.items()
        ),
        Chapter("quality-parameters", "Quality against parameters", (BY_RUN,), _parameters,
                _parameters_answer, rows=_ablation),
        Chapter("loss-by-timestep", "Loss by timestep", (LOSS,), _loss, _loss_answer,
                lacking=_no_losses),
        Chapter("copying", "Distance to the training set", (NEAREST,), _copies, _copies_answer),
        Chapter("copying-pairs", "Samples nearest to a training image", (NEAREST,), _pairs,
                each_run=True),
    ),
)  # fmt: skip
