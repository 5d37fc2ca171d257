"""Which blocks carry the class at which timestep, through which signals, from which patches?"""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from analysis.attribution import (
    AttributionSettings,
    EmbeddingSettings,
    class_carriers,
    embedding_attribution,
)
from analysis.attribution_answer import (
    MEASURES,
    ablation_sentence,
    at_timestep,
    carriers_answer,
    concentration,
    concentration_sentence,
    effect_by_label,
    gap_words,
    largest_gap,
    mean_effect,
    of_image,
    of_label,
    patch_limit,
    patch_sentence,
    positive_limits,
    shares,
    single_signals,
    whole_blocks,
)
from analysis.attribution_pass import ALL, memory_words
from analysis.attribution_patches import PatchSettings, patch_attribution
from analysis.figures.attribution import (
    carriers_map,
    channel_lines,
    effect_lines,
    effect_map,
    mark_timestep,
    panels_height,
    signal_maps,
)
from analysis.figures.attribution_patches import HEIGHT_PATCHES, patch_maps
from app.components import Results, View, answer, built, empty, question, results_of, show
from mpdit_core.runs import Run

SOURCES = {"noised": "held-out images, noised", "trajectory": "the sampler's own path"}
SECONDS = 12
"""Cost of a run on one core, as a button says it."""
MAP = "carriers"

TARGET = (
    "Effect of the label: mean square of its guidance direction, the noise predicted with the "
    "label minus that with the null label (no class). Target, one number per sample: the predicted "
    "noise along this direction, taken because it is what guidance amplifies and its rise from the "
    "null label to the label, the effect, is positive, so that shares of it are defined."
)
FORMULA = r"""With $d = \epsilon(x_t, y) - \epsilon(x_t, \varnothing)$ held fixed, the target is
$\frac1P \sum_p \epsilon_p d_p$ over the $P$ pixels; it rises by $\frac1P \lVert d\rVert^2$.
Conductance of a signal $m$: $\int_0^1 \partial_m \text{target} \cdot \frac{dm}{d\alpha} d\alpha$
while the label's embedding goes straight from the null label's to the label's; computed by captum's
integrated gradients of a copy of the embedding that this signal alone reads, Gauss-Legendre with 8
nodes. The label has no other way into the prediction, so conductances of all blocks and the final
layer sum to the effect; what is missing is the completeness gap. Ablation: what the target loses
where the signal alone has its value for the null label; these need not sum to anything."""
PATCHES = (
    "Integrated gradients of the effect in the noisy image, summed over each patch, from the same "
    "noise without the image (mean grey in its place) to the image: where the effect comes from. "
    "Right: where in the predicted noise the label changes something. Numbers "
    "are percent of the effect; blue works against."
)
PATCH_FORMULA = r"""$F(x) = \frac1P \sum_p (\epsilon(x, y) - \epsilon(x, \varnothing))_p\, d_p$ with
$d$ that of the noisy image, held fixed; attributions sum to $F(x_t) - F(\text{noise alone})$ up to
the completeness gap. The right map is $d_p^2 / \lVert d \rVert^2$ and sums to 100 %."""
EMBEDDING = (
    "Integrated gradients from the null label's embedding to the label's, channel by channel; the "
    "channels that carry most, all labels together, stand first. A curve that passes 100 % comes "
    "down again where channels work against the effect."
)
SIZE = (
    "Effect of the label at every timestep, mean over images, in squared units of the noise, whose "
    "variance is 1."
)


@dataclass(frozen=True)
class Chosen:
    """What the controls say. label: a class or ALL."""

    run: Run
    timestep: int
    label: int | str
    measure: str
    source: str

    @property
    def labels(self) -> str:
        return "all labels" if self.label == ALL else f"label {self.label}"


def page(view: View) -> None:
    question("Which blocks carry the class, and at which timestep?")
    place = st.container()
    source = view.choice(
        "source", "Shown to the model", list(SOURCES), kind="buttons", words=SOURCES.__getitem__
    )
    asked = _asked(view, source)
    settings = AttributionSettings.checked({"source": source})
    height = panels_height(len(view.runs))
    carried = results_of(class_carriers, view, settings, height=height, **asked)
    if carried is None:
        return
    chosen = _chosen(view, carried.table, source)
    rows = shares(of_label(whole_blocks(carried.table), chosen.label), chosen.measure)
    depths = {run.name: run.config.depth for run in view.runs}
    with place:
        answer(f"{view.weights_name}, {chosen.labels}: "
               f"{carriers_answer(rows, depths, chosen.timestep)}")  # fmt: skip
    _map(view, carried, rows, depths, chosen)
    signals, patches, size, embedding = view.tabs(
        "tab",
        ["Each signal", "Patches of the image", "Size of the effect", "Channels of the embedding"],
    )
    with signals:
        _signals(carried, chosen)
    with patches:
        _patches(view, chosen)
    channels = results_of(embedding_attribution, view, EmbeddingSettings.checked(
        {"source": source}), **asked)  # fmt: skip
    if channels is not None:
        with size:
            _size(carried, channels, chosen)
        with embedding:
            _embedding(channels, chosen)


def _asked(view: View, source: str) -> dict[str, Any]:
    """Precomputed for held-out images; the sampler's path is followed when asked for."""
    memory = memory_words([run.config for run in view.runs])
    cost = (f"Attribute along the sampler's path: about {SECONDS * len(view.runs)} s on one core, "
            f"{memory}")  # fmt: skip
    return {"start": "now" if source == "noised" else "button", "cost": cost}


