"""Chapters of the page Attribution."""

import pandas as pd

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
    mean_effect,
    of_image,
    patch_limit,
    patch_sentence,
    positive_limits,
    shares,
    single_signals,
    whole_blocks,
)
from analysis.attribution_patches import PatchSettings, patch_attribution
from analysis.figures.attribution import (
    carriers_map,
    channel_lines,
    effect_lines,
    effect_map,
    signal_maps,
)
from analysis.figures.attribution_patches import patch_maps
from analysis.report.chapter import Chapter, Figure, Part, Shown, asked, nearest

CARRIERS = asked(class_carriers, AttributionSettings())
CHANNELS = asked(embedding_attribution, EmbeddingSettings())
PATCHES = asked(patch_attribution, PatchSettings())
MEASURE = next(iter(MEASURES))
TIMESTEP, LABEL = 400, 3


def _timestep(table: pd.DataFrame) -> int:
    return nearest(table["timestep"].unique(), TIMESTEP)


def _carried(shown: Shown) -> pd.DataFrame:
    return shares(whole_blocks(shown.table(CARRIERS)), MEASURE)


def _map(shown: Shown) -> Figure:
    title = f"Share of the label's effect, {MEASURES[MEASURE]} (all labels), percent"
    return carriers_map(_carried(shown), shown.depths, title)


def _answer(shown: Shown) -> str:
    rows = _carried(shown)
    said = carriers_answer(rows, shown.depths, _timestep(rows))
    return f"{shown.weights}, all labels: {said}"


def _signals(shown: Shown) -> Figure:
    table = shown.own(CARRIERS)
    t = _timestep(table)
    rows = single_signals(at_timestep(table, t))
    found = {measure: shares(rows, measure) for measure in MEASURES}
    title = f"{shown.run.name}, t = {t}, all labels: each signal's share, percent"
    return signal_maps(found["conductance"], found["ablation"], shown.run.config.depth, title)


def _signals_answer(shown: Shown) -> str:
    table = shown.own(CARRIERS)
    rows = shares(single_signals(at_timestep(table, _timestep(table))), MEASURE)
    return ablation_sentence(rows, MEASURE, shown.run.name, shown.run.config.depth)


def _no_signals(shown: Shown) -> str:
    rows = single_signals(shown.own(CARRIERS))
    return "" if len(rows) else f"The table has no signals of {shown.run.name}."


def _image(shown: Shown) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One image at every timestep, and at the one that is drawn."""
    table = shown.own(PATCHES)
    labels = set(table["label"])
    own = of_image(table, shown.run.name, LABEL if LABEL in labels else min(labels), 0)
    return own, at_timestep(own, _timestep(own))


def _patches(shown: Shown) -> Figure:
    own, rows = _image(shown)
    title = (f"{shown.run.name}, t = {_timestep(own)}: patches that make the label's effect, "
             "percent")  # fmt: skip
    return patch_maps(rows, patch_limit(own), title)


def _patches_answer(shown: Shown) -> str:
    return patch_sentence(_image(shown)[1], shown.run.name)


def _size(shown: Shown) -> Figure:
    return effect_lines(mean_effect(shown.table(CARRIERS)), "Size of the effect, all labels")


def _no_effect(shown: Shown) -> str:
    if positive_limits(effect_by_label(shown.table(CHANNELS))) is not None:
        return ""
    return "No label changes the predicted noise of these runs."


def _by_label(shown: Shown) -> Figure:
    every = effect_by_label(shown.table(CHANNELS))
    limits = positive_limits(every) or (1.0, 1.0)
    rows = every[every["run"] == shown.run.name]
    return effect_map(rows, limits, f"{shown.run.name}: size of the effect by label")


def _embedding(shown: Shown) -> Figure:
    table = shown.table(CHANNELS)
    t = _timestep(table)
    title = f"Effect carried by channels of the label's embedding, t = {t}"
    return channel_lines(concentration(table, t), title)


def _embedding_answer(shown: Shown) -> str:
    table = shown.table(CHANNELS)
    t = _timestep(table)
    return concentration_sentence(concentration(table, t), t)


PART = Part(
    "attribution",
    "Attribution",
    "Which blocks carry the class, and at which timestep?",
    (
        Chapter("attribution-blocks", "Share of the label's effect", (CARRIERS,), _map, _answer),
        Chapter("attribution-signals", "Each signal's share", (CARRIERS,), _signals,
                _signals_answer, each_run=True, lacking=_no_signals),
        Chapter("attribution-patches", "Patches that make the label's effect", (PATCHES,),
                _patches, _patches_answer, each_run=True),
        Chapter("attribution-size", "Size of the effect", (CARRIERS,), _size),
        Chapter("attribution-labels", "Size of the effect by label", (CHANNELS,), _by_label,
                each_run=True, lacking=_no_effect),
        Chapter("attribution-embedding", "Channels of the label's embedding", (CHANNELS,),
                _embedding, _embedding_answer, lacking=_no_effect),
    ),
)  # fmt: skip
