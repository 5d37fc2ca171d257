"""Chapters of the page Weight dynamics."""

import pandas as pd

from analysis.dynamics import DynamicsSettings, weight_dynamics
from analysis.dynamics_alarms import Thresholds, alarm_count, alarms
from analysis.dynamics_ranking import (
    dynamics_sentence,
    layer_words,
    matrices,
    ranking_in_units,
    spread,
)
from analysis.figures.dynamics import QUANTITIES, layer_panels, rates_by_layer, spread_by_step
from analysis.report.chapter import Chapter, Figure, Part, Shown, asked

LIMITS = Thresholds()
LAYERS = asked(weight_dynamics, DynamicsSettings(), weights=("final",))
GROWTH = QUANTITIES["growth"]


def _panels(shown: Shown) -> Figure:
    table = shown.table(LAYERS)
    rows = table[table["matrix"]].reset_index(drop=True)
    return layer_panels(rows, GROWTH, f"{GROWTH.words} of weight matrices, by layer")


def _answer(shown: Shown) -> str:
    table = shown.table(LAYERS)
    found = alarms(table, LIMITS, layer_words)
    told = [f"{run}: {reason}" for run, reason in found[["run", "reason"]].to_numpy()]
    count = alarm_count(found, table["run"].nunique())
    return " ".join([dynamics_sentence(matrices(table), layer_words), count, *told])


def _moving(shown: Shown) -> pd.DataFrame:
    return matrices(shown.table(LAYERS))


def _one_step(shown: Shown) -> str:
    rows = _moving(shown)
    if len(rows) and (rows["interval"] > 0).any():
        return ""
    return "The runs keep one saved step each, so nothing can be compared."


def _own_one_step(shown: Shown) -> str:
    rows = spread(_moving(shown)) if not _one_step(shown) else pd.DataFrame({"run": []})
    if (rows["run"] == shown.run.name).any():
        return ""
    return f"{shown.run.name} keeps one saved step, so no learning rate can be told."


def _rates(shown: Shown) -> Figure:
    name, moving = shown.run.name, _moving(shown)
    own, spreads = moving[moving["run"] == name], spread(moving)
    its = spreads[spreads["run"] == name]
    return rates_by_layer(own, its, f"Learning rates of the layers of {name}")


def _spread(shown: Shown) -> Figure:
    title = "Spread of learning rates over layers"
    return spread_by_step(spread(_moving(shown)), LIMITS.spread, title)


def _ranking(shown: Shown) -> pd.DataFrame:
    return ranking_in_units(_moving(shown), layer_words)


PART = Part(
    "dynamics",
    "Weight dynamics",
    "Do weights grow without bound, and do all layers learn equally fast?",
    (
        Chapter("dynamics-layers", "Growth of weight matrices, by layer", (LAYERS,), _panels,
                _answer),
        Chapter("dynamics-rates", "Effective learning rates of the layers", (LAYERS,), _rates,
                each_run=True, lacking=_own_one_step),
        Chapter("dynamics-spread", "Spread of learning rates over layers", (LAYERS,), _spread,
                lacking=_one_step),
        Chapter("dynamics-ranking", "Weight matrices by growth", (LAYERS,), rows=_ranking,
                lacking=_one_step),
    ),
)  # fmt: skip
