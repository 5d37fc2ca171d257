"""Channels at 0: samples before and after, beside a control of channels of middle size."""

from typing import Any

import pandas as pd
import streamlit as st

from analysis.channels_answer import biggest, middling, zeroing
from analysis.figures.interventions import GRID_HEIGHT, before_after_grid
from analysis.interventions import InterventionSettings, expected_seconds, intervened_samples
from analysis.interventions_change import change_sentence, chosen_images, paired
from analysis.samples import grey_range
from app.components.figure import show
from app.components.frame import answer, empty
from app.components.results import Results, results_of
from app.view import View
from mpdit_core.interventions import ZeroChannels
from mpdit_core.runs import Run

EVERYWHERE, HERE = "all", "here"
TOPS, CONTROL = "top", "control"
COUNTS = (1, 2, 4)

ZERO = (
    "The chosen channels at 0 in every forward pass while images are drawn. The control sets as "
    "many channels of middle size to 0: only what differs between the two belongs to the size."
)
GRID = (
    "The same images before and after, drawn from the same noise, and the difference: brown where "
    "a pixel became lighter, blue where darker, full colour for the whole grey range."
)


def zeroed(view: View, run: Run, rows: pd.DataFrame, place: tuple[str, str, int]) -> None:
    """The largest channels of a place at 0, and as many of middle size.

    rows: `top_channels` of the run at this place and a timestep; place: point, branch, block from
    0. Settings in the link: zero (how many), where, grid."""
    st.caption(ZERO)
    point, branch, block = place
    words = {EVERYWHERE: "after every branch", HERE: f"at block {block + 1} only"}
    names = {TOPS: "largest channels at 0", CONTROL: "control"}
    with st.container(horizontal=True, gap="medium"):
        count = view.choice("zero", "Channels at 0", list(COUNTS), kind="buttons")
        where = view.choice("where", "Where", list(words), kind="buttons", words=words.__getitem__)
        grid = view.choice("grid", "Images", list(names), kind="buttons", words=names.__getitem__)
    at_block = None if where == EVERYWHERE else block
    sets = {TOPS: biggest(rows, count), CONTROL: middling(rows, count, run.config.width)}
    if not all(sets.values()):
        empty(f"{run.name} has too few channels for a control.")
        return
    changes = {name: zeroing(channels, point, branch, at_block)
               for name, channels in sets.items()}  # fmt: skip
    samples = _drawn(view, run, changes)
    if samples is None:
        return
    before = samples["before"].table
    pairs = {name: paired(before, samples[name].table) for name in changes}
    for name, said in ((TOPS, "Largest"), (CONTROL, "Control")):
        answer(f"{said}. {change_sentence(changes[name], pairs[name], None)}")
    images = chosen_images(pairs[grid], False)
    title = f"{run.name}, {view.weights_name}: {names[grid]}"
    figure = before_after_grid(images, grey_range(run.data), title)
    show(figure, images.drop(columns=["pixels_before", "pixels_after"]), "images",
         [samples["before"], samples[grid]], definition=GRID)  # fmt: skip


def _drawn(
    view: View, run: Run, changes: dict[str, tuple[ZeroChannels, ...]]
) -> dict[str, Results] | None:
    """Samples before, with the largest channels at 0, and the control; one press computes all."""
    plain = InterventionSettings()
    seconds = max(1, round(3 * expected_seconds([run], plain)))
    cost = f"Sample {plain.n} images three times, about {seconds:,} s"
    found: dict[str, Results] = {}
    for name, interventions in changes.items():
        settings = plain.model_copy(update={"interventions": interventions})
        start: Any = "button" if name == TOPS else "now"
        part = results_of(intervened_samples, view, settings, runs=[run], start=start, cost=cost,
                          height=GRID_HEIGHT)  # fmt: skip
        if part is None:
            return None
        found[name] = part
    before = results_of(intervened_samples, view, plain, runs=[run], height=GRID_HEIGHT)
    return None if before is None else {**found, "before": before}
