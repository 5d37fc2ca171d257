"""Where does attention look, how sharply, and how near do its logits come to their bound?"""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from analysis.attention import attention_heads, averaged, logit_reach, most_focused
from analysis.attention_answer import attention_answer, lowest_in_words
from analysis.attention_maps import (
    EXAMPLE,
    at_nearest,
    attention_maps,
    fitting,
    maps_of,
    of_head,
    one_image,
    probed_images,
)
from analysis.attention_pass import AttentionSettings
from analysis.figures.attention import (
    SHOWN,
    by_head,
    by_timestep,
    mark_place,
    panels_height,
    with_values,
)
from analysis.figures.attention_logits import logits_by_block
from analysis.figures.attention_maps import (
    HEIGHT_MAP,
    every_head,
    map_of_query,
    patch_place,
    patch_words,
)
from analysis.magnitudes import labels_in_words
from app.components import Results, View, answer, built, empty, question, results_of, show
from mpdit_core.config import ModelConfig
from mpdit_core.runs import Run
from mpdit_core.words import capital

SOURCES = {"noised": "noised images", "trajectory": "sampler's path"}
PATH_COST = "Follow the sampler's own path of each run, about 5 s a run"
ARRANGED = {"heads": "by head", "timesteps": "by timestep"}
UNDER = {"clean": "image", "noisy": "noised image"}
ALL = "all"
HEADS_KEY, MAP_KEY = "heads", "map"

DEFINITIONS = {
    "entropy": "Entropy of attention: how many patches a patch looks at; 0 nats is a single one, "
    "log N is all N patches alike. Darker is more spread out. A click on a cell opens its maps "
    "below.",
    "distance": "Attention distance: how far away a patch looks, from centre to centre, weighted "
    "by attention. A click on a cell opens its maps below.",
}
FORMULA = r"""Weights of a row $w = \text{softmax}(q k^\top / \sqrt d)$ with $q, k$ as they enter it
(normalized with cosine attention) and $d$ the width of a head; entropy $-\sum_k w_k \ln w_k$,
distance $\sum_k w_k \lVert p_q - p_k\rVert$ with $p$ the centres of patches. Means over all rows
and images; intervals are 1.96 standard errors over images."""
LOGITS = (
    "Logit: what the softmax takes. Cosine attention gives q and k the norm √d, so no logit "
    "exceeds √d (dotted), however large the weights. Each mark is a head; the largest is over all "
    "timesteps, images and pairs of patches."
)
LOGITS_FORMULA = r"""$|q \cdot k| / \sqrt d \le \lVert q\rVert\,\lVert k\rVert / \sqrt d = \sqrt d$
(Cauchy-Schwarz). The lowest entropy that the bound allows has every logit at an end:
$\sqrt d$ for one key and $-\sqrt d$ for the others, or the best such split."""
MAP = (
    "Attention weight of each patch for the patch in the blue frame; the weights of a row sum to "
    "1, and 1/N would be uniform. The colours keep their range at every timestep. A click on a "
    "patch of the first panel chooses it; the last panel holds every patch."
)
TILES = "The same patch in every head of every block; one tile is one map over the image."


@dataclass(frozen=True)
class Chosen:
    """What the map shows; block and head from 0."""

    run: Run
    timestep: int
    block: int
    head: int


def page(view: View) -> None:
    question("Where does attention look, and how near do its logits come to their bound?")
    place = st.container()
    columns = st.columns([3, 4, 4], vertical_alignment="bottom")
    with columns[0]:
        source = view.choice(
            "source", "Shown to the model", list(SOURCES), words=SOURCES.__getitem__
        )
    shown = AttentionSettings(source=source)
    heads = results_of(
        attention_heads, view, shown, start="now" if source == "noised" else "button",
        cost=PATH_COST, height=panels_height(len(view.runs)),
    )  # fmt: skip
    if heads is None:
        return
    chosen = _controls(view, heads.table)
    rows, _ = at_nearest(heads.table, chosen.timestep)
    with place:
        said = attention_answer(rows, heads.table, f"at t = {chosen.timestep}")
        answer(f"{view.weights_name}: {said}")
    with columns[1]:
        name = view.choice("shown", "Of attention", list(SHOWN), kind="buttons")
    with columns[2]:
        arranged = view.choice("by", "Arranged", list(ARRANGED), kind="buttons",
                               words=ARRANGED.__getitem__)  # fmt: skip
    _heads(view, heads, chosen, (name, arranged))
    maps, logits = view.tabs("tab", ["Maps over the image", "Logits and their bound"])
    with maps:
        _maps(view, shown, chosen)
    with logits:
        _logits(heads)


def _controls(view: View, table: pd.DataFrame) -> Chosen:
    timesteps = sorted(table["timestep"].unique().tolist(), reverse=True)
    columns = st.columns([4, 2, 1, 1], vertical_alignment="bottom")
    with columns[0]:
        timestep = view.choice(
            "t", "Timestep (999 = noise, 0 = image)", timesteps, 500, kind="slider",
            help="Moving it computes nothing.",
        )  # fmt: skip
    with columns[1]:
        run = view.focus()
    first = most_focused(table, run.name)
    with columns[2]:
        block = view.choice("block", "Block", list(range(1, run.config.depth + 1)), first[0] + 1)
    with columns[3]:
        head = view.choice("head", "Head", list(range(1, run.config.heads + 1)), first[1] + 1)
    return Chosen(run, timestep, block - 1, head - 1)


