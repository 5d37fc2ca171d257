"""Strength of the modulation: block by timestep, a panel per signal, a column per run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.theme import SEQUENTIAL, finish, in_run_order, timestep_axis

SIGNAL_ORDER = ("scale", "shift", "gate", "rotation")
PANEL_TITLES = {
    "scale": "scale",
    "shift": "shift",
    "gate": "gate",
    "rotation": "rotation: mean absolute angle",
}
BAR_TITLES = {"rotation": "degrees"}
BRANCH_WORDS = {"attn": "attention", "mlp": "MLP", "final": "final layer"}
POINTER = "#e0812f"
"""Marks what the controls have chosen; told apart from every purple of the heatmap."""

SMALL_VALUES_VISIBLE = [(position**2, colour) for position, colour in SEQUENTIAL]
"""Colours move towards 0, so that a few large cells leave the small ones visible."""

PANEL_HEIGHT, MARGINS = 150, 130


def signals_in(table: pd.DataFrame) -> list[str]:
    """The signals of the table in the order of the panels."""
    return [signal for signal in SIGNAL_ORDER if (table["signal"] == signal).any()]


def strength_height(signals: int) -> int:
    """Pixels of the figure with that many panels below each other."""
    return MARGINS + PANEL_HEIGHT * max(signals, 2)


def strength_heatmaps(
    rows: pd.DataFrame,
    limits: Mapping[str, float],
    depths: Mapping[str, int],
    where: str,
) -> go.Figure:
    """rows: `modulation_strength` of one branch (and of the final layer), one label a run.

    limits: the end of each signal's colour scale (`largest`), the same for every choice of the
    page; depths: run -> blocks; where: branch and label in words. `mark_cell` marks the chosen."""
    runs, signals = in_run_order(rows["run"]), signals_in(rows)
    figure = make_subplots(
        rows=len(signals),
        cols=len(runs),
        shared_xaxes=True,
        vertical_spacing=0.075 if len(signals) > 2 else 0.12,
        horizontal_spacing=0.09,
        subplot_titles=[_panel_title(signal, run, runs) for signal in signals for run in runs],
    )
    for row, signal in enumerate(signals, start=1):
        for column, run in enumerate(runs, start=1):
            here = rows[(rows["run"] == run) & (rows["signal"] == signal)]
            place: dict[str, Any] = {"row": row, "col": column}
            if here.empty:
                _say_none(figure, row, column)
                continue
            figure.add_trace(_heatmap(here, signal, f"coloraxis{row}"), **place)
            _block_ticks(figure, here, depths[run], **place)
    _colour_scales(figure, signals, limits)
    short_timestep_axis(figure)
    figure.update_xaxes(title_text="", selector=lambda axis: axis.showticklabels is False)
    figure.update_annotations(font_size=13)
    figure.update_yaxes(title_text="block", col=1)
    return titled(figure, "Strength of the modulation", where, strength_height(len(signals)))


def mark_cell(figure: go.Figure, timestep: int, block: int) -> go.Figure:
    """The slider's place, and a ring around the chosen block (from 0) where a panel has it."""
    rings = [_ring(trace, timestep, block) for trace in figure.data if block + 1 in trace.y]
    mark_timestep(figure, timestep)
    return figure.add_traces(rings)


def mark_timestep(figure: go.Figure, timestep: int) -> None:
    """A line at the slider's place in every panel with data.

    Assigned at once: `add_vline` and `update_layout` would go through the shapes one by one."""
    axes = {trace.xaxis: trace.yaxis for trace in figure.data}
    line = {"color": POINTER, "width": 1.5}
    across = {"type": "line", "x0": timestep, "x1": timestep, "y0": 0, "y1": 1, "line": line}
    shapes = [{**across, "xref": x, "yref": f"{y} domain"} for x, y in axes.items()]
    figure.layout.shapes = [*figure.layout.shapes, *shapes]


def short_timestep_axis(figure: go.Figure) -> None:
    """The x axes as on every page, with words and ticks that fit half a narrow page."""
    timestep_axis(figure)
    figure.update_xaxes(title_text="t (999 = noise, 0 = image)", tickvals=[999, 500, 0])


