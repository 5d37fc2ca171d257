"""What differs between two runs, or two sets of weights of one, and where most?"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pandas as pd
import streamlit as st

from analysis.compare import STATISTICS, CompareSettings, compared_statistics
from analysis.compare_answer import (
    BRANCHES,
    chance_sentence,
    difference_sentence,
    place_sentence,
    place_words,
    unshared,
    with_words,
)
from analysis.compare_configuration import configuration_differences, configuration_sentence
from analysis.compare_difference import differences, largest_of_each
from analysis.compare_weights import (
    measured,
    weight_differences_from,
    weights_base,
    weights_sentence,
)
from analysis.figures.compare import (
    difference_dots,
    dots_height,
    ratio_map,
    side_histogram,
    side_styles,
    weights_dots,
)
from analysis.magnitudes import QUANTITIES, at, distribution, magnitude_distribution
from analysis.probing import ProbeSettings
from app.components import Results, View, answer, built, empty, guarded, question, show
from app.components.compare_sides import Sides, both_results, chosen_sides, named_sides
from app.components.results import results_of
from mpdit_core.words import capital

LISTS = {"each": "the largest of every statistic", "all": "the largest of all"}
SHOWN = 15
DOTS, MAP = "differences", "map"
MODULATED = ("input", "change", "scale", "shift", "angle")
"""Statistics that act on what enters a branch; the others show in the stream after it."""

DOT_WORDS = (
    "Mean over pairs on the compared side over that on the other, with its 95 % interval: a pair "
    "is a held-out image with its noise, shown to both. Filled marks are clear of chance, hollow "
    "ones are not. Click a mark to see its place below."
)
FORMULA = r"""$r = \bar b / \bar a$ over pairs $(a_i, b_i)$; percentile bootstrap, 2,000
resamples of whole pairs, seed 0. Three images of every label and of the null label; a signal of
the modulation depends on the label alone, so there a pair is a label. Clear: $|\log r| > c\,s$,
$s$ the standard deviation of $\log r$ over resamples and $c$ the 95 % quantile of the largest
$|\log r^* - \log r| / s$ of all places. Magnitude: root mean square over channels, mean over
tokens. Gate, scale, shift: the signals that the condition multiplies or adds. Entropy of attention
in nats; a logit is what the softmax takes. Kurtosis over channels: 3 for a Gaussian. Points:
percentage points."""
MAP_WORDS = (
    "The compared side over the other: white is equal; a ring marks what is not clear of chance. "
    "Click a cell to see its tokens beside."
)
HISTOGRAM = (
    "Magnitudes of single tokens in the framed cell ({}), 8 bins per factor of 2; filled is the "
    "side that is compared against."
)
WEIGHTS = (
    "A mark per parameter that both have in one shape. Cosine 0: unrelated, as after two "
    "trainings; rows: the weights of one output. With weight normalization a row's length has no "
    "effect on what the layer computes."
)
WEIGHTS_FORMULA = r"""Distance $\|b-a\| / \|a\|$, cosine $\langle a,b\rangle / \|a\|\|b\|$, mean
norm of rows $b$ over $a$; saved numbers, before any normalization in the forward pass."""


def page(view: View) -> None:
    question("What differs between two runs, or two sets of weights of one, and where most?")
    sides = chosen_sides(view)
    if sides.same:
        empty("Both sides are the same; choose another run or other weights for one of them.")
        return
    place = st.container()
    first, second, third = view.tabs("tab", ["Differences", "Configuration", "Weights"])
    with first:
        guarded(_differences)(view, sides, place)
    with second:
        _configuration(sides)
    with third:
        guarded(_weights)(view, sides)


@dataclass(frozen=True)
class _Pair:
    """Two tables, known by what they were computed from."""

    known_by: tuple[str, ...]
    base: pd.DataFrame = field(compare=False)
    other: pd.DataFrame = field(compare=False)


@lru_cache(maxsize=64)
def _compared(pair: _Pair) -> pd.DataFrame:
    """Kept, because resampling takes 0.2 s, more than a slider may take to answer."""
    return with_words(differences(pair.base, pair.other))


def _table(parts: tuple[Results, Results]) -> pd.DataFrame:
    base, other = parts
    names = ("run", "weights", "identity")
    known = tuple(str(part.sources[0].get(name)) for part in parts for name in names)
    return _compared(_Pair(known, base.table, other.table))


def _said(sides: Sides, sentence: str) -> str:
    return f"{sides.common}: {sentence}" if sides.common else sentence


def _differences(view: View, sides: Sides, place: Any) -> None:
    height = dots_height(SHOWN)
    parts = both_results(compared_statistics, view, sides, CompareSettings(), height)
    if parts is None:
        return
    table = _table(parts)
    with place:
        answer(_said(sides, difference_sentence(table, sides.names)))
    if table.empty:
        return
    listed = view.choice(
        "list", "Differences shown", list(LISTS), kind="buttons", words=LISTS.__getitem__
    )
    rows = (largest_of_each(table) if listed == "each" else table).head(SHOWN)
    title = f"Where {sides.names[1]} differs most from {sides.names[0]}"
    figure = built(difference_dots, rows, table, sides.names, title)
    show(figure, rows, DOTS, parts, definition=DOT_WORDS, formula=FORMULA,
         select=lambda: _dot_clicked(view))  # fmt: skip
    st.caption(" ".join([chance_sentence(table), unshared(parts[0].table, parts[1].table,
                                                          sides.names)]))  # fmt: skip
    _place(view, sides, table, parts)


def _dot_clicked(view: View) -> None:
    """A click on a mark: its statistic and place go into the link."""
    points = st.session_state[f"figure/{DOTS}"]["selection"]["points"]
    if points and points[0].get("customdata"):
        names = ("of", "branch", "block", "t")
        view.change(**dict(zip(names, map(str, points[0]["customdata"]), strict=False)))


def _place(view: View, sides: Sides, table: pd.DataFrame, parts: tuple[Results, Results]) -> None:
    """One statistic: its map, and the tokens of the chosen cell."""
    first = table.iloc[0]
    columns = st.columns([6, 3, 2, 3], vertical_alignment="bottom")
    with columns[0]:
        known = [name for name in STATISTICS if name in set(table["statistic"])]
        statistic = view.choice(
            "of", "Statistic", known, first["statistic"], words=lambda key: STATISTICS[key].words
        )
    rows = table[table["statistic"] == statistic]
    with columns[1]:
        branches = [name for name in BRANCHES if name in set(rows["branch"])]
        branch = view.choice("branch", "Branch", branches, rows["branch"].iloc[0],
                             words=BRANCHES.__getitem__)  # fmt: skip
    rows = rows[rows["branch"] == branch]
    with columns[2]:
        blocks = sorted((rows["block"] + 1).unique().tolist())
        block = view.choice("block", "Block", blocks, int(rows["block"].iloc[0]) + 1) - 1
    with columns[3]:
        timesteps = sorted(rows["timestep"].unique().tolist(), reverse=True)
        t = view.choice("t", "Timestep", timesteps,
                        int(rows["timestep"].iloc[0]), kind="slider")  # fmt: skip
    chosen = rows[(rows["block"] == block) & (rows["timestep"] == t)]
    if len(chosen):
        st.markdown(_said(sides, place_sentence(chosen.iloc[0], sides.names)))
    left, right = st.columns(2)
    with left:
        everything = table.loc[table["statistic"] == statistic, "ratio"]
        name = STATISTICS[statistic].words
        title = f"{capital(name)}, {BRANCHES[branch]}"
        figure = built(ratio_map, rows, everything, (block, t), sides.names, title)
        show(figure, rows, MAP, parts, definition=MAP_WORDS, formula=FORMULA,
             select=lambda: _cell_clicked(view))  # fmt: skip
    with right:
        _tokens(view, sides, "in" if statistic in MODULATED else "resid", (branch, block, t))


def _cell_clicked(view: View) -> None:
    """A click on the map: its block and timestep go into the link."""
    points = st.session_state[f"figure/{MAP}"]["selection"]["points"]
    if points and points[0].get("customdata"):
        block, timestep, *_ = points[0]["customdata"]
        view.change(block=str(block), t=str(timestep))


def _tokens(view: View, sides: Sides, point: str, cell: tuple[str, int, int]) -> None:
    parts = both_results(magnitude_distribution, view, sides, ProbeSettings(), 420)
    if parts is None:
        return
    branch, block, timestep = cell
    tokens = at(named_sides(parts, sides.names), timestep=timestep, point=point, branch=branch)
    tokens = distribution(tokens[tokens["block"] == block])
    words = place_words(branch, block)
    title = f"{capital(QUANTITIES[point])}, {words}, t = {timestep}"
    figure = built(side_histogram, tokens, side_styles(sides.names, sides.runs), title)
    show(figure, tokens, "tokens", parts,
         definition=HISTOGRAM.format(QUANTITIES[point]))  # fmt: skip


def _configuration(sides: Sides) -> None:
    if sides.runs[0] == sides.runs[1]:
        empty("Both sides are one run, whose configuration is the same; its weights differ.")
        return
    table = configuration_differences(sides.base.run, sides.other.run)
    answer(configuration_sentence(table, sides.runs))
    if len(table):
        names = {"base": sides.runs[0], "other": sides.runs[1]}
        st.dataframe(table.rename(columns=names), hide_index=True, width="stretch")


def _weights(view: View, sides: Sides) -> None:
    base = sides.base
    asked = weight_differences_from(base.run, base.weights)
    settings = weights_base(base.run, base.weights)
    results = results_of(asked, view, settings, runs=[sides.other.run], weights=sides.other.weights)
    if results is None:
        return
    answer(_said(sides, weights_sentence(results.table, sides.names)))
    both = measured(results.table)
    if len(both):
        title = f"How {sides.names[1]} turned and grew against {sides.names[0]}"
        figure = built(weights_dots, both, sides.names, title)
        show(figure, results.table, "weights", results, definition=WEIGHTS,
             formula=WEIGHTS_FORMULA)  # fmt: skip
    alone = results.table[~results.table["parameter"].isin(both["parameter"])]
    listed = pd.concat([both, alone], ignore_index=True).drop(columns=["run", "weights"])
    digits = {name: st.column_config.NumberColumn(format="%.3g")
              for name in ("distance", "cosine", "rows")}  # fmt: skip
    st.dataframe(listed, hide_index=True, width="stretch", height=420, column_config=digits)
