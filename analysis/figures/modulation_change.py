"""What each step of the modulation does to the tokens' magnitude, by block; 1 = unchanged."""

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.modulation import titled, with_legend
from analysis.figures.theme import (
    HEIGHT_SMALL,
    block_axis,
    in_run_order,
    mark_one,
    run_style,
)

STEP_ORDER = ("scale", "shift", "rotation", "gate")
LOWEST = 1 / 32
"""Ratios below are drawn here: a gate of zero has no place on a logarithmic axis."""

RATIO_TICKS = (LOWEST, 0.125, 0.25, 0.5, 0.75, 0.9, 1, 1.1, 1.5, 2, 4, 8, 16, 32)


def change_by_block(
    rows: pd.DataFrame, limits: tuple[float, float], depth: int, where: str
) -> go.Figure:
    """A panel per step, a line per run. rows: `modulation_change` at one branch, timestep, label.

    limits: smallest and largest ratio of any choice of the page (`change_limits`)."""
    runs = in_run_order(rows["run"])
    steps = [step for step in STEP_ORDER if (rows["signal"] == step).any()]
    figure = make_subplots(
        rows=1, cols=len(steps), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=steps
    )
    for column, step in enumerate(steps, start=1):
        for run in runs:
            here = rows[(rows["run"] == run) & (rows["signal"] == step)]
            if not here.empty:
                figure.add_trace(_line(here, run, step, legend=column == 1), row=1, col=column)
    block_axis(figure, depth)
    mark_one(figure)
    _ratio_axis(figure, limits)
    figure.update_yaxes(title_text="magnitude after / before", col=1)
    titled(figure, "Change of magnitude by each step", where, HEIGHT_SMALL + 80)
    figure.update_layout(showlegend=False, margin={"t": 96})
    return with_legend(figure) if len(runs) > 1 else figure


def _line(here: pd.DataFrame, run: str, step: str, legend: bool) -> go.Scatter:
    wide = here.pivot(index=["block", "n"], columns="statistic", values="value").reset_index()
    style = run_style(run)
    return go.Scatter(
        x=wide["block"] + 1,
        y=wide["ratio"].clip(lower=LOWEST),
        error_y={"array": wide["deviation"], "thickness": 1, "width": 3},
        mode="lines+markers",
        line=style.line(),
        marker=style.points(),
        name=run,
        legendgroup=run,
        showlegend=legend,
        customdata=wide[["deviation", "n", "ratio"]],
        hovertemplate="block %{x}: × %{customdata[2]:.3g}<br>± %{customdata[0]:.2g} (one standard "
        "deviation), "
        f"n = %{{customdata[1]}} images<extra>{step}, {run}</extra>",
    )


def _ratio_axis(figure: go.Figure, limits: tuple[float, float]) -> None:
    """Logarithmic: a half and a double are equally far from 1."""
    low, high = max(limits[0], LOWEST), max(limits[1], 1.0)
    low, high = min(low, 1 / 1.1) / 1.06, max(high, 1.1) * 1.06
    ticks = [tick for tick in RATIO_TICKS if low <= tick <= high]
    if high / low > 3:  # the fine ones would overlap
        ticks = [tick for tick in ticks if math.log2(tick).is_integer()]
    words = [f"≤ {tick:g}" if tick == LOWEST else f"{tick:g}" for tick in ticks]
    ends = [math.log10(low), math.log10(high)]
    figure.update_yaxes(type="log", range=ends, tickvals=ticks, ticktext=words)
