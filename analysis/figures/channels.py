"""Figures of channels: maps of all runs, the largest channels of a place, and their tokens."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.channels import EVERY, TOP
from analysis.figures.theme import (
    HEIGHT,
    SEQUENTIAL,
    TIMESTEP_TITLE,
    around_one,
    finish,
    in_run_order,
    run_style,
    timestep_axis,
)

ACROSS = 5
"""Panels side by side: the ladder A to E fills one row."""
_ROW, _FRAME, _LINE = 170, 112, 17
"""Pixels: a row of panels, what is around them, a line of a panel's title."""
_CELL = 16
"""Size in pixels of the invisible marks that make a heatmap's cells clickable."""
FARTHEST = 4.0
"""The token map's colours reach from a quarter of the mean to this many times of it."""
_NUMBERED = 8
"""Maps of up to this many tokens a side have their numbers written in."""


@dataclass(frozen=True)
class Scale:
    """Colours of a quantity: logarithmic from `low` to `high`, or linear from 0 to 1.

    low, high: what an even spread has, and what a single channel or token with everything has."""

    title: str
    low: float
    high: float
    logarithmic: bool = True
    percent: bool = True
    named: tuple[tuple[float, str], ...] = ()
    """Values with a word of their own on the bar."""

    def drawn(self, values: Any) -> np.ndarray:
        """The values as the colours take them."""
        values = np.asarray(values, dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log2(values) if self.logarithmic else values

    def said(self, value: float) -> str:
        return f"{100 * value:.3g} %" if self.percent else f"{value:.3g}"

    def axis(self) -> dict[str, Any]:
        """The colour axis, the same for every panel."""
        plain = [tick for tick in self._ticks() if all(_apart(tick, v) for v, _ in self.named)]
        ticks = [*plain, *(value for value, _ in self.named)]
        words = [*map(self.said, plain), *(word for _, word in self.named)]
        low, high = self.drawn([self.low, self.high])
        return {
            "colorscale": SEQUENTIAL, "cmin": float(low), "cmax": float(high),
            "colorbar": {
                "title": {"text": self.title, "side": "right", "font": {"size": 13}},
                "thickness": 14, "outlinewidth": 0, "tickfont": {"size": 12},
                "tickvals": self.drawn(ticks).tolist(), "ticktext": words,
            },
        }  # fmt: skip

    def _ticks(self) -> list[float]:
        if not self.logarithmic:
            return [0.0, 0.25, 0.5, 0.75, 1.0]
        octaves = math.log2(self.high / self.low)
        step = max(1, round(octaves / 4))
        steps = np.arange(0, octaves + 1e-9, step)
        return [float(self.high / 2**s) for s in steps] if self.percent else [
            float(self.low * 2**s) for s in steps
        ]  # fmt: skip


def _apart(tick: float, other: float) -> bool:
    """Whether two ticks of a logarithmic bar can both be read."""
    return not 1 / 1.8 < tick / other < 1.8


def scale_of(statistic: str, table: pd.DataFrame) -> Scale:
    """The scale of a statistic of `channel_concentration`; table: all of its rows in view."""
    size = int(table["size"].max())
    if statistic == "kurtosis":
        return Scale("kurtosis", 1.0, float(size), percent=False, named=((3.0, "3, Gaussian"),))
    words = {"share": "share of top channel", "token": "share of top token"}
    return Scale(words[statistic], 1 / size, 1.0)


def maps_height(runs: Sequence[str]) -> int:
    """Height of `place_maps` for these runs, in pixels."""
    lines = max((_lines(name) for name in runs), default=1)
    return _FRAME + (_ROW + _LINE * lines) * math.ceil(max(len(runs), 1) / ACROSS)


def _lines(name: str) -> int:
    return _wrapped(name).count("<br>") + 1


def _wrapped(name: str) -> str:
    """A long name on several lines: on a narrow page a panel is 70 pixels wide."""
    return name.replace("-", "-<br>") if len(name) > 9 else name


def place_maps(table: pd.DataFrame, scale: Scale, title: str) -> go.Figure:
    """One panel per run, block by timestep, one colour scale; every cell can be clicked.

    table: one row per run, block and timestep: value, low, high, n, said (a line of the hover)."""
    names = in_run_order(table["run"])
    across, rows = min(ACROSS, len(names)), math.ceil(len(names) / ACROSS)
    height, lines = maps_height(names), max(map(_lines, names))
    plot = height - _FRAME - _LINE * (lines - 1)
    figure = make_subplots(
        rows, across, shared_xaxes="all", shared_yaxes="all",
        subplot_titles=list(map(_wrapped, names)), horizontal_spacing=0.015,
        vertical_spacing=(_LINE * lines + 14) / plot if rows > 1 else 0,
    )  # fmt: skip
    figure.update_annotations(font_size=13)
    for number, name in enumerate(names):
        where = {"row": number // ACROSS + 1, "col": number % ACROSS + 1}
        _map(figure, table[table["run"] == name], scale, where)
    top = 56 + _LINE * lines
    figure.update_layout(coloraxis=scale.axis(), margin={"b": 56, "t": top})
    _axes(figure, table, rows, across)
    figure.update_layout(hovermode="closest", clickmode="event+select", dragmode=False)
    finish(figure, title, height)
    return figure.update_layout(title={"y": 1, "yanchor": "top", "pad": {"t": 12}})


def _map(figure: go.Figure, rows: pd.DataFrame, scale: Scale, where: dict) -> None:
    wide = rows.pivot(index="block", columns="timestep", values="value")
    run = rows["run"].iloc[0]
    figure.add_trace(
        go.Heatmap(
            x=wide.columns, y=wide.index + 1, z=scale.drawn(wide), name=run, hoverinfo="skip",
            coloraxis="coloraxis", xgap=1, ygap=1,
        ),
        **where,
    )  # fmt: skip
    ends = [
        f"{scale.said(low)} to {scale.said(high)}"
        for low, high in zip(rows["low"], rows["high"], strict=True)
    ]
    values = [scale.said(value) for value in rows["value"]]
    told = np.column_stack([rows["run"], values, ends, rows["n"], rows["said"]])
    unseen = {"marker": {"opacity": 0}}
    figure.add_trace(
        go.Scatter(
            x=rows["timestep"], y=rows["block"] + 1, customdata=told, name=f"{run} cells",
            mode="markers", marker={"size": _CELL, "symbol": "square", "opacity": 0},
            selected=unseen, unselected=unseen, showlegend=False,
            hovertemplate="%{customdata[0]}, block %{y}, t = %{x}<br>%{customdata[1]} (95 % "
            "interval %{customdata[2]}, %{customdata[3]} images)<br>%{customdata[4]}"
            "<extra></extra>",
        ),
        **where,
    )  # fmt: skip


def _axes(figure: go.Figure, table: pd.DataFrame, rows: int, across: int) -> None:
    blocks = int(table["block"].max()) + 1
    timestep_axis(figure)
    figure.update_xaxes(title_text=None, tickvals=[900, 500, 100], tickangle=0, showgrid=False,
                        range=_cell_edges(table["timestep"]))  # fmt: skip
    figure.update_xaxes(title_text=TIMESTEP_TITLE, row=rows, col=(across + 1) // 2)
    ticks = list(range(1, blocks + 1, max(1, math.ceil(blocks / 8))))
    figure.update_yaxes(tickvals=ticks, range=[0.5, blocks + 0.5], showgrid=False)
    figure.update_yaxes(title_text="block", col=1)


def _cell_edges(timesteps: pd.Series) -> list[float]:
    """The outer edges of a heatmap's cells, noise first: plotly puts edges halfway."""
    seen = np.unique(timesteps.to_numpy(dtype=float))
    if len(seen) == 1:
        return [seen[0] + 50.0, seen[0] - 50.0]
    return [seen[-1] + (seen[-1] - seen[-2]) / 2, seen[0] - (seen[1] - seen[0]) / 2]


def mark_place(figure: go.Figure, run: str, timestep: int, block: int) -> go.Figure:
    """Frame a cell of `place_maps`; block from 0. Nothing where the run has no panel."""
    panel = next((t for t in figure.data if t.type == "heatmap" and t.name == run), None)
    if panel is None:
        return figure
    shown = {"marker": {"opacity": 1}}
    for colour, width in (("#ffffff", 5), ("#111111", 2)):  # seen on the light and the dark cells
        figure.add_trace(
            go.Scatter(
                x=[timestep], y=[block + 1], xaxis=panel.xaxis, yaxis=panel.yaxis, mode="markers",
                hoverinfo="skip", showlegend=False, name="chosen", cliponaxis=False,
                selected=shown, unselected=shown,
                marker={"size": 16, "symbol": "square-open", "color": colour,
                        "line": {"width": width}},
            )
        )  # fmt: skip
    return figure


def channel_bars(rows: pd.DataFrame, everything: pd.DataFrame, rank: int, title: str) -> go.Figure:
    """The largest channels of a place; the chosen rank stands out (0: all of them).

    rows: `top_channels` of one place and timestep; everything: of all places and timesteps of this
    point, which fix the axis."""
    rows = rows[(rows["rank"] > 0) & (rows["rank"] <= TOP)].sort_values("rank")
    colour = run_style(rows["run"].iloc[0]).colour
    shown = {"marker": {"opacity": 1}}
    names = [f"channel {channel}" for channel in rows["channel"]]
    told = rows[["mean_abs", "over_median", "share", "peak", "n", "rank"]].to_numpy(dtype=float)
    figure = go.Figure(
        go.Bar(
            y=names, x=rows["over_median"], orientation="h", customdata=told, name="channels",
            marker={"color": colour, "line": {"width": 0},
                    "opacity": [1.0 if rank in (0, r) else 0.45 for r in rows["rank"]]},
            text=[f"{100 * share:.3g} %" for share in rows["share"]], textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: mean |x| %{customdata[0]:.3g}, %{customdata[1]:.3g} times that "
            "of the median channel<br>%{customdata[2]:.3%} of the square, largest |x| "
            "%{customdata[3]:.3g}<br>%{customdata[4]} images<extra></extra>",
            selected=shown, unselected=shown,
        )
    )  # fmt: skip
    top = _largest_ratio(everything)
    powers = range(0, math.ceil(math.log2(top)) + 1)
    ticks = [2.0**p for p in powers if p % max(1, math.ceil(len(powers) / 7)) == 0]
    figure.update_xaxes(
        type="log", range=[0, math.log10(top) * 1.16], tickvals=ticks,
        ticktext=[f"{tick:g}" for tick in ticks],
        title_text="mean |x|, times that of the median channel",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    figure.update_layout(showlegend=False, clickmode="event+select", dragmode=False)
    return finish(figure, title, HEIGHT)


def _largest_ratio(table: pd.DataFrame) -> float:
    ratios = table["over_median"].to_numpy(dtype=float)
    finite = ratios[np.isfinite(ratios)]
    return max(2.0, float(finite.max())) if finite.size else 2.0


def token_map(table: pd.DataFrame, title: str) -> go.Figure:
    """Where in the image a channel sits, rows and columns of patches as in the image.

    table: `on_the_image`. White is the channel's mean over patches."""
    grid = table.pivot(index="row", columns="column", values="relative")
    values = table.pivot(index="row", columns="column", values="value")
    side = len(grid)
    with np.errstate(divide="ignore"):
        logs = np.log2(grid.to_numpy())
    what = "magnitude" if table["channel"].iloc[0] == EVERY else "mean |x|"
    colours = around_one([FARTHEST], "times<br>the mean")
    figure = go.Figure(
        go.Heatmap(
            z=np.clip(logs, -64, 64), x=grid.columns, y=grid.index, name="tokens",
            customdata=np.stack([grid, values], axis=-1), xgap=2, ygap=2,
            text=[[f"{value:.2g}" for value in row] for row in grid.to_numpy()],
            texttemplate="%{text}" if side <= _NUMBERED else None,
            hovertemplate=f"row %{{y}}, column %{{x}}<br>{what} %{{customdata[1]:.3g}}, "
            f"%{{customdata[0]:.3g}} times its mean over patches<br>{table['n'].iloc[0]} images"
            "<extra></extra>",
            **colours,
        )
    )  # fmt: skip
    figure.update_traces(colorbar_thickness=14)
    ticks = list(range(1, side + 1, math.ceil(side / 8)))
    common = {"tickvals": ticks, "showgrid": False, "constrain": "domain"}
    figure.update_xaxes(title_text="column of patches", **common)
    figure.update_yaxes(
        title_text="row of patches", range=[side + 0.5, 0.5], scaleanchor="x", **common
    )
    figure.update_layout(dragmode=False)
    return finish(figure, title, HEIGHT)