def titled(figure: go.Figure, title: str, where: str, height: int) -> go.Figure:
    """Title, and below it in small what is looked at: narrow columns hold both."""
    finish(figure, title, height)
    place = {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 8}}
    subtitle = {"text": where, "font": {"size": 12}}
    return figure.update_layout(title={**place, "subtitle": subtitle}, margin={"t": 76})


def with_legend(figure: go.Figure) -> go.Figure:
    """A horizontal legend between title and panels."""
    place = {"x": 0, "xref": "container", "yref": "container", "yanchor": "top"}
    top = 1 - 50 / figure.layout.height
    legend = {**place, "y": top, "orientation": "h", "traceorder": "normal"}
    return figure.update_layout(showlegend=True, legend=legend, margin={"t": 112})


def _say_none(figure: go.Figure, row: int, column: int) -> None:
    """An empty panel says that the run has no such signal."""
    axes, where = figure.get_subplot(row, column), {"row": row, "col": column}
    x, y = (sum(axis.domain) / 2 for axis in (axes.xaxis, axes.yaxis))
    place = {"xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "middle"}
    figure.add_annotation(text="none", x=x, y=y, showarrow=False, **place)
    figure.update_yaxes(showticklabels=False, ticks="", showgrid=False, **where)
    figure.update_xaxes(showgrid=False, zeroline=False, **where)


def _panel_title(signal: str, run: str, runs: Sequence[str]) -> str:
    return PANEL_TITLES[signal] if len(runs) == 1 else f"{PANEL_TITLES[signal]}, {run}"


def _heatmap(here: pd.DataFrame, signal: str, coloraxis: str) -> go.Heatmap:
    grid = here.pivot(index="block", columns="timestep", values="value").sort_index()
    degrees = signal == "rotation"
    values = np.rad2deg(grid.to_numpy()) if degrees else grid.to_numpy()
    unit = "°" if degrees else ""
    words = "mean absolute angle" if degrees else "magnitude"
    channels = int(here["n"].iloc[0])
    counted = f"{channels} {'pairs' if degrees else 'channels'}"
    return go.Heatmap(
        x=grid.columns.to_numpy(),
        y=grid.index.to_numpy() + 1,
        z=values,
        coloraxis=coloraxis,
        name=signal,
        hovertemplate=f"block %{{y}}, t = %{{x}}<br>{words} %{{z:.3g}}{unit}"
        f"<br>n = {counted}<extra>{signal}</extra>",
    )


def _ring(panel: Any, timestep: int, block: int) -> go.Scatter:
    """It must not catch clicks meant for the heatmap."""
    return go.Scatter(
        x=[timestep],
        y=[block + 1],
        xaxis=panel.xaxis,
        yaxis=panel.yaxis,
        mode="markers",
        marker={"symbol": "circle-open", "size": 9, "color": POINTER, "line": {"width": 2}},
        hoverinfo="skip",
        showlegend=False,
    )


def _block_ticks(figure: go.Figure, here: pd.DataFrame, depth: int, **place: Any) -> None:
    """Blocks from 1; the final layer, where it has this signal, is named under the last."""
    step = max(1, -(-depth // 6))
    ticks = list(range(1, depth + 1, step))
    words = [str(tick) for tick in ticks]
    if (here["block"] == depth).any():
        ticks, words = [*ticks, depth + 1], [*words, "final"]
    top, bottom = here["block"].min() + 0.5, here["block"].max() + 1.5
    figure.update_yaxes(tickvals=ticks, ticktext=words, range=[bottom, top], **place)


def _colour_scales(figure: go.Figure, signals: Sequence[str], limits: Mapping[str, float]) -> None:
    for row, signal in enumerate(signals, start=1):
        domain = figure.get_subplot(row, 1).yaxis.domain
        limit = limits[signal]
        bar = {
            "title": {"text": BAR_TITLES.get(signal, "magnitude"), "side": "right"},
            "y": sum(domain) / 2,
            "len": domain[1] - domain[0],
            "thickness": 10,
            "nticks": 4,
            "outlinewidth": 0,
            "exponentformat": "power",
        }
        axis = {"colorscale": SMALL_VALUES_VISIBLE, "cmin": 0, "colorbar": bar}
        top = np.rad2deg(limit) if signal == "rotation" else limit
        figure.update_layout({f"coloraxis{row}": {**axis, "cmax": top or 1}})