def _heads(view: View, heads: Results, chosen: Chosen, how: tuple[str, str]) -> None:
    name, arranged = how
    shown = SHOWN[name]
    limit = float(heads.table[[shown.column, shown.most]].max().max())
    subject = capital(shown.words)
    if arranged == "heads":
        drawn, t = at_nearest(heads.table, chosen.timestep)
        first, _ = at_nearest(heads.table, 0)
        figure = built(by_head, first, shown, limit, "")
        with_values(figure, drawn, shown, f"{subject} of every head, t = {t}")
        mark_place(figure, chosen.run.name, chosen.block + 1, chosen.head + 1)
    else:
        drawn = averaged(heads.table, ["run", "block", "timestep"])
        figure = built(
            by_timestep, drawn, shown, limit, f"{subject}, mean over the heads of a block"
        )
        mark_place(figure, chosen.run.name, chosen.timestep, chosen.block + 1)
    show(figure, drawn, HEADS_KEY, heads, definition=DEFINITIONS[name], formula=FORMULA,
         select=lambda: _clicked_head(view, arranged))  # fmt: skip


def _clicked_head(view: View, arranged: str) -> None:
    """A click on a cell: its run, block and head or timestep go into the link."""
    points = st.session_state[f"figure/{HEADS_KEY}"]["selection"]["points"]
    if not points:
        return
    point = points[0]
    run, x, y = point["customdata"][0], str(point["x"]), str(point["y"])
    if arranged == "heads":
        view.change(run=run, block=x, head=y)
    else:
        view.change(run=run, t=x, block=y)


def _maps(view: View, shown: AttentionSettings, chosen: Chosen) -> None:
    config = chosen.run.config
    columns = st.columns(3, vertical_alignment="bottom")
    with columns[0]:
        image = _image(view, config, shown)
    with columns[1]:
        under = view.choice("under", "Below the map", list(UNDER), kind="buttons",
                            words=UNDER.__getitem__)  # fmt: skip
    with columns[2]:
        side = config.size // config.patch
        middle = (side + 1) * ((side - 1) // 2) + 1
        patch = view.choice("patch", "Patch that looks", list(range(1, side**2 + 1)), middle,
                            words=lambda number: patch_place(number - 1, side))  # fmt: skip
    asked = shown if image is None else one_image(shown, image)
    settings = fitting(config, maps_of(asked), chosen.block, chosen.head)
    runs = (chosen.run,)
    maps = results_of(attention_maps, view, settings, runs=runs, height=HEIGHT_MAP)
    pixels = results_of(probed_images, view, asked, runs=runs, height=HEIGHT_MAP)
    if maps is None or pixels is None:
        return
    if settings.blocks:
        place = "block and head" if settings.heads else "block"
        st.caption(
            f"Maps of {config.tokens:,} patches are large: they are kept for the chosen {place}, "
            f"at {maps.table['timestep'].nunique()} timesteps."
        )
    _map(view, maps, pixels, chosen, (patch - 1, under))
    _tiles(maps, chosen, patch - 1)


def _image(view: View, config: ModelConfig, shown: AttentionSettings) -> int | None:
    """A label, whose first image is shown, or None for the mean over all."""
    labels = list(shown.chosen_labels(config))
    count = len(labels) * shown.samples

    def words(option: int | str) -> str:
        if option == ALL:
            return f"mean over {count} images"
        label = labels_in_words(config, int(option))
        return f"one image, {label}" if option == config.null_label else f"one image of {label}"

    image = view.choice("image", "Image", [*labels, ALL], EXAMPLE, words=words)
    return None if image == ALL else image


def _map(
    view: View, maps: Results, pixels: Results, chosen: Chosen, looked: tuple[int, str]
) -> None:
    patch, under = looked
    rows, t = at_nearest(maps.table, chosen.timestep)
    rows = of_head(rows, chosen.block, chosen.head)
    image, seen_at = at_nearest(pixels.table, t if under == "noisy" else 0)
    side = chosen.run.config.size // chosen.run.config.patch
    place = f"block {chosen.block + 1}, head {chosen.head + 1}"
    title = f"{chosen.run.name}, {place}: where {patch_words(patch, side)} looks, t = {t}"
    seen = f"{'mean image' if image['n'].iloc[0] > 1 else 'image'}, t = {seen_at}"
    limit = float(maps.table["value"].max())
    figure = built(map_of_query, rows, image, patch, limit, title, seen)
    show(figure, rows, MAP_KEY, [maps, pixels], definition=MAP, formula=FORMULA,
         select=lambda: _clicked_patch(view))  # fmt: skip


def _clicked_patch(view: View) -> None:
    """A click on a patch of the image: it becomes the one that looks."""
    points = st.session_state[f"figure/{MAP_KEY}"]["selection"]["points"]
    custom = [point["customdata"] for point in points if point.get("customdata")]
    if custom:
        view.change(patch=str(custom[0][0]))


def _tiles(maps: Results, chosen: Chosen, patch: int) -> None:
    rows, t = at_nearest(maps.table, chosen.timestep)
    rows = rows[rows["query"] == patch].reset_index(drop=True)
    side = chosen.run.config.size // chosen.run.config.patch
    title = f"{chosen.run.name}: where {patch_words(patch, side)} looks in every head, t = {t}"
    figure = built(every_head, rows, patch, float(maps.table["value"].max()), title)
    show(figure, rows, "tiles", maps, definition=TILES, formula=FORMULA)


def _logits(results: Results) -> None:
    heads = logit_reach(results.table)
    if heads.empty:
        empty("The table holds no finite logits, so nothing can be told of their bound.")
        return
    figure = built(logits_by_block, heads, "Largest |logit| of every head, against its bound")
    definition = f"{LOGITS} {lowest_in_words(results.table)}".strip()
    show(figure, heads, "logits", results, definition=definition, formula=LOGITS_FORMULA)
