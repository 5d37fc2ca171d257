"""Chapters of the page Attention."""

from functools import partial

import pandas as pd

from analysis.attention import attention_heads, logit_reach, most_focused
from analysis.attention_answer import attention_answer
from analysis.attention_maps import (
    EXAMPLE,
    MapSettings,
    at_nearest,
    attention_maps,
    fitting,
    maps_of,
    of_head,
    one_image,
    probed_images,
)
from analysis.attention_pass import AttentionSettings
from analysis.figures.attention import SHOWN, by_head
from analysis.figures.attention_logits import logits_by_block
from analysis.figures.attention_maps import every_head, map_of_query, patch_words
from analysis.report.chapter import Chapter, Figure, Part, Shown, Source, asked
from mpdit_core.runs import Run

EVERY = AttentionSettings()
ENTROPY = SHOWN["entropy"]
TIMESTEP = 500
HEADS = asked(attention_heads, EVERY)


def _example(run: Run) -> AttentionSettings:
    """One image of the label that is looked at first, if the run has it."""
    labels = EVERY.chosen_labels(run.config)
    return one_image(EVERY, EXAMPLE if EXAMPLE in labels else labels[0])


def _fitting(run: Run, settings: AttentionSettings) -> MapSettings:
    return fitting(run.config, maps_of(settings), (run.config.depth - 1) // 2, 0)


MAPS = {
    "image": asked(attention_maps, lambda run: _fitting(run, _example(run)),
                   name="attention-maps-image"),
    "mean": asked(attention_maps, lambda run: _fitting(run, EVERY), name="attention-maps-mean"),
}  # fmt: skip
PIXELS = {
    "image": asked(probed_images, _example, name="attention-pixels-image"),
    "mean": asked(probed_images, EVERY, name="attention-pixels-mean"),
}


def _by_head(shown: Shown) -> Figure:
    table = shown.table(HEADS)
    rows, t = at_nearest(table, TIMESTEP)
    limit = float(table[[ENTROPY.column, ENTROPY.most]].max().max())
    return by_head(rows, ENTROPY, limit, f"Entropy of every head, t = {t}")


def _answer(shown: Shown) -> str:
    table = shown.table(HEADS)
    rows, t = at_nearest(table, TIMESTEP)
    return f"{shown.weights}: {attention_answer(rows, table, f'at t = {t}')}"


def _reach(shown: Shown) -> pd.DataFrame:
    return logit_reach(shown.table(HEADS))


def _no_logits(shown: Shown) -> str:
    return "" if len(_reach(shown)) else "The table holds no finite logits."


def _logits(shown: Shown) -> Figure:
    return logits_by_block(_reach(shown), "Largest |logit| of every head, against its bound")


def _patch(run: Run) -> tuple[int, int]:
    """The patch in the middle, from 0, and how many stand side by side."""
    side = run.config.size // run.config.patch
    return (side + 1) * ((side - 1) // 2), side


def _place(table: pd.DataFrame, shown: Shown) -> tuple[int, int]:
    """Block and head of least entropy; of large maps those that are kept."""
    block, head = most_focused(shown.own(HEADS), shown.run.name)
    if ((table["block"] == block) & (table["head"] == head)).any():
        return block, head
    return int(table["block"].iloc[0]), int(table["head"].iloc[0])


def _map(name: str, shown: Shown) -> Figure:
    table = shown.own(MAPS[name])
    rows, t = at_nearest(table, TIMESTEP)
    block, head = _place(table, shown)
    image, _ = at_nearest(shown.own(PIXELS[name]), 0)
    patch, side = _patch(shown.run)
    title = (f"{shown.run.name}, block {block + 1}, head {head + 1}: where "
             f"{patch_words(patch, side)} looks, t = {t}")  # fmt: skip
    seen = f"{'mean image' if name == 'mean' else 'image'}, t = 0"
    limit = float(table["value"].max())
    return map_of_query(of_head(rows, block, head), image, patch, limit, title, seen)


def _tiles(name: str, shown: Shown) -> Figure:
    table = shown.own(MAPS[name])
    rows, t = at_nearest(table, TIMESTEP)
    patch, side = _patch(shown.run)
    rows = rows[rows["query"] == patch].reset_index(drop=True)
    title = f"{shown.run.name}: where {patch_words(patch, side)} looks in every head, t = {t}"
    return every_head(rows, patch, float(table["value"].max()), title)


def _of_map(name: str) -> tuple[Source, ...]:
    return HEADS, MAPS[name], PIXELS[name]


PART = Part(
    "attention",
    "Attention",
    "Where does attention look, and how near do its logits come to their bound?",
    (
        Chapter("attention-heads", "Entropy of every head", (HEADS,), _by_head, _answer),
        Chapter("attention-map", "Where one patch looks, in one image", _of_map("image"),
                partial(_map, "image"), each_run=True),
        Chapter("attention-tiles", "Where one patch looks in every head, in one image",
                _of_map("image"), partial(_tiles, "image"), each_run=True),
        Chapter("attention-map-mean", "Where one patch looks, mean over images",
                _of_map("mean"), partial(_map, "mean"), each_run=True),
        Chapter("attention-logits", "Logits and their bound", (HEADS,), _logits,
                lacking=_no_logits),
    ),
)  # fmt: skip
