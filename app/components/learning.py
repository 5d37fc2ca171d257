"""Training and held-out loss over training, as the pages Runs and Quality show it."""

from collections.abc import Sequence

import pandas as pd

from analysis.figures.learning_curves import learning_curves
from analysis.runs_overview import AVERAGED, HELD_OUT, TRAINING, learning_curves_of
from app.components.built import built
from app.components.figure import show
from app.components.frame import empty
from app.components.results import Results
from app.view import View

CURVES = (
    "Loss: mean squared error of the predicted noise, averaged over timesteps; the training loss "
    "is a running mean over about 50 batches of the raw weights."
)


def learning(view: View, made_from: Sequence[Results] = ()) -> None:
    """The curves of the runs in view, with the choice of the bold line."""
    tables = [learning_curves_of(run) for run in view.runs]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        empty("None of the chosen runs has a training log (metrics.jsonl) to draw.")
        return
    parts = [part for part in (AVERAGED, HELD_OUT) if part in set(table["part"])]
    part = view.choice("heldout", "Bold line", parts, kind="buttons") if parts else HELD_OUT
    rows = table[table["part"].isin((TRAINING, part))].reset_index(drop=True)
    show(built(learning_curves, rows, part), rows, "curves", made_from, definition=CURVES)
