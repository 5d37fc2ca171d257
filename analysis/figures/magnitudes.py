"""Figures of token magnitudes: panels of all runs, a map of one, the distribution at a place."""

import math
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.theme import (
    HEIGHT,
    MUTED,
    around_one,
    block_axis,
    finish,
    in_run_order,
    mark_one,
    run_style,
    timestep_axis,
)
from analysis.magnitudes import BRANCHES, DEVIATIONS, QUANTITIES

ACROSS = 5
"""Panels side by side: the ladder A to E fills one row."""
ROW_HEIGHT = 210
POINTS = ("in", "resid")
"""From the upper panel of a run to the lower."""
DASHES = {"attn": "solid", "mlp": "dash"}
MARKERS = {"attn": "circle", "mlp": "square"}
SMALLEST = 1e-3
"""Where the band ends on a logarithmic axis, as a share of the mean."""
CELL = 22
"""Size in pixels of the invisible marks that make a heatmap's cells clickable."""


def panels_height(runs: int) -> int:
    """Height of `magnitude_panels` for so many runs, in pixels."""
    return 140 + 2 * ROW_HEIGHT * math.ceil(max(runs, 1) / ACROSS)


def magnitude_panels(
    trained: pd.DataFrame, initial: pd.DataFrame | None, *, log: bool, title: str
) -> go.Figure:
    """One column per run, the modulated input above the residual output; all axes are shared.

    trained, initial: `by_block` tables; initial is drawn in grey, without a band."""
    names = tuple(in_run_order(trained["run"]))
    blocks = int(trained["block"].max()) + 1
    frame = deepcopy(_frame(names, blocks, log, initial is not None))
    of, before = _by_line(trained), {} if initial is None else _by_line(initial)
    traces = [
        trace | _panel(number, offset, len(names))
        for number, name in enumerate(names)
        for offset, point in enumerate(POINTS)
        for trace in (
            *_lines(before, name, point, initial=True),
            *_bands(of, name, point, log),
            *_lines(of, name, point),
        )
    ]
    layout = frame["layout"]
    layout["title"]["text"] = title
    scale = _y_range(trained, log)
    for axis in (name for name in layout if name.startswith("yaxis")):
        layout[axis] |= scale
    # Checked by plotly, sixty traces take longer than a slider may; a test has them checked.
    return go.Figure({"data": [*traces, *frame["data"]], "layout": layout}, _validate=False)


