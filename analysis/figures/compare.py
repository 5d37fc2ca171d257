"""Figures of two sides: differences as dots with intervals, one statistic's map, their tokens."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.compare import FAMILIES, STATISTICS
from analysis.compare_answer import Names, place_words
from analysis.figures.magnitudes import magnitude_histogram
from analysis.figures.panels import faint
from analysis.figures.theme import (
    HEIGHT,
    MUTED,
    RunStyle,
    around_one,
    finish,
    run_style,
)

LINE, FRAME = 36, 132
"""Heights in pixels: of a difference, whose label has two lines, and of what is around them."""
CELL = 22
"""Size in pixels of the invisible marks that make a heatmap's cells clickable."""
_LOOKS = {
    "tokens": ("#3f8fc4", "circle"),
    "modulation": ("#c85c4b", "square"),
    "attention": ("#5f9e58", "diamond"),
    "channels": ("#a475e2", "triangle-up"),
}
"""Colour and marker of a family of statistics."""
_FAMILY_WORDS = {
    "tokens": "magnitude of tokens",
    "modulation": "modulation",
    "attention": "attention",
    "channels": "channels, tokens' mean",
}


def dots_height(rows: int) -> int:
    """Height of `difference_dots` with so many rows, in pixels."""
    return FRAME + LINE * max(rows, 3)


def difference_dots(
    table: pd.DataFrame, everything: pd.DataFrame, names: Names, title: str
) -> go.Figure:
    """The ratio of both sides with its interval, a row a place, the first row on top.

    table: rows of `differences` `with_words`; everything: all rows, which fix the axis; names: base
    and other. Filled marks are clear, hollow ones are not. A mark's customdata starts with
    statistic, branch, block (from 1), timestep."""
    figure = go.Figure()
    rows = table.assign(y=-np.arange(len(table)))
    for family in FAMILIES:
        for clear in (True, False):
            own = rows[(rows["family"] == family) & (rows["clear"] == clear)]
            if len(own):
                _dots(figure, own, family, clear)
    ticks = {"tickvals": rows["y"], "ticktext": [_label(row) for row in rows.itertuples()]}
    figure.update_yaxes(
        range=[-len(rows) + 0.4, 0.6], showgrid=False, zeroline=False, ticks="", **ticks
    )
    _ratio_axis(figure, everything["ratio"], names)
    figure.add_vline(x=1, line_color=MUTED, line_width=1)
    figure.update_layout(
        hovermode="closest", clickmode="event+select", dragmode=False,
        legend={"yref": "container", "y": 0, "yanchor": "bottom"},
    )  # fmt: skip
    finish(figure, title, dots_height(len(rows)))
    top = {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 12}}
    return figure.update_layout(title=top, margin={"t": 44, "b": 88})


def _dots(figure: go.Figure, rows: pd.DataFrame, family: str, clear: bool) -> None:
    colour, symbol = _LOOKS[family]
    told = np.column_stack(
        [rows["statistic"], rows["branch"], rows["block"] + 1, rows["timestep"], rows["words"],
         rows["said"], rows["low"], rows["high"], rows["wide_low"], rows["wide_high"], rows["n"]]
    )  # fmt: skip
    shown = {"marker": {"opacity": 1}}
    figure.add_scatter(
        x=rows["ratio"], y=rows["y"], customdata=told, mode="markers",
        name=_FAMILY_WORDS[family] + ("" if clear else ", not clear"),
        marker={"color": colour, "symbol": symbol + ("" if clear else "-open"), "size": 11,
                "line": {"width": 2, "color": colour}},
        selected=shown, unselected=shown,
        error_x={"type": "data", "symmetric": False, "array": rows["high"] - rows["ratio"],
                 "arrayminus": rows["ratio"] - rows["low"], "color": colour, "thickness": 2,
                 "width": 5},
        hovertemplate="%{customdata[4]}<br>%{x:.3g} times, 95 % interval %{customdata[6]:.3g} to "
        "%{customdata[7]:.3g}<br>for all places together %{customdata[8]:.3g} to "
        "%{customdata[9]:.3g}<br>%{customdata[5]}<br>%{customdata[10]} pairs<extra></extra>",
    )  # fmt: skip


def _label(row: Any) -> str:
    """Two lines: a long line would leave no room for the dots on a narrow page."""
    kind = STATISTICS[row.statistic].words
    where = f"{place_words(row.branch, row.block)}, t = {row.timestep}"
    return f"{kind}<br><span style='font-size:11px;opacity:0.8'>{where}</span>"


