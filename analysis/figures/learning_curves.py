"""Loss by step: held-out bold, training thin, one colour and dash a run."""

import math
from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.theme import HEIGHT, finish, in_run_order, run_style

LABEL_SPACE = 16
"""Pixels between the names at the lines' ends."""
TICKS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1.0)
_TOP, _BOTTOM = 56, 56


def learning_curves(table: pd.DataFrame, held_out: str) -> go.Figure:
    """Loss by step; table: `learning_curves_of` of several runs.

    held_out: the part drawn bold ("held-out" or "held-out, EMA 10 %"). The axis starts at the
    lowest loss and leaves out the first moments, where every loss is near 1."""
    figure = go.Figure()
    runs = in_run_order(table["run"])
    for name in runs:
        own = table[table["run"] == name]
        figure.add_trace(_line(own[own["part"] == "training"], name, "training", 1))
        figure.add_trace(_line(own[own["part"] == held_out], name, held_out, 3))
    low, high = _range(table)
    figure.update_yaxes(
        type="log",
        range=[math.log10(low), math.log10(high)],
        title_text="loss (mean squared error of the noise)",
        tickvals=TICKS,
    )
    figure.update_xaxes(title_text="training step")
    finish(figure, "Loss by training step: held-out images bold, training thin")
    figure.update_layout(showlegend=False, margin={"t": _TOP, "b": _BOTTOM, "r": 120})
    _name_ends(figure, table[table["part"] == held_out], runs, (low, high))
    return figure


def _line(rows: pd.DataFrame, name: str, part: str, width: int) -> go.Scatter:
    style = run_style(name)
    bold = width > 1
    return go.Scatter(
        x=rows["step"],
        y=rows["value"],
        name=name,
        mode="lines+markers" if bold else "lines",
        line=style.line(width) if bold else {"color": style.colour, "width": width},
        marker=style.points(6),
        opacity=1 if bold else 0.6,
        hovertemplate=f"{name}, {part}<br>step %{{x:,}}<br>loss %{{y:.3g}}<extra></extra>",
    )


def _range(table: pd.DataFrame) -> tuple[float, float]:
    """From just below the lowest loss to the highest after the first tenth of each training."""
    last = table.groupby("run")["step"].transform("max")
    late = table[table["step"] >= last / 10]
    return float(table["value"].min()) * 0.97, float(late["value"].max()) * 1.1


def _name_ends(
    figure: go.Figure, rows: pd.DataFrame, runs: Sequence[str], limits: tuple[float, float]
) -> None:
    """Write each run's name at the end of its line, pushed apart where lines end close together."""
    ends = (
        rows.sort_values("step").groupby("run").last().reindex(runs).dropna().sort_values("value")
    )
    height = (HEIGHT - _TOP - _BOTTOM) / math.log(limits[1] / limits[0])
    lowest = -math.inf
    for name, end in ends.iterrows():
        place = height * math.log(end["value"] / limits[0])
        lowest = max(place, lowest + LABEL_SPACE)
        figure.add_annotation(
            x=end["step"],
            y=math.log10(end["value"]),
            text=str(name),
            font={"color": run_style(str(name)).colour, "size": 12},
            showarrow=False,
            xanchor="left",
            xshift=8,
            yshift=lowest - place,
        )
