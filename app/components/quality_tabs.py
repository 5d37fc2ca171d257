"""Tabs of the page Quality: loss by timestep, distance to the training set."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.copying import (
    CopySettings,
    closest_pairs,
    copying,
    copying_sentence,
    nearest_training,
)
from analysis.figures.copying import distance_panels, pairs_figure
from analysis.figures.loss_by_timestep import loss_figure
from analysis.figures.panels import panels_height
from analysis.loss_by_timestep import (
    LossSettings,
    compared_losses,
    finite_runs,
    loss_by_timestep,
    losses_sentence,
    mean_losses,
)
from analysis.quality import EvaluateSettings
from analysis.quality_sweeps import expected_cost
from analysis.samples import grey_range
from analysis.sweep_point import SweepPoint
from app.components.built import built
from app.components.cards import seconds_in_words
from app.components.figure import show
from app.components.frame import empty, plain, scrolling
from app.components.results import derived, results_of
from app.view import View
from mpdit_core.runs import Run

LOSS = (
    "Squared error of the predicted noise, mean over pixels and held-out images; 1 is what "
    "predicting nothing gives. Every run sees the same images and noise, so runs are compared in "
    "pairs: bars at the right are 95 % intervals."
)
LOSS_FORMULA = r"""$\lVert\hat\epsilon(x_t, t, y) - \epsilon\rVert^2$ over pixels with
$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$; right the ratio of the means,
with the interval of a ratio of paired means."""
COPIES = (
    "Euclidean distance to the nearest training image, in standard deviations of the data. Filled: "
    "samples; grey and dotted: held-out digits; lines: their means. Copies would pile up at 0."
)
COPIES_FORMULA = (
    r"$\min_j \lVert x - x_j\rVert$ over all training images $x_j$, pixels in standard deviations "
    "of the data; the interval of the difference of two means is Welch's."
)
PAIRS = "The samples nearest to a training image, each above that image, nearest first."


def losses(view: View) -> None:
    """Held-out loss by timestep, beside that of a reference run."""
    results = results_of(loss_by_timestep, view, LossSettings())
    if results is None:
        return
    table, broken = derived(finite_runs, [results])
    for sentence in broken:
        st.caption(plain(sentence))
    drawable = set(table["run"].unique())
    names = [run.name for run in view.runs if run.name in drawable]
    if not names:
        empty("No chosen run has losses that can be drawn.")
        return
    with st.columns([1, 3])[0]:
        reference = view.choice("reference", "Compared with", names, names[0])
    means, compared = derived(_beside, [results], reference)
    st.markdown(plain(losses_sentence(means, compared, reference)))
    figure = built(loss_figure, means, compared, reference)
    drawn = means if compared.empty else means.merge(
        compared, how="left", on=["run", "timestep"], suffixes=("", "_relative")
    )  # fmt: skip
    show(figure, drawn, "losses", results, definition=LOSS, formula=LOSS_FORMULA)


def _beside(table: pd.DataFrame, reference: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    finite, _ = finite_runs(table)
    return mean_losses(finite), compared_losses(finite, reference)


def copies(view: View, runs: Sequence[Run], quality: EvaluateSettings) -> None:
    """Whether samples lie nearer to the training set than held-out images do."""
    settings = CopySettings.model_validate(quality.model_dump())
    cost = expected_cost([SweepPoint(run, str(view.weights), settings) for run in runs])
    results = results_of(
        nearest_training, view, settings, runs=runs, start="button",
        cost=f"Sample {settings.n * len(settings.seeds):,} images a run, {seconds_in_words(cost)}",
        height=panels_height(len(runs)),
    )  # fmt: skip
    if results is None:
        return
    table, found = results.table, derived(copying, [results])
    st.markdown(plain(copying_sentence(found)))
    without = table.drop(columns=["pixels", "training_pixels"])
    title = f"Samples of {view.weights_name} and held-out digits beside the training set"
    figure = built(distance_panels, without, found, title)
    show(figure, found, "copying", results, definition=COPIES, formula=COPIES_FORMULA)
    names = [str(name) for name in found["run"]]
    with st.columns([1, 3])[0]:
        name = view.choice("pairs", "Nearest pairs of", names, names[-1])
    pairs = closest_pairs(table, name)
    title = f"Samples of {name} nearest to a training image"
    figure = pairs_figure(pairs, grey_range(view.library.run(name).data), title)
    without = pairs.drop(columns=["pixels", "training_pixels"])
    with scrolling("quality-pairs"):
        show(figure, without, "pairs", results, definition=PAIRS)