def _ratio_axis(figure: go.Figure, ratios: pd.Series, names: Names) -> None:
    logs = np.log10(ratios.to_numpy(dtype=float))
    low, high = min(float(logs.min()), -0.31), max(float(logs.max()), 0.31)
    room = 0.06 * (high - low)
    figure.update_xaxes(
        type="log", range=[low - room, high + room], tickangle=0,
        title_text=f"ratio {names[1]} / {names[0]} (1 = equal)", **_ratio_ticks(low, high),
    )  # fmt: skip


def _ratio_ticks(low: float, high: float) -> dict[str, Any]:
    """Powers of ten where the axis spans some, else of two; about seven at most."""
    base = 10.0 if high - low > 1.5 else 2.0
    ends = (math.ceil(low / math.log10(base)), math.floor(high / math.log10(base)))
    step = max(1, math.ceil((ends[1] - ends[0]) / 7))
    powers = [power for power in range(ends[0], ends[1] + 1) if power % step == 0]
    values = [base**power for power in powers]
    return {"tickvals": values, "ticktext": [_plain(value) for value in values]}


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"1/{1 / value:,.0f}"


def ratio_map(
    table: pd.DataFrame, everything: pd.Series, cell: tuple[int, int], names: Names, title: str
) -> go.Figure:
    """Block by timestep: how many times the base; white is 1; the cell (block from 0, t) is framed.

    table: rows of `differences` `with_words`, one statistic and branch; everything: the ratios that
    fix the colours. Every cell can be clicked; cells that are not clear have a small ring."""
    wide = table.pivot(index="block", columns="timestep", values="ratio")
    wide = wide.reindex(index=range(int(table["block"].max()) + 1))
    places = {t: column for column, t in enumerate(sorted(wide.columns, reverse=True))}
    wide = wide[list(places)]
    logs = np.log2(wide.to_numpy(dtype=float))
    colours = around_one(everything, f"{names[1]}<br>/ {names[0]}")
    figure = go.Figure(
        go.Heatmap(
            x=list(places.values()), y=wide.index + 1, z=logs, hoverinfo="skip", xgap=1, ygap=1,
            **colours,
        )
    )  # fmt: skip
    bar = {"thickness": 14, "ticktext": [_plain(2.0**v) for v in colours["colorbar"]["tickvals"]]}
    figure.update_traces(colorbar=bar, selector={"type": "heatmap"})
    x = table["timestep"].map(places)
    _cells(figure, table, x)
    for colour, width in (("#ffffff", 5), ("#111111", 2)):  # seen on light and dark cells
        figure.add_scatter(
            x=[places.get(cell[1])], y=[cell[0] + 1], mode="markers", hoverinfo="skip",
            showlegend=False, name="chosen", selected=_ALWAYS, unselected=_ALWAYS,
            marker={"size": 20, "symbol": "square-open", "color": colour, "line": {"width": width}},
        )  # fmt: skip
    # The cells stand side by side: at their own distances the noisy ends would be half as wide.
    figure.update_xaxes(
        range=[-0.5, len(places) - 0.5], tickvals=list(places.values()), ticktext=list(places),
        title_text="timestep t, noise to image", showgrid=False, zeroline=False,
    )  # fmt: skip
    blocks = len(wide)
    figure.update_yaxes(
        title_text="block", tickvals=list(range(1, blocks + 1, max(1, math.ceil(blocks / 12)))),
        range=[0.5, blocks + 0.5], showgrid=False,
    )  # fmt: skip
    figure.update_layout(hovermode="closest", clickmode="event+select", dragmode=False)
    return finish(figure, title, HEIGHT)


_ALWAYS = {"marker": {"opacity": 1}}