def _chosen(view: View, table: pd.DataFrame, source: str) -> Chosen:
    first, second, third, fourth = st.columns([4, 5, 6, 8], vertical_alignment="bottom")
    with first:
        run = view.focus()
    with second:
        labels = [ALL, *sorted(table["label"].unique().tolist())]
        label = view.choice("label", "Label", labels, words=_label_words)
    with third:
        measure = view.choice(
            "measure",
            "Share by",
            list(MEASURES),
            help="Conductance: what comes through a block on "
            "the path from the null label to the label. Ablation: what is lost without it.",
        )
    with fourth:
        timesteps = sorted(table["timestep"].unique().tolist(), reverse=True)
        timestep = view.choice(
            "t", "Timestep (999 = noise, 0 = image)", timesteps, 400, kind="slider"
        )
    return Chosen(run, timestep, label, measure, source)


def _label_words(label: int | str) -> str:
    return "all labels" if label == ALL else f"label {label}"


def _map(
    view: View, carried: Results, rows: pd.DataFrame, depths: dict[str, int], chosen: Chosen
) -> None:
    title = f"Share of the label's effect, {MEASURES[chosen.measure]} ({chosen.labels}), percent"
    figure = built(carriers_map, rows, depths, title)
    mark_timestep(figure, chosen.run.name, chosen.timestep)
    memory = memory_words([run.config for run in view.runs])
    gap = gap_words(largest_gap(rows))
    gap = f"Largest completeness gap of conductances in view {gap}; computed with {memory}."
    show(figure, rows, MAP, carried, definition=f"{TARGET} {gap}", formula=FORMULA,
         select=lambda: _clicked(view))  # fmt: skip


def _clicked(view: View) -> None:
    """A click on a cell: its run and timestep go into the link."""
    points = st.session_state[f"figure/{MAP}"]["selection"]["points"]
    if points and points[0].get("customdata"):
        run, timestep = points[0]["customdata"][:2]
        view.change(run=str(run), t=str(timestep))


def _signals(carried: Results, chosen: Chosen) -> None:
    table = carried.table[carried.table["run"] == chosen.run.name]
    table = of_label(single_signals(at_timestep(table, chosen.timestep)), chosen.label)
    if table.empty:
        empty(f"The table has no signals of {chosen.run.name} at t = {chosen.timestep}.")
        return
    found = {measure: shares(table, measure) for measure in MEASURES}
    depth, name = chosen.run.config.depth, chosen.run.name
    answer(ablation_sentence(found[chosen.measure], chosen.measure, name, depth))
    title = f"{name}, t = {chosen.timestep}, {chosen.labels}: each signal's share, percent"
    figure = built(signal_maps, found["conductance"], found["ablation"], depth, title)
    rows = pd.concat([part.assign(measure=measure) for measure, part in found.items()])
    gap = gap_words(largest_gap(found["conductance"]))
    definition = (
        "Conductance: the part of the effect that comes through a signal on the path from the null "
        "label to the label; all cells sum to 100 % up to the completeness gap, here "
        f"{gap}. Ablation: what is lost where this signal alone has its null-label value; it has "
        "no such sum."
    )
    show(figure, rows, "signals", carried, definition=definition, formula=FORMULA)


def _patches(view: View, chosen: Chosen) -> None:
    if chosen.source != "noised":
        empty("Patches are attributed for held-out images: only there is known what is image.")
        return
    results = results_of(
        patch_attribution, view, PatchSettings(), runs=[chosen.run], height=HEIGHT_PATCHES
    )
    if results is None:
        return
    left, _ = st.columns([2, 8])
    with left:
        labels = sorted(results.table["label"].unique().tolist())
        first = chosen.label if chosen.label != ALL else 3
        label = view.choice("of", "Image of label", labels, first)
    own = of_image(results.table, chosen.run.name, label, 0)
    rows = at_timestep(own, chosen.timestep)
    if rows.empty:
        first = int(own["timestep"].min())
        empty(
            f"Patches are attributed from t = {first} up: with less noise the path from grey to "
            "the image crosses pictures that no model was shown, and its sum misses the effect."
        )
        return
    answer(patch_sentence(rows, chosen.run.name))
    title = (
        f"{chosen.run.name}, t = {chosen.timestep}: patches that make the label's effect, percent"
    )
    figure = built(patch_maps, rows, patch_limit(own), title)
    show(figure, rows, "patches", results, definition=PATCHES, formula=PATCH_FORMULA)


def _size(carried: Results, channels: Results, chosen: Chosen) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        rows = mean_effect(of_label(carried.table, chosen.label))
        figure = built(effect_lines, rows, f"Size of the effect, {chosen.labels}")
        show(figure, rows, "size", carried, definition=SIZE, formula=FORMULA)
    with right:
        every = effect_by_label(channels.table)
        rows = every[every["run"] == chosen.run.name]
        limits = positive_limits(every)
        if limits is None:
            empty("No label changes the predicted noise of the runs in view.")
            return
        gap = gap_words(largest_gap(rows))
        figure = built(effect_map, rows, limits, f"{chosen.run.name}: size of the effect by label")
        definition = f"Effect of each label; integrated gradients of its embedding miss {gap} of "\
                     "it at most."  # fmt: skip
        show(figure, rows, "labels", channels, definition=definition, formula=FORMULA)


def _embedding(channels: Results, chosen: Chosen) -> None:
    rows = concentration(of_label(channels.table, chosen.label), chosen.timestep)
    answer(concentration_sentence(rows, chosen.timestep))
    title = f"Effect carried by channels of the label's embedding, t = {chosen.timestep}"
    gap = gap_words(largest_gap(effect_by_label(channels.table)))
    definition = f"{EMBEDDING} Largest completeness gap {gap}."
    show(built(channel_lines, rows, title), rows, "channels", channels, definition=definition,
         formula=FORMULA)  # fmt: skip
