"""What do the runs draw from the same noise (figure 2 of the paper)?"""

import pandas as pd
import streamlit as st

from analysis.figures.samples import grid_height, samples_grid, samples_png
from analysis.samples import (
    FINISHED,
    SampleSettings,
    expected_seconds,
    grey_range,
    pixel_correlations,
    sampled_images,
)
from analysis.tables import spread_out
from app.components import View, answer, question, results_of, scrolling, show
from mpdit_core.sampling import SAMPLERS

ALL_LABELS = 20
"""A run with at most this many labels has all of them drawn; of more, only the chosen ones."""

DEFINITION = (
    "Every image starts as noise and is denoised step by step; guidance exaggerates what the label "
    "adds to the predicted noise (1 = no guidance)."
)
FORMULA = r"""$\epsilon = \epsilon_\varnothing + w\,(\epsilon_\text{label} - \epsilon_\varnothing)$,
$w$ the guidance, $\varnothing$ the null label ("no class"). The noise is fixed by the seed and the
number of the image alone: every run starts a column from the same. Grey values beyond the range of
the data are drawn as its ends."""


def page(view: View) -> None:
    question("What do the runs draw from the same noise?")
    place = st.container()
    settings, labels = _settings(view)
    height = grid_height(len(view.runs))
    results = results_of(
        sampled_images, view, settings, start="button", cost=_cost(view, settings), height=height
    )
    if results is None:
        return
    table = results.table[results.table["label"].isin(labels)]
    if table.empty:
        place.info("Choose at least one label that the runs have.")
        return
    shown = table[table["step"] == _step(view, table)]
    grey = grey_range(view.runs[0].data)
    title = _title(view, settings, shown)
    with place:
        answer(_answer(shown))
    with scrolling("samples-grid"):
        figure = samples_grid(shown, grey, title)
        pixels = spread_out(shown.rename(columns={"pixels": "pixel"}))
        show(figure, pixels, "samples", results, definition=DEFINITION, formula=FORMULA)
    st.download_button(
        "PNG of this grid",
        lambda: samples_png(shown, grey, title),
        "samples.png",
        "image/png",
        key="png/samples",
        on_click="ignore",
    )


def _settings(view: View) -> tuple[SampleSettings, list[int]]:
    """What is sampled, and the labels shown of it."""
    columns = st.columns([3, 4, 3, 3, 6])
    with columns[0]:
        guidance = view.number("guidance", "Guidance", 0.0, 50.0, 5.0, 0.5, format="%.1f")
    with columns[1]:
        sampler = view.choice("sampler", "Sampler", list(SAMPLERS), words=SAMPLERS.__getitem__)
    with columns[2]:
        steps = view.number("steps", "Steps", 1, 1000, 250, 1)
    with columns[3]:
        seed = view.number("seed", "Seed", 0, 999_999, 0, 1, help="Fixes the starting noise.")
    with columns[4]:
        labels = view.several("labels", "Labels", *_labels(view))
    known = max(run.config.classes for run in view.runs) <= ALL_LABELS
    drawn = () if known else tuple(labels)
    settings = SampleSettings(
        guidance=guidance, sampler=sampler, steps=steps, seed=seed, labels=drawn
    )
    return settings, labels


def _labels(view: View) -> tuple[list[int], list[int]]:
    """The labels that every run in view has, and the first ten of them."""
    labels = list(range(min(run.config.classes for run in view.runs)))
    return labels, labels[:10]


def _cost(view: View, settings: SampleSettings) -> str:
    images = sum(len(settings.labels) or run.config.classes for run in view.runs)
    seconds = max(1, round(expected_seconds(view.runs, settings)))
    return f"Sample {images:,} images, about {seconds:,} s"


def _step(view: View, table: pd.DataFrame) -> int:
    """Where on the way from noise to image all of them are looked at: steps done."""
    timesteps = dict(zip(table["step"], table["timestep"], strict=True))
    steps = sorted(timesteps)
    help = "The state after so many denoising steps; moving along it computes nothing."
    return view.choice(
        "step",
        "Along the trajectory, from noise to image",
        steps,
        steps[-1],
        kind="slider",
        words=lambda step: _moment(timesteps[step]),
        help=help,
    )


def _moment(timestep: int) -> str:
    return "image" if timestep == FINISHED else f"t = {timestep}"


def _title(view: View, settings: SampleSettings, shown: pd.DataFrame) -> str:
    moment = _moment(int(shown["timestep"].iloc[0])).replace("image", "finished images")
    guidance = f"guidance {settings.guidance:g}" if settings.guidance != 1 else "no guidance"
    sampler = f"{SAMPLERS[settings.sampler]}, {settings.steps:,} steps"
    return f"Samples of {view.weights_name}, {guidance}, {sampler}: {moment}"


def _answer(shown: pd.DataFrame) -> str:
    """How alike the runs draw, in numbers of the table."""
    pairs = pixel_correlations(shown)
    images = shown["label"].nunique()
    moment = _moment(int(shown["timestep"].iloc[0])).replace("image", "the end")
    if pairs.empty:
        run = shown["run"].iloc[0]
        return f"{run} draws {images} labels; choose a second run to see what the same noise gives."
    most, least = pairs.iloc[0], pairs.iloc[-1]
    first = f"At {moment}, {most.run} and {most.other} draw most alike"
    value = f"(pixel correlation {most.value:.2f}, mean over {most.n} images)"
    if len(pairs) == 1:
        return f"At {moment} the images of {most.run} and {most.other} have a {value[1:-1]}."
    return f"{first} {value}, {least.run} and {least.other} least ({least.value:.2f})."
