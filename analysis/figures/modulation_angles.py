"""Rotation angles: all pairs of a block on the circle, and each pair along the timesteps."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.modulation import short_timestep_axis, titled
from analysis.figures.theme import (
    MUTED,
    in_run_order,
    run_style,
)
from analysis.modulation_angles import CIRCLE_BINS, on_circle

CIRCLE_HEIGHT, ALONG_HEIGHT = 360, 380


def angle_circle(rows: pd.DataFrame, most: int, title: str, where: str) -> go.Figure:
    """rows: `rotation_angles` at one block, branch, label, timestep of each run.

    The area of a sector grows with the number of its pairs; most: the largest number that any
    choice of the page has (`most_on_circle`), so that the radius never rescales."""
    runs = in_run_order(rows["run"])
    figure = make_subplots(
        rows=1,
        cols=len(runs),
        specs=[[{"type": "polar"}] * len(runs)],
        subplot_titles=runs if len(runs) > 1 else None,
    )
    for column, run in enumerate(runs, start=1):
        here = rows[rows["run"] == run]
        figure.add_trace(_sectors(here, run, CIRCLE_BINS), row=1, col=column)
    ticks = [tick for tick in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if tick <= 0.7 * most][-3:]
    figure.update_polars(
        angularaxis={
            "rotation": 90,
            "direction": "counterclockwise",
            "tickvals": [0, 45, 90, 135, 180, 225, 270, 315],
            "ticktext": ["<b>0° no rotation</b>", "45°", "90°", "135°", "180°",
                         "-135°", "-90°", "-45°"],
            "gridcolor": "rgba(138,138,138,0.3)",
            "linecolor": MUTED,
        },
        radialaxis={
            "range": [0, most**0.5],
            "tickvals": [tick**0.5 for tick in ticks],
            "ticktext": [str(tick) for tick in ticks],
            "angle": 60,
            "tickangle": 60,
            "gridcolor": "rgba(138,138,138,0.3)",
            "linecolor": "rgba(0,0,0,0)",
            "tickfont": {"size": 11},
        },
        bgcolor="rgba(0,0,0,0)",
        gridshape="circular",
    )  # fmt: skip
    figure.update_annotations(yshift=26)
    titled(figure, title, where, CIRCLE_HEIGHT)
    return figure.update_layout(showlegend=False, margin={"t": 108, "b": 36, "l": 40, "r": 40})


def _sectors(here: pd.DataFrame, run: str, bins: int) -> go.Barpolar:
    centres, counts = on_circle(here["value"].to_numpy(), bins)
    return go.Barpolar(
        theta=np.rad2deg(centres),
        r=np.sqrt(counts),
        width=360 / bins,
        marker={"color": run_style(run).colour, "line": {"color": MUTED, "width": 0.5}},
        customdata=np.stack([counts, np.full_like(counts, len(here))], axis=1),
        name=run,
        hovertemplate="%{theta:.0f}° ± " + f"{180 / bins:.3g}°<br>%{{customdata[0]}} of "
        "%{customdata[1]} pairs<extra>" + run + "</extra>",
    )


def angles_along_timesteps(
    rows: pd.DataFrame,
    counted: pd.DataFrame,
    limit: float,
    where: str,
) -> go.Figure:
    """rows: `rotation_angles` at one block, branch and label of each run, all its timesteps.

    counted: `rotation_wraps` at the same place; limit: the largest absolute angle (radians) of any
    choice of the page. Pairs that wrap are drawn strong, the others faint; `mark_timestep` marks
    the slider's place."""
    runs = in_run_order(rows["run"])
    titles = [_wrap_words(counted[counted["run"] == run], run, runs) for run in runs]
    figure = make_subplots(
        rows=1, cols=len(runs), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=titles
    )
    for column, run in enumerate(runs, start=1):
        here, wrapped = rows[rows["run"] == run], counted[counted["run"] == run]
        for trace in _pairs(here, wrapped, run):
            figure.add_trace(trace, row=1, col=column)
    top = _top(limit)
    turns = [float(turn) for turn in np.arange(180, top, 360)]
    _levels(figure, [0.0, *turns, *(-turn for turn in turns)])
    short_timestep_axis(figure)
    figure.update_yaxes(range=[-top, top], **_angle_ticks(top))
    figure.update_yaxes(title_text="angle (degrees)", col=1)
    figure.update_annotations(font_size=12)
    titled(figure, "Angles along the timesteps", where, ALONG_HEIGHT)
    return figure.update_layout(showlegend=False, margin={"t": 92})


def _levels(figure: go.Figure, levels: Sequence[float]) -> None:
    """Lines at 0, and dotted ones where an angle wraps."""
    axes = {trace.yaxis: trace.xaxis for trace in figure.data}
    shapes = [
        {
            "type": "line",
            **{"x0": 0, "x1": 1, "y0": level, "y1": level},
            **{"xref": f"{x} domain", "yref": y},
            "line": {"color": MUTED, "width": 1, "dash": "dot" if level else "solid"},
        }
        for y, x in axes.items()
        for level in levels
    ]
    figure.layout.shapes = shapes


def _pairs(here: pd.DataFrame, wrapped: pd.DataFrame, run: str) -> list[go.Scatter]:
    """One line a pair; the timesteps from noise to image."""
    grid = here.pivot(index="timestep", columns="pair", values="value").sort_index(ascending=False)
    times = wrapped[wrapped["statistic"] == "wraps"].set_index("pair")["value"].astype(int)
    style = run_style(run)
    return [
        go.Scatter(
            x=grid.index.to_numpy(),
            y=np.rad2deg(grid[pair].to_numpy()),
            mode="lines",
            line={"color": style.colour, "width": 1.6 if times.get(pair, 0) else 1},
            opacity=0.9 if times.get(pair, 0) else 0.4,
            name=f"pair {pair + 1}",
            hovertemplate=f"pair {pair + 1}, t = %{{x}}: %{{y:.0f}}°<br>wraps "
            f"{times.get(pair, 0)} times from 999 to 0<extra>{run}</extra>",
        )
        for pair in grid.columns
    ]


def _wrap_words(counted: pd.DataFrame, run: str, runs: Sequence[str]) -> str:
    """How many pairs wrap, and how often in all."""
    times = counted[counted["statistic"] == "wraps"]["value"]
    wrapping = int((times > 0).sum())
    words = f"{wrapping} of {len(times)} wrap, {int(times.sum())} times in all"
    return words if len(runs) == 1 else f"{run}: {words}"


def _top(limit: float) -> float:
    """The end of the axis in degrees: a round number that holds the limit."""
    degrees = float(np.rad2deg(limit))
    small = next((end for end in (15.0, 30.0, 60.0) if degrees <= end), None)
    return small or float(np.ceil(degrees / 90 - 1e-9)) * 90


def _angle_ticks(top: float) -> Mapping[str, list]:
    step = next(
        (s for s in (5, 10, 15, 30, 90, 180, 360) if top / s <= 4), 720 * max(1, round(top / 2880))
    )
    ticks = np.arange(-(top // step) * step, top + 1, step)
    return {"tickvals": list(ticks), "ticktext": [f"{tick:.0f}°" for tick in ticks]}
