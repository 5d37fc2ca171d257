"""Chapters of the page Magnitudes."""

import pandas as pd

from analysis.figures.magnitudes import magnitude_histogram, magnitude_map, magnitude_panels
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
from analysis.report.chapter import Chapter, Figure, Part, Shown, asked, nearest

TRAINED = asked(magnitudes, ProbeSettings())
INITIAL = asked(magnitudes, ProbeSettings(), name="magnitudes-initial", weights=("initial",))
SPREAD = asked(magnitude_distribution, ProbeSettings())
POINT, BRANCH = next(iter(QUANTITIES)), "mlp"


def _panels(shown: Shown) -> Figure:
    initial = shown.table(INITIAL)
    grey = None if initial.empty else by_block(initial)
    title = "Token magnitude from block to block"
    return magnitude_panels(by_block(shown.table(TRAINED)), grey, log=True, title=title)


def _answer(shown: Shown) -> str:
    said = growth_sentence(by_block(shown.table(TRAINED)), "over all timesteps")
    return f"{shown.weights}: {said}"


def _cell(rows: pd.DataFrame) -> tuple[int, int]:
    """The last block, in the middle of the way from noise to image."""
    return int(rows["block"].max()), nearest(rows["timestep"].unique(), 500)


def _map(shown: Shown) -> Figure:
    rows = by_timestep(at(shown.table(TRAINED), point=POINT, branch=BRANCH))
    own = rows[rows["run"] == shown.run.name]
    words = f"{QUANTITIES[POINT]}, {BRANCHES[BRANCH]}"
    return magnitude_map(own, rows["mean"], _cell(own), f"{shown.run.name}: {words}")


def _tokens(shown: Shown) -> Figure:
    block, timestep = _cell(shown.own(TRAINED))
    rows = at(shown.table(SPREAD), timestep=timestep, point=POINT, branch=BRANCH)
    rows = distribution(rows[rows["block"] == block])
    return magnitude_histogram(rows, f"Tokens at block {block + 1}, t = {timestep}")


PART = Part(
    "magnitudes",
    "Magnitudes",
    "Does the stream keep its magnitude from block to block?",
    (
        Chapter("magnitudes-by-block", "Token magnitude from block to block", (TRAINED,), _panels,
                _answer, beside=(INITIAL,)),
        Chapter("magnitudes-map", "Magnitude by block and timestep", (TRAINED,), _map,
                each_run=True),
        Chapter("magnitudes-tokens", "How the tokens' magnitudes are distributed",
                (TRAINED, SPREAD), _tokens),
    ),
)  # fmt: skip