def _cells(figure: go.Figure, table: pd.DataFrame, x: pd.Series) -> None:
    told = np.column_stack([table["block"] + 1, table["timestep"], table["low"], table["high"],
                            table["said"], table["n"], table["ratio"]])  # fmt: skip
    unseen = {"marker": {"opacity": 0}}
    figure.add_scatter(
        x=x, y=table["block"] + 1, customdata=told, mode="markers", showlegend=False, name="cells",
        marker={"size": CELL, "symbol": "square", "opacity": 0}, selected=unseen, unselected=unseen,
        hovertemplate="block %{customdata[0]}, t = %{customdata[1]}<br>%{customdata[6]:.3g} times, "
        "95 % interval %{customdata[2]:.3g} to %{customdata[3]:.3g}<br>%{customdata[4]}<br>"
        "%{customdata[5]} pairs<extra></extra>",
    )  # fmt: skip
    unclear = ~table["clear"].to_numpy(dtype=bool)
    if unclear.any():
        figure.add_scatter(
            x=x[unclear], y=table["block"][unclear] + 1, mode="markers", hoverinfo="skip",
            showlegend=False, name="not clear", selected=_ALWAYS, unselected=_ALWAYS,
            marker={"size": 7, "symbol": "circle-open", "color": "#555555"},
        )  # fmt: skip


def side_styles(names: Names, runs: tuple[str, str]) -> dict[str, RunStyle]:
    """How each side is drawn: as its run; of one run twice, the base in grey and dashed."""
    base, other = (run_style(run) for run in runs)
    if base == other:
        base = RunStyle(MUTED, "circle", "dash") if other.colour != MUTED else RunStyle(
            "#3f8fc4", "square", "dash"
        )  # fmt: skip
    return {names[0]: base, names[1]: other}


def side_histogram(table: pd.DataFrame, styles: Mapping[str, RunStyle], title: str) -> go.Figure:
    """Share of tokens per bin of magnitude, both sides overlaid.

    table: `analysis.magnitudes.distribution` whose `run` is the side's name; styles: of each name,
    the base first."""
    figure = magnitude_histogram(table, title)
    for trace in figure.data:
        # A dashed outline of narrow bins cannot be read: the base is filled in its place.
        base, colour = trace.name == next(iter(styles)), styles[trace.name].colour
        filled = {"fill": "tozeroy", "fillcolor": faint(colour, 0.3)} if base else {}
        line = {"color": colour, "width": 1.5 if base else 2.5, "shape": "hv"}
        trace.update(line=line, showlegend=True, **filled)
    # Names at the peaks would lie on each other where the sides are alike.
    figure.layout.annotations = []
    figure.update_layout(
        showlegend=True, legend={"y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"}
    )
    return figure


_PLACES: Sequence[tuple[str, str, str, str]] = (
    ("attn", "attention", "#3f8fc4", "circle"),
    ("mlp", "MLP", "#c85c4b", "square"),
    ("", "outside the blocks", "#8b7f3d", "diamond"),
)


def weights_dots(table: pd.DataFrame, names: Names, title: str) -> go.Figure:
    """A dot a parameter: how its direction changed against how its size did.

    table: `analysis.compare_weights.measured`."""
    figure = go.Figure()
    part = table["parameter"].str.extract(r"^blocks\.\d+\.(attn|mlp)\.")[0].fillna("")
    for key, words, colour, symbol in _PLACES:
        rows = table[part == key]
        figure.add_scatter(
            x=rows["rows"], y=rows["cosine"], name=words, mode="markers",
            customdata=rows[["parameter", "distance", "n"]],
            marker={"color": colour, "symbol": symbol, "size": 9, "opacity": 0.85},
            hovertemplate="%{customdata[0]}<br>rows %{x:.3g} times as long, cosine %{y:.3g}<br>"
            "distance %{customdata[1]:.3g} of the base's norm<br>%{customdata[2]:,} numbers"
            "<extra></extra>",
        )  # fmt: skip
    sizes = table.loc[table["rows"] > 0, "rows"]
    low, high = (
        (float(np.log10(sizes.min())), float(np.log10(sizes.max()))) if len(sizes) else (0.0, 0.0)
    )
    low, high = min(low, -0.31), max(high, 0.31)
    figure.update_xaxes(
        type="log", range=[low - 0.1, high + 0.1], tickangle=0,
        title_text=f"mean row norm, {names[1]} / {names[0]} (1 = equal)", **_ratio_ticks(low, high),
    )  # fmt: skip
    lowest = min(-0.1, float(table["cosine"].min()) - 0.05) if len(table) else -0.1
    figure.update_yaxes(title_text="cosine (1 = same direction)", range=[lowest, 1.05])
    figure.add_vline(x=1, line_dash="dot", line_color=MUTED, line_width=1)
    figure.update_layout(
        hovermode="closest", margin={"b": 92},
        legend={"yref": "container", "y": 0, "yanchor": "bottom"},
    )  # fmt: skip
    return finish(figure, title, HEIGHT)
