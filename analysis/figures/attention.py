"""A panel per run: how focused every head of attention is, or how far it reaches."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.attention import CONFIDENCE
from analysis.figures.theme import (
    SEQUENTIAL,
    block_axis,
    finish,
    in_run_order,
    timestep_axis,
)

ACROSS = 5
"""Panels side by side: the ladder A to E fills one row."""
ROW_HEIGHT, MARGINS = 200, 124
POINTER = "#e0812f"
"""Marks what the controls have chosen; told apart from every purple of the heatmap."""
UPPER_HALF_VISIBLE = [(position**0.4, colour) for position, colour in SEQUENTIAL]
"""Most heads are nearer to uniform than to a single patch: the colours differ most there."""
LONG = 12
"""Letters of a name that a panel has room for in one line."""
CELL = 20
"""Pixels of the invisible marks that make a heatmap's cells clickable."""


@dataclass(frozen=True)
class Shown:
    """A column of `attention_heads` as a colour. most: the column of its value for uniform rows."""

    column: str
    words: str
    unit: str
    most: str


SHOWN = {
    "entropy": Shown("entropy", "entropy", "nats", "entropy_most"),
    "distance": Shown("distance", "attention distance", "patches", "distance_uniform"),
}


def panels_height(runs: int) -> int:
    """Height of figures with a panel per run, in pixels."""
    return MARGINS + ROW_HEIGHT * math.ceil(max(runs, 1) / ACROSS)


def panel_name(run: str) -> str:
    """The run's name; a long one in two lines, since a panel is narrow.

    >>> panel_name("scale-gate-rotation")
    'scale-gate-<br>rotation'
    """
    breaks = [place for place, letter in enumerate(run) if letter in "-_ "]
    if len(run) <= LONG or not breaks:
        return run
    middle = min(breaks, key=lambda place: abs(place - len(run) / 2)) + 1
    return f"{run[:middle]}<br>{run[middle:]}"


def by_head(rows: pd.DataFrame, shown: Shown, limit: float, title: str) -> go.Figure:
    """A panel per run, head by block; rows: `attention_heads` at one timestep.

    limit: the end of the colour scale, the same at every timestep; see `with_values`."""
    figure = _panels(rows, shown, limit, ("block", "head"))
    block_axis(figure, int(rows["block"].max()) + 1)
    _count_axis(figure, int(rows["head"].max()) + 1, "head")
    return finished(figure, rows, title, "block")


def with_values(figure: go.Figure, rows: pd.DataFrame, shown: Shown, title: str) -> go.Figure:
    """The figure of `by_head` with the numbers of another timestep: a fifth of building it anew."""
    traces = {trace.name: trace for trace in figure.data}
    for name, own in rows.groupby("run"):
        traces[name].z = _grid(own, shown, ("block", "head")).to_numpy()
        traces[f"{name} cells"].customdata = _custom(own, shown)
    figure.layout.title.text = title
    return figure


def by_timestep(rows: pd.DataFrame, shown: Shown, limit: float, title: str) -> go.Figure:
    """A panel per run, block by timestep; rows: `averaged` over heads."""
    figure = _panels(rows, shown, limit, ("timestep", "block"))
    timestep_axis(figure)
    figure.update_xaxes(tickvals=[800, 500, 200])
    _count_axis(figure, int(rows["block"].max()) + 1, "block")
    return finished(figure, rows, title, "t (999 = noise, 0 = image)")


def mark_place(figure: go.Figure, run: str, x: int, y: int) -> go.Figure:
    """A frame around one cell (as on screen) in the panel of the run.

    It has no hover, so that the cell below it can still be clicked."""
    panel = next((trace for trace in figure.data if trace.name == f"{run} cells"), None)
    if panel is None:
        return figure
    mark = go.Scatter(
        x=[x], y=[y], xaxis=panel.xaxis, yaxis=panel.yaxis, mode="markers", hoverinfo="skip",
        showlegend=False, name="chosen",
        marker={"symbol": "square-open", "size": 17, "color": POINTER, "line": {"width": 3}},
        selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
    )  # fmt: skip
    return figure.add_trace(mark)


