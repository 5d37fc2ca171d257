"""Does the stream keep its magnitude from block to block (figure 5 of the paper)?"""

from typing import Any

import pandas as pd
import streamlit as st

from analysis.figures.magnitudes import (
    magnitude_histogram,
    magnitude_map,
    magnitude_panels,
    panels_height,
)
from analysis.magnitudes import (
    BRANCHES,
    QUANTITIES,
    at,
    by_block,
    by_timestep,
    distribution,
    growth_sentence,
    magnitude_distribution,
    magnitudes,
)
from analysis.probing import ProbeSettings
from app.components import Results, View, answer, built, question, results_of, show

SOURCES = {"noised": "held-out images, noised", "trajectory": "the sampler's own path"}
PATH_COST = "Follow the sampler's own path of each run, about 10 s a run"
ALL, NULL = "all", "null"
Label = dict[str, int] | None
"""Run -> its number of the chosen label; None for all labels."""
MAP_KEY = "map"

PANELS = (
    "Magnitude of a token: the root mean square over its channels; 1 is preserved. Lines are means "
    "over tokens, bands reach 3 standard deviations to both sides, not below 0; grey dotted lines "
    "are the initial weights."
)
MAP = (
    "Mean magnitude of the run in focus: white is 1, blue smaller, brown larger; 0.5 and 2 are "
    "equally strong. Click a cell to see its tokens beside."
)
BARS = "How the tokens' magnitudes are distributed in the framed cell, 8 bins per factor of 2."
FORMULA = r"""$M[x] = \sqrt{\frac{1}{n}\sum_{i=1}^{n} x_i^2}$ for a token $x$ of $n$ channels; mean
and standard deviation are taken over tokens, images and, where chosen, timesteps and labels.
Noised: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ of held-out images, the
same images and noise for every run."""


def page(view: View) -> None:
    question("Does the stream keep its magnitude from block to block?")
    place = st.container()
    settings, start = _source(view)
    height = panels_height(len(view.runs))
    asked: dict[str, Any] = {"start": start, "cost": PATH_COST, "height": height}
    trained = results_of(magnitudes, view, settings, **asked)
    if trained is None:
        return
    with_initial = str(view.weights) != "initial"
    initial = results_of(magnitudes, view, settings, weights="initial", **asked) if (
        with_initial
    ) else None  # fmt: skip
    if view.results_awaited:
        return
    spread = results_of(magnitude_distribution, view, settings, **asked)
    label, timestep, log = _filters(view, trained.table)
    _panels(view, place, (trained, initial), (label, timestep), log)
    _map_and_bars(view, trained, spread, label)


def _source(view: View) -> tuple[ProbeSettings, str]:
    """What the model is shown; its own path takes longer, so it waits for a press."""
    source = view.choice(
        "source", "Shown to the model", list(SOURCES), kind="buttons", words=SOURCES.__getitem__
    )
    return ProbeSettings(source=source), "now" if source == "noised" else "button"


def _filters(view: View, table: pd.DataFrame) -> tuple[Label, int | None, bool]:
    """Label and timestep, None for all, and whether the axis is logarithmic."""
    null = {run.name: run.config.null_label for run in view.runs}
    classes = table.loc[table["label"] != table["run"].map(null), "label"]
    labels = [ALL, *sorted(classes.unique().tolist()), NULL]
    timesteps = [ALL, *sorted(table["timestep"].unique().tolist(), reverse=True)]
    left, middle, right = st.columns([2, 4, 2], vertical_alignment="bottom")
    with left:
        label = view.choice(
            "label", "Label", labels,
            words=lambda item: {ALL: "all labels", NULL: "null label"}.get(item, str(item)),
            help="The class asked for; the null label stands for no class.",
        )  # fmt: skip
    with middle:
        timestep = view.choice(
            "t", "Timestep of the panels (999 = noise, 0 = image)", timesteps, kind="slider"
        )
    with right:
        log = view.toggle("log", "Log scale", True)
    numbers = None if label == ALL else _numbers(label, null)
    return numbers, (None if timestep == ALL else timestep), log


def _numbers(label: int | str, null: dict[str, int]) -> dict[str, int]:
    return null if label == NULL else {name: int(label) for name in null}


def _panels(
    view: View,
    place: Any,
    results: tuple[Results, Results | None],
    chosen: tuple[Label, int | None],
    log: bool,
) -> None:
    trained, initial = results
    label, timestep = chosen
    rows = by_block(at(trained.table, timestep=timestep, label=label))
    grey = None if initial is None else by_block(at(initial.table, timestep=timestep, label=label))
    when = "over all timesteps" if timestep is None else f"at t = {timestep}"
    with place:
        answer(f"{view.weights_name}: {growth_sentence(rows, when)}")
    title = "Token magnitude from block to block" + (
        "" if timestep is None else f", t = {timestep}"
    )
    figure = built(magnitude_panels, rows, grey, log=log, title=title)
    drawn = rows if grey is None else pd.concat([rows, grey], ignore_index=True)
    made_from = [part for part in results if part is not None]
    show(figure, drawn, "panels", made_from, definition=PANELS, formula=FORMULA)


def _map_and_bars(view: View, trained: Results, spread: Results | None, label: Label) -> None:
    left, middle, right = st.columns([5, 3, 3])
    with left:
        point = view.choice(
            "point", "Where", list(QUANTITIES), kind="buttons", words=QUANTITIES.__getitem__
        )
    with middle:
        branch = view.choice(
            "branch", "Branch", ["mlp", "attn"], kind="buttons", words=BRANCHES.__getitem__
        )
    with right:
        run = view.focus()
    rows = by_timestep(at(trained.table, label=label, point=point, branch=branch))
    own = rows[rows["run"] == run.name]
    cell = _cell(view, own)
    words = f"{QUANTITIES[point]}, {BRANCHES[branch]}"
    here, beside = st.columns(2)
    with here:
        figure = built(magnitude_map, own, rows["mean"], cell, f"{run.name}: {words}")
        show(figure, own, MAP_KEY, trained, definition=MAP, formula=FORMULA,
             select=lambda: _clicked(view))  # fmt: skip
    if spread is None:
        return
    with beside:
        tokens = at(spread.table, timestep=cell[1], label=label, point=point, branch=branch)
        tokens = distribution(tokens[tokens["block"] == cell[0]])
        title = f"Tokens at block {cell[0] + 1}, t = {cell[1]}"
        figure = built(magnitude_histogram, tokens, title)
        show(figure, tokens, "tokens", spread, definition=BARS, formula=FORMULA)


def _cell(view: View, rows: pd.DataFrame) -> tuple[int, int]:
    """The chosen cell, (block from 0, timestep); in the link it is block-timestep, from 1."""
    cells = list(zip(rows["block"].tolist(), rows["timestep"].tolist(), strict=True))
    last = max(block for block, _ in cells)
    default = min(cells, key=lambda cell: (cell[0] != last, abs(cell[1] - 500)))

    def parse(text: str) -> tuple[tuple[int, int] | None, bool]:
        found = {_cell_text(cell): cell for cell in cells}
        return found.get(text), text in found

    text = view.setting("cell", _cell_text(default), lambda text: (text, parse(text)[1]))
    return parse(text)[0] or default


def _cell_text(cell: tuple[int, int]) -> str:
    return f"{cell[0] + 1}-{cell[1]}"


def _clicked(view: View) -> None:
    """A click on the map: its cell goes into the link."""
    points = st.session_state[f"figure/{MAP_KEY}"]["selection"]["points"]
    if points:
        view.change(cell=f"{points[0]['y']}-{points[0]['x']}")
