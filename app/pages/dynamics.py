"""Do weights grow without bound, and do all layers learn equally fast?"""

import pandas as pd
import streamlit as st

from analysis.dynamics import DynamicsSettings, weight_dynamics
from analysis.dynamics_alarms import Thresholds, alarm_count, alarms
from analysis.dynamics_ranking import (
    dynamics_sentence,
    layer_words,
    matrices,
    ranking_in_units,
    spread,
    steps_sentence,
)
from analysis.figures.dynamics import (
    QUANTITIES,
    layer_panels,
    rates_by_layer,
    spread_by_step,
)
from app.components import Results, View, answer, built, empty, part, question, results_of, show

LIMITS = Thresholds()
BESIDE = 5
"""Up to this many runs the two figures of learning rates stand side by side."""
WHAT = {"matrices": "weight matrices", "vectors": "gains and vectors"}

READ = (
    "All saved raw weights are read, so the weights chosen in the sidebar do not matter here. "
    "{steps}"
)
DEFINITIONS = {
    "growth": "Growth: mean norm of a layer's rows relative to the first saved step at which it is "
    "not zero; white is unchanged, brown grown, blue shrunk, grey zero or not there.",
    "norm_mean": "Norm of a row (all weights of one output): root of its sum of squares; mean over "
    "the rows of a layer.",
    "norm_max": "Norm of a row (all weights of one output): root of its sum of squares; maximum "
    "over the rows of a layer.",
    "effective_lr": "Effective learning rate: movement since the saved step before, per step, "
    "relative to the weights there. A net movement: forth and back cancel, so compare equally long "
    "intervals only.",
    "angle": "Angle between a layer's flattened weights and those at the saved step before.",
    "angle_since": "Angle between a layer's flattened weights and those at the first saved step "
    "at which it is not zero; 90 degrees: nothing is left of the start.",
    "stable_rank": "Stable rank: how many directions carry the weights, at most the smaller side "
    "of the matrix; 1 is a single one.",
}
FORMULA = r"""For rows $w_i$ of a weight matrix $W$ (inputs flattened): growth
$\overline{\lVert w_i\rVert}(t)\,/\,\overline{\lVert w_i\rVert}(t_0)$; effective learning rate
$\lVert W_t - W_s\rVert / (\lVert W_s\rVert (t - s))$ with $s$ the saved step before $t$; stable
rank $\lVert W\rVert_F^2/\lVert W\rVert_2^2$. Under weight normalization a longer row gives the
same output, and learns more slowly; under forced normalization rows keep the norm
$\sqrt{n_\text{in}}$. Where colours are logarithmic they end at the 1st and 99th percentile."""
RATES = (
    "Effective learning rate of each weight matrix over the interval that ends at a saved step; "
    "the band holds 80 % of them."
)
SPREAD = (
    "Spread: 90th percentile of the layers' effective learning rates over the 10th. Where it is "
    "large, one learning rate is too high for some layers and too low for others."
)

RANKED = (
    "Weight matrices of all runs in view, by growth of their mean row norm; the learning rate is "
    "that of the last interval between saved steps. A click on a heading sorts."
)


def page(view: View) -> None:
    question("Do weights grow without bound, and do all layers learn equally fast?")
    place = st.container()
    results = results_of(weight_dynamics, view, DynamicsSettings(), weights="final", height=640)
    if results is None:
        return
    moving = matrices(results.table)
    with place:
        _answer(results.table, moving)
    _panels(view, results)
    if moving.empty or not (moving["interval"] > 0).any():
        empty(
            "The chosen runs keep one saved step each, so nothing can be compared; training keeps "
            "more of them when asked to.",
            "mpdit train --out runs/mine --save-every 500",
        )
        return
    rates, ranked = view.tabs("tab", ["Learning rates", "Ranking"])
    with rates:
        _rates(view, results, moving)
    with ranked:
        _ranking(moving)


def _answer(table: pd.DataFrame, moving: pd.DataFrame) -> None:
    found = alarms(table, LIMITS, layer_words)
    count = alarm_count(found, table["run"].nunique())
    answer(f"{dynamics_sentence(moving, layer_words)} {count}")
    if len(found):
        told = (f"- **{run}**: {said}" for run, said in found[["run", "reason"]].to_numpy())
        st.warning("\n".join(told))
    st.caption(READ.format(steps=steps_sentence(table)))


def _panels(view: View, results: Results) -> None:
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        name = view.choice(
            "shown", "Shown", list(QUANTITIES), words=lambda name: QUANTITIES[name].words
        )
    parts = {"matrices": results.table["matrix"], "vectors": ~results.table["matrix"]}
    kinds = [kind for kind, rows in parts.items() if rows.any()]
    with right:
        kind = view.choice("of", "Of", kinds, kind="buttons", words=WHAT.__getitem__)
    rows = results.table[parts[kind]].reset_index(drop=True)
    quantity = QUANTITIES[name]
    figure = built(layer_panels, rows, quantity, f"{quantity.words} of {WHAT[kind]}, by layer")
    show(figure, rows, "layers", results, definition=DEFINITIONS[name], formula=FORMULA)


@part
def _rates(view: View, results: Results, moving: pd.DataFrame) -> None:
    run, spreads = view.focus(), spread(moving)
    # The names of many runs under a figure of half a page would leave it no room.
    left, right = st.columns(2) if len(view.runs) <= BESIDE else (st.container(), st.container())
    with left:
        own, its = moving[moving["run"] == run.name], spreads[spreads["run"] == run.name]
        if its.empty:
            empty(f"{run.name} keeps one saved step, so no learning rate can be told.")
        else:
            figure = built(rates_by_layer, own, its, f"Learning rates of the layers of {run.name}")
            show(figure, own, "rates", results, definition=RATES, formula=FORMULA)
    with right:
        figure = built(
            spread_by_step, spreads, LIMITS.spread, "Spread of learning rates over layers"
        )
        show(figure, spreads, "spread", results, definition=SPREAD, formula=FORMULA)


def _ranking(moving: pd.DataFrame) -> None:
    ranked = ranking_in_units(moving, layer_words)
    st.caption(RANKED)
    digits = {
        name: st.column_config.NumberColumn(format="localized" if "step" in name else "%.3g")
        for name in ranked.columns[2:]
    }
    st.dataframe(ranked, hide_index=True, width="stretch", height=420, column_config=digits)