def _panels(rows: pd.DataFrame, shown: Shown, limit: float, axes: tuple[str, str]) -> go.Figure:
    names = in_run_order(rows["run"])
    across, down = min(ACROSS, len(names)), math.ceil(len(names) / ACROSS)
    figure = make_subplots(
        down, across, shared_xaxes="all", shared_yaxes="all",
        subplot_titles=[panel_name(name) for name in names],
        horizontal_spacing=0.015, vertical_spacing=0.26 / down,
    )  # fmt: skip
    for number, name in enumerate(names):
        own = rows[rows["run"] == name]
        where = {"row": number // ACROSS + 1, "col": number % ACROSS + 1}
        figure.add_trace(_heatmap(own, shown, axes, name), **where)
        figure.add_trace(_cells(own, shown, axes, name), **where)
    bar = {"title": {"text": shown.unit, "side": "right"}, "thickness": 12, "nticks": 5}
    figure.update_layout(
        coloraxis={"colorscale": UPPER_HALF_VISIBLE, "cmin": 0, "cmax": limit, "colorbar": bar}
    )
    return figure


def _heatmap(rows: pd.DataFrame, shown: Shown, axes: tuple[str, str], name: str) -> go.Heatmap:
    x, y = axes
    grid = _grid(rows, shown, axes)
    return go.Heatmap(
        x=grid.columns + (x != "timestep"), y=grid.index + 1, z=grid.to_numpy(),
        coloraxis="coloraxis", hoverinfo="skip", name=name,
    )  # fmt: skip


def _grid(rows: pd.DataFrame, shown: Shown, axes: tuple[str, str]) -> pd.DataFrame:
    return rows.pivot(index=axes[1], columns=axes[0], values=shown.column).sort_index()


def _cells(rows: pd.DataFrame, shown: Shown, axes: tuple[str, str], name: str) -> go.Scatter:
    """Invisible marks: a heatmap reports no clicks. The first of their custom data is the run."""
    x, y = axes
    when = "t = %{x}" if x == "timestep" else f"{x} %{{x}}"
    what = "mean over heads" if x == "timestep" else "mean over rows of attention"
    return go.Scatter(
        x=rows[x] + (x != "timestep"), y=rows[y] + 1, mode="markers", name=f"{name} cells",
        customdata=_custom(rows, shown),
        marker={"size": CELL, "symbol": "square", "opacity": 0},
        selected={"marker": {"opacity": 0}}, unselected={"marker": {"opacity": 0}},
        hovertemplate=f"{name}, {y} %{{y}}, {when}<br>{shown.words} %{{customdata[1]:.3g}}"
        f"%{{customdata[2]}} {shown.unit}, {what}<br>%{{customdata[3]:.0%}} of uniform attention's"
        "<br>%{customdata[4]:.0f} images<extra></extra>",
        showlegend=False,
    )  # fmt: skip


def _custom(rows: pd.DataFrame, shown: Shown) -> list[tuple]:
    """Per cell: run, value, interval in words, share of what uniform attention has, images."""
    errors = rows["entropy_error"] if shown.column == "entropy" else rows["entropy_error"] * np.nan
    said = ["" if math.isnan(e) else f" ± {CONFIDENCE * e:.2g} (95 %)" for e in errors]
    values = rows[shown.column]
    return list(zip(rows["run"], values, said, values / rows[shown.most], rows["n"], strict=True))


def _count_axis(figure: go.Figure, count: int, title: str) -> None:
    ticks = list(range(1, count + 1, max(1, math.ceil(count / 8))))
    figure.update_yaxes(range=[0.5, count + 0.5], tickvals=ticks, showgrid=False)
    figure.update_yaxes(title_text=title, col=1)


def finished(figure: go.Figure, rows: pd.DataFrame, title: str, x_title: str) -> go.Figure:
    """One title below the panels, not one below each."""
    names = in_run_order(rows["run"])
    figure.update_xaxes(title_text="", showgrid=False, tickangle=0)
    middle = (min(ACROSS, len(names)) + 1) // 2
    figure.update_xaxes(title_text=x_title, row=math.ceil(len(names) / ACROSS), col=middle)
    figure.update_layout(hovermode="closest", clickmode="event+select", dragmode=False)
    figure.update_annotations(font_size=13)
    finish(figure, title, panels_height(len(names)))
    return figure.update_layout(margin={"t": 84})