@lru_cache(maxsize=64)
def _frame(names: tuple[str, ...], blocks: int, log: bool, initial: bool) -> dict[str, Any]:
    """The panels without data: layout, and traces that stand for the legend's entries."""
    across, groups = min(ACROSS, len(names)), math.ceil(len(names) / ACROSS)
    titles = [""] * (2 * groups * across)
    for number, name in enumerate(names):
        titles[2 * (number // ACROSS) * across + number % ACROSS] = name
    figure = make_subplots(
        2 * groups, across, shared_xaxes="all", shared_yaxes="all", subplot_titles=titles,
        horizontal_spacing=0.015, vertical_spacing=0.12 / (2 * groups),
    )  # fmt: skip
    figure.add_traces(_legend(initial))
    figure.update_layout(
        legend={"yref": "container", "y": 0, "yanchor": "bottom"}, margin={"b": 84}
    )
    _axes(figure, blocks, groups, log)
    middle = (across + 1) // 2
    figure.update_xaxes(title_text="block", row=2 * groups, col=middle)
    return finish(figure, "", panels_height(len(names))).to_dict()


def _panel(number: int, offset: int, runs: int) -> dict[str, str]:
    """The axes of a run's panel; offset: 0 for the upper one. plotly counts panels row by row."""
    row, column = 2 * (number // ACROSS) + offset, number % ACROSS
    place = row * min(ACROSS, runs) + column
    suffix = str(place + 1) if place else ""
    return {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}


Trace = dict[str, Any]
Lines = Mapping[tuple[str, str, str], pd.DataFrame]
"""Run, point, branch -> its rows, by block."""


def _by_line(table: pd.DataFrame) -> Lines:
    groups = table.sort_values("block").groupby(["run", "point", "branch"], sort=False)
    return {(str(run), str(point), str(branch)): rows for (run, point, branch), rows in groups}


def _lines(of: Lines, run: str, point: str, initial: bool = False) -> list[Trace]:
    colour = MUTED if initial else run_style(run).colour
    branches = [branch for branch in BRANCHES if (run, point, branch) in of]
    return [_line(of[run, point, branch], colour, branch, initial) for branch in branches]


def _line(rows: pd.DataFrame, colour: str, branch: str, initial: bool) -> Trace:
    first = rows.iloc[0]
    weights = "initial" if initial else first["weights"]
    return dict(
        type="scatter",
        x=(rows["block"] + 1).to_numpy(),
        y=rows["mean"].to_numpy(),
        customdata=rows[["deviation", "n"]].to_numpy(),
        name=f"{first['run']} {first['point']} {branch}{' initial' if initial else ''}",
        mode="lines+markers",
        line={
            "color": colour,
            "dash": "dot" if initial else DASHES[branch],
            "width": 1 if initial else 2,
        },
        marker={
            "symbol": MARKERS[branch] + ("-open" if initial else ""),
            "size": 5 if initial else 6,
            "color": colour,
        },
        hovertemplate=f"{first['run']}, {BRANCHES[branch]}, {weights}<br>block %{{x}}"
        "<br>magnitude %{y:.3g}, standard deviation "
        "%{customdata[0]:.3g}<br>%{customdata[1]:,} tokens<extra></extra>",
        showlegend=False,
    )


def _bands(of: Lines, run: str, point: str, log: bool) -> list[Trace]:
    branches = [branch for branch in BRANCHES if (run, point, branch) in of]
    return [_band(of[run, point, branch], branch, log) for branch in branches]


def _band(rows: pd.DataFrame, branch: str, log: bool) -> Trace:
    first = rows.iloc[0]
    lower = rows["mean"] - DEVIATIONS * rows["deviation"]
    upper = rows["mean"] + DEVIATIONS * rows["deviation"]
    lower = lower.clip(lower=rows["mean"] * SMALLEST if log else 0.0)
    blocks = rows["block"] + 1
    return dict(
        type="scatter",
        x=[*blocks, *blocks[::-1]],
        y=[*upper, *lower[::-1]],
        name=f"{first['run']} {first['point']} {branch} band",
        fill="toself",
        fillcolor=_faint(run_style(first["run"]).colour),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def _legend(initial: bool) -> list[go.Scatter]:
    """Entries for the kinds of line; a run is named by its panel."""
    kinds = [(words, DASHES[branch], MARKERS[branch], 2) for branch, words in BRANCHES.items()]
    if initial:
        kinds.append(("initial weights", "dot", "circle-open", 1))
    return [
        go.Scatter(
            x=[None],
            y=[None],
            name=words,
            mode="lines+markers",
            line={"color": MUTED, "dash": dash, "width": width},
            marker={"symbol": marker, "color": MUTED},
        )
        for words, dash, marker, width in kinds
    ]


def _axes(figure: go.Figure, blocks: int, groups: int, log: bool) -> None:
    block_axis(figure, blocks)
    # Few ticks: on a telephone a panel is as wide as a finger.
    ticks = list(range(1, blocks + 1, max(1, math.ceil(blocks / 4))))
    figure.update_xaxes(title_text=None, tickvals=ticks, tickangle=0)
    mark_one(figure)
    figure.update_yaxes(type="log" if log else "linear", matches="y")
    for group in range(groups):
        for offset, point in enumerate(POINTS):
            row = 2 * group + offset + 1
            figure.update_yaxes(title_text=QUANTITIES[point], row=row, col=1)


def _y_range(trained: pd.DataFrame, log: bool) -> dict:
    """One range for all panels; on the logarithmic axis the lowest bands are cut."""
    finite = trained[np.isfinite(trained["mean"])]
    if finite.empty:
        return {}
    top = float((finite["mean"] + DEVIATIONS * finite["deviation"]).max()) * 1.1
    if not log:
        return {"range": [0, top]}
    lowest = (finite["mean"] - DEVIATIONS * finite["deviation"]).clip(lower=finite["mean"] / 4)
    positive = lowest[lowest > 0]
    bottom = float(positive.min()) / 1.1 if len(positive) else 0.1
    powers = [power for power in range(-20, 21) if bottom <= 2.0**power <= top]
    step = max(1, math.ceil(len(powers) / 6))
    ticks = [power for power in powers if power % step == 0]
    return {
        "range": [math.log10(min(bottom, 0.9)), math.log10(max(top, 1.1))],
        "tickvals": [2.0**power for power in ticks],
        "ticktext": [f"{2.0**power:.3g}" for power in ticks],
    }


def magnitude_map(
    table: pd.DataFrame, everything: pd.Series, cell: tuple[int, int], title: str
) -> go.Figure:
    """Block by timestep of one run; the chosen cell (block from 0, timestep) is framed.

    table: `by_timestep` of one run; everything: all means in view, which fix the colours. Every
    cell can be clicked: a heatmap reports no clicks, so invisible marks lie on it."""
    wide = table.pivot(index="block", columns="timestep", values="mean")
    with np.errstate(divide="ignore"):
        logs = np.log2(wide.to_numpy())
    heatmap = go.Heatmap(
        x=wide.columns, y=wide.index + 1, z=logs, hoverinfo="skip", **around_one(everything)
    )
    figure = go.Figure(heatmap)
    figure.add_trace(
        go.Scatter(
            x=table["timestep"],
            y=table["block"] + 1,
            customdata=table[["mean", "deviation", "n"]],
            mode="markers",
            marker={"size": CELL, "symbol": "square", "opacity": 0},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            hovertemplate="block %{y}, t = %{x}<br>magnitude %{customdata[0]:.3g}, standard "
            "deviation %{customdata[1]:.3g}<br>%{customdata[2]:,} tokens<extra></extra>",
            showlegend=False,
            name="cells",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[cell[1]], y=[cell[0] + 1], mode="markers", hoverinfo="skip", showlegend=False,
            name="chosen", marker={"size": 16, "symbol": "square-open", "color": "#111111",
                                   "line": {"width": 3}},
            selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}},
        )
    )  # fmt: skip
    timestep_axis(figure)
    # The map stands in half a page: the words of the other pages would be cut there.
    figure.update_xaxes(title_text="timestep t, noise to image", tickangle=0)
    figure.update_traces(colorbar_thickness=14, selector={"type": "heatmap"})
    blocks = int(table["block"].max()) + 1
    step = max(1, math.ceil(blocks / 12))
    figure.update_yaxes(
        title_text="block", tickvals=list(range(1, blocks + 1, step)), range=[0.5, blocks + 0.5],
        showgrid=False,
    )  # fmt: skip
    figure.update_xaxes(showgrid=False)
    figure.update_layout(hovermode="closest", clickmode="event+select", dragmode=False)
    return finish(figure, title, HEIGHT)


def magnitude_histogram(table: pd.DataFrame, title: str) -> go.Figure:
    """Share of tokens per bin of magnitude, one outline a run; table: `distribution`."""
    figure = go.Figure()
    for name in in_run_order(table["run"]):
        rows = table[table["run"] == name].sort_values("bin")
        edges, shares = _outline(rows)
        style = run_style(name)
        figure.add_trace(
            go.Scatter(
                x=edges,
                y=shares,
                name=name,
                mode="lines",
                line=style.line() | {"shape": "hv", "dash": "solid"},  # narrow bins hide a dash
                hovertemplate=f"{name}<br>from %{{x:.3g}}: %{{y:.1%}} of "
                f"{int(rows['n'].iloc[0]):,} tokens<extra></extra>",
            )
        )
        peak = int(np.argmax(shares))
        figure.add_annotation(
            x=math.log10(edges[peak] * 2 ** (1 / 16)), y=shares[peak], text=name, showarrow=False,
            yshift=9, font={"color": style.colour},
        )  # fmt: skip
    figure.add_vline(x=1, line_dash="dot", line_color=MUTED, line_width=1)
    low, high = _span(table)
    ticks = list(range(low, high + 1, max(1, math.ceil((high - low) / 8))))
    figure.update_xaxes(
        type="log", title_text="magnitude of a token", tickangle=0,
        range=[low * math.log10(2), high * math.log10(2)],
        tickvals=[2.0**t for t in ticks], ticktext=[f"{2.0**t:.3g}" for t in ticks],
    )  # fmt: skip
    figure.update_yaxes(title_text="share of tokens", tickformat=".0%", rangemode="tozero")
    figure.update_layout(showlegend=False)
    return finish(figure, title, HEIGHT)


WIDTH_OF_BIN = 1 / 8
"""Octaves; the recorder's bins."""


def _outline(rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Edges and shares of a step line, empty bins in between and at both ends at 0."""
    inner = rows[np.isfinite(rows["bin"])]
    if inner.empty:
        return [1.0], [0.0]
    first = float(inner["bin"].min())
    place = ((inner["bin"] - first) / WIDTH_OF_BIN).round().astype(int)
    shares = dict(zip(place, inner["share"], strict=True))
    steps = range(-1, int(place.max()) + 2)
    edges = [2.0 ** (first + step * WIDTH_OF_BIN) for step in steps]
    return edges, [shares.get(step, 0.0) for step in steps]


def _span(table: pd.DataFrame) -> tuple[int, int]:
    finite = table["bin"][np.isfinite(table["bin"])]
    if finite.empty:
        return -1, 1
    return min(-1, math.floor(finite.min() - 0.2)), max(1, math.ceil(finite.max() + 0.3))
