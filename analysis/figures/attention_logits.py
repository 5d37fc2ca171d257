"""How near every head's logits come to the bound that cosine attention sets them."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.attention import ACROSS, POINTER, finished, panel_name, panels_height
from analysis.figures.theme import MUTED, block_axis, in_run_order, run_style

TYPICAL = {"symbol": "line-ew-open", "size": 7, "color": MUTED, "line": {"width": 2}}


def logits_by_block(heads: pd.DataFrame, title: str) -> go.Figure:
    """A panel per run: every head's largest |logit| and its typical one, with the bound as a line.

    heads: `logit_reach`."""
    names = in_run_order(heads["run"])
    across, down = min(ACROSS, len(names)), math.ceil(len(names) / ACROSS)
    figure = make_subplots(
        down, across, shared_xaxes="all", shared_yaxes="all",
        subplot_titles=[_reached(heads[heads["run"] == name], name) for name in names],
        horizontal_spacing=0.015, vertical_spacing=0.34 / down,
    )  # fmt: skip
    for number, name in enumerate(names):
        own = heads[heads["run"] == name]
        where = {"row": number // ACROSS + 1, "col": number % ACROSS + 1}
        _logits(figure, own, name, where)
    _kinds(figure)
    block_axis(figure, int(heads["block"].max()) + 1)
    figure.update_yaxes(type="log", matches="y", **_logit_range(heads))
    figure.update_yaxes(title_text="|logit|", col=1)
    finished(figure, heads, title, "block")
    figure.update_layout(
        legend={"yref": "container", "y": 0, "yanchor": "bottom"}, clickmode="event",
        margin={"t": 104, "b": 84}, height=panels_height(len(names)) + 80,
    )  # fmt: skip
    return figure


def _reached(own: pd.DataFrame, name: str) -> str:
    bound = own["bound"].iloc[0]
    if math.isnan(bound):
        return f"{panel_name(name)}<br>no bound"
    return f"{panel_name(name)}<br>{100 * own['reached'].max():.1f} % of √d"


def _logits(figure: go.Figure, own: pd.DataFrame, name: str, where: dict) -> None:
    style, x = run_style(name), _spread(own)
    custom = [
        [row["block"] + 1, row["head"] + 1, row["timestep"], _of_bound(row["reached"]), row["n"]]
        for row in own.to_dict("records")
    ]
    largest = {"symbol": style.marker, "size": 7, "color": style.colour}
    for column, words, marker, detail in (
        ("logit_typical", "typical", TYPICAL, " (root mean square)"),
        ("logit_largest", "largest", largest, ", at t = %{customdata[2]}%{customdata[3]}"),
    ):
        figure.add_trace(
            go.Scatter(
                x=x, y=own[column], mode="markers", name=f"{name} {words}", customdata=custom,
                marker=marker,
                hovertemplate=f"{name}, block %{{customdata[0]}}, head %{{customdata[1]}}<br>"
                f"{words} |logit| %{{y:.3g}}{detail}<br>"
                "%{customdata[4]} images at each timestep<extra></extra>",
                showlegend=False,
            ),
            **where,
        )  # fmt: skip
    bound = own["bound"].iloc[0]
    if not math.isnan(bound):
        figure.add_hline(y=bound, line_dash="dot", line_color=POINTER, line_width=1.5, **where)


def _of_bound(reached: float) -> str:
    return "" if math.isnan(reached) else f", {100 * reached:.1f} % of the bound"


def _spread(own: pd.DataFrame) -> np.ndarray:
    """Heads of a block stand beside each other, around the block's tick."""
    heads = int(own["head"].max()) + 1
    return (own["block"] + 1 + ((own["head"] + 0.5) / heads - 0.5) * 0.6).to_numpy()


def _kinds(figure: go.Figure) -> None:
    """Legend entries for the kinds of marks; a run is named by its panel."""
    kinds = (
        ("largest |logit| of a head", {"mode": "markers", "marker": {"color": MUTED, "size": 7}}),
        ("typical (root mean square)", {"mode": "markers", "marker": TYPICAL}),
        ("bound √d", {"mode": "lines", "line": {"color": POINTER, "dash": "dot", "width": 1.5}}),
    )  # fmt: skip
    for words, look in kinds:
        figure.add_trace(go.Scatter(x=[None], y=[None], name=words, **look), row=1, col=1)


def _logit_range(heads: pd.DataFrame) -> dict:
    values = pd.concat([heads["logit_largest"], heads["logit_typical"], heads["bound"]])
    values = values[np.isfinite(values) & (values > 0)]
    if values.empty:
        return {}
    low, high = float(values.min()) / 1.2, float(values.max()) * 1.2
    ticks = _powers(low, high)
    return {
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:.3g}" for tick in ticks],
    }


def _powers(low: float, high: float) -> Sequence[float]:
    """At most eight powers of two from low to high."""
    powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    return [2.0**power for power in powers if power % max(1, math.ceil(len(powers) / 8)) == 0]
