"""How weights move: a map of layers by saved step for every run, and their learning rates."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.dynamics_ranking import HIGH, LOW, kind_words, layer_words
from analysis.figures.theme import (
    HEIGHT,
    MUTED,
    SEQUENTIAL,
    around_one,
    finish,
    in_run_order,
    run_style,
)

ACROSS = 5
"""Panels side by side: the ladder A to E fills one row."""
ROW, LOWEST_PANEL, HIGHEST_PANEL = 13, 240, 600
"""Pixels of a layer, and of the panels that hold them."""
NOTHING = "rgba(138,138,138,0.2)"
"""What stands where there is no number, so that white means unchanged on every background."""
AROUND, BETWEEN = 120, 72
"""Pixels above and below the panels together, and between two rows of them."""


@dataclass(frozen=True)
class Quantity:
    """One thing to see per layer and step. scale: "one" (log2 around 1), "log", "degrees"."""

    column: str
    words: str
    bar: str
    scale: str


QUANTITIES = {
    quantity.column: quantity
    for quantity in (
        Quantity("growth", "Growth", "times", "one"),
        Quantity("norm_mean", "Norm of rows, mean", "norm", "log"),
        Quantity("norm_max", "Norm of rows, maximum", "norm", "log"),
        Quantity("effective_lr", "Effective learning rate", "1/step", "log"),
        Quantity("angle", "Turned since the saved step before", "degrees", "degrees"),
        Quantity("angle_since", "Turned since the start", "degrees", "degrees"),
        Quantity("stable_rank", "Stable rank", "rank", "log"),
    )
}


def layers_of(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the map, kinds together in the order of the network, blocks from first to last.

    Columns: kind, block."""
    first = table.groupby("run", sort=False)["kind"].unique()
    order = dict.fromkeys(kind for kinds in sorted(first, key=len, reverse=True) for kind in kinds)
    places = {kind: place for place, kind in enumerate(order)}
    layers = table[["kind", "block"]].drop_duplicates()
    layers = layers.assign(place=layers["kind"].map(places)).sort_values(["place", "block"])
    return layers[["kind", "block"]].reset_index(drop=True)


def panels_height(table: pd.DataFrame) -> int:
    """Height of `layer_panels` in pixels."""
    groups = math.ceil(table["run"].nunique() / ACROSS)
    return AROUND + groups * _panel_height(len(layers_of(table))) + BETWEEN * (groups - 1)


def _panel_height(layers: int) -> int:
    return min(max(layers * ROW, LOWEST_PANEL), HIGHEST_PANEL)


def layer_panels(table: pd.DataFrame, quantity: Quantity, title: str) -> go.Figure:
    """One panel a run, a row a layer, a column a saved step; colours and rows are shared.

    table: `weight_dynamics` of several runs."""
    runs, layers = in_run_order(table["run"]), layers_of(table)
    across, groups = min(ACROSS, len(runs)), math.ceil(len(runs) / ACROSS)
    height = panels_height(table)
    figure = make_subplots(
        groups, across, shared_yaxes=True, subplot_titles=[_wrapped(run) for run in runs],
        horizontal_spacing=0.02, vertical_spacing=BETWEEN / (height - AROUND) if groups > 1 else 0,
    )  # fmt: skip
    for number, run in enumerate(runs):
        where = {"row": number // ACROSS + 1, "col": number % ACROSS + 1}
        own = table[table["run"] == run]
        figure.add_trace(_map(own, layers, quantity), **where)
        steps = sorted(own["step"].unique())
        figure.update_xaxes(**_step_axis(steps, 3 if across > 2 else 6), **where)
        figure.layout.annotations[number].font = {"color": run_style(run).colour, "size": 13}
    figure.update_layout(coloraxis=_colours(table[quantity.column], quantity))
    _name_kinds(figure, layers)
    for column in range(1, across + 1):
        figure.update_xaxes(title_text="training step", row=groups, col=column)
    finish(figure, title, height)
    return figure.update_layout(margin={"t": 76, "b": 44}, dragmode=False, plot_bgcolor=NOTHING)


def _map(own: pd.DataFrame, layers: pd.DataFrame, quantity: Quantity) -> go.Heatmap:
    keys = pd.MultiIndex.from_frame(layers)
    texts = own.assign(text=hover_texts(own))

    def wide(column: str) -> pd.DataFrame:
        return texts.pivot(index=["kind", "block"], columns="step", values=column).reindex(keys)

    return go.Heatmap(
        x=wide("n").columns,
        y=list(range(len(layers))),
        z=_drawn(wide(quantity.column).to_numpy(dtype=float), quantity),
        text=wide("text").fillna(""),
        hovertemplate="%{text}<extra></extra>",
        coloraxis="coloraxis",
        name=str(own["run"].iloc[0]),
    )


def _drawn(values: np.ndarray, quantity: Quantity) -> np.ndarray:
    """What the colour stands for: a logarithm, or degrees."""
    if quantity.scale == "degrees":
        return np.degrees(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log2(values) if quantity.scale == "one" else np.log10(values)
    return np.where(np.isfinite(logs), logs, np.nan)


def _colours(values: pd.Series, quantity: Quantity) -> dict[str, Any]:
    """One colour axis for all runs in view."""
    if quantity.scale == "one":
        scale = around_one(values, quantity.bar)
        return {"colorscale": scale["colorscale"], "cmin": scale["zmin"], "cmax": scale["zmax"],
                "colorbar": {**scale["colorbar"], "thickness": 14, "outlinewidth": 0}}  # fmt: skip
    bar = {"title": {"text": quantity.bar}, "thickness": 14, "outlinewidth": 0}
    drawn = _drawn(values.to_numpy(dtype=float), quantity)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn):  # a few odd layers do not take the colours of all others
        drawn = np.clip(drawn, *np.quantile(drawn, [0.01, 0.99]))
    if quantity.scale == "degrees":
        top = 90 if not len(drawn) or drawn.max() <= 90 else 180
        ends: tuple[float, float] = (0, top)
        bar["tickvals"] = list(range(0, top + 1, 30))
    else:
        ends = (float(drawn.min()), float(drawn.max())) if len(drawn) else (0, 1)
        ends = (ends[0], max(ends[1], ends[0] + 0.05))
        ticks = _round_numbers(*ends)
        bar |= {"tickvals": [math.log10(t) for t in ticks], "ticktext": _texts(ticks)}
    return {"colorscale": SEQUENTIAL, "cmin": ends[0], "cmax": ends[1], "colorbar": bar}


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 ... between two powers of ten; the powers alone where these would crowd."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    numbers = [factor * 10.0**power for power in powers for factor in factors]
    return [number for number in numbers if low - 1e-9 <= math.log10(number) <= high + 1e-9]


def _step_axis(steps: Sequence[int], most: int) -> dict[str, Any]:
    """Ticks at saved steps, the first and the last among them."""
    places = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
    shown = [steps[place] for place in places]
    words = [short_step(step) for step in shown]
    return {"tickvals": shown, "ticktext": words, "showgrid": False, "tickangle": 0}


def short_step(step: int) -> str:
    """A step in few characters.

    >>> short_step(400), short_step(2500), short_step(400_000)
    ('400', '2.5k', '400k')
    """
    return f"{step:,}" if step < 1000 else f"{step / 1000:g}k"


def _texts(numbers: Sequence[float]) -> list[str]:
    return [f"{number:.3g}".replace("e-0", "e-") for number in numbers]


def _wrapped(run: str) -> str:
    """A long name in several lines, so that it fits its panel."""
    lines = [""]
    for word in re.findall(r"[^-_ ]+[-_ ]*", run) or [run]:
        if lines[-1] and len(lines[-1] + word) > 12:
            lines.append("")
        lines[-1] += word
    return "<br>".join(lines)


def _name_kinds(figure: go.Figure, layers: pd.DataFrame) -> None:
    """A tick in the middle of each kind, a fine line between two kinds, the first layer on top."""
    places = layers.groupby("kind", sort=False).apply(lambda rows: (rows.index[0], rows.index[-1]))
    figure.update_yaxes(
        tickvals=[(low + high) / 2 for low, high in places],
        ticktext=[kind_words(str(kind)) for kind in places.index],
        range=[len(layers) - 0.5, -0.5],
        showgrid=False,
        ticklen=0,
        tickfont_size=11,
    )
    line = {"type": "line", "x0": 0, "x1": 1, "line": {"color": MUTED, "width": 0.5}}
    shapes = [
        line | {"y0": low - 0.5, "y1": low - 0.5, "xref": f"{trace.xaxis} domain",
                "yref": trace.yaxis}
        for trace in figure.data
        for low, _ in list(places)[1:]
    ]  # fmt: skip
    figure.update_layout(shapes=shapes)  # one by one, a hundred lines take seconds


def hover_texts(table: pd.DataFrame) -> list[str]:
    """Everything that is known of a layer at a step, a text a row."""
    return [_hover(row) for row in table.to_dict("records")]


def _hover(row: dict) -> str:
    lines = [
        f"<b>{layer_words(row['layer'])}</b>, {row['run']}, step {row['step']:,}",
        f"growth {_number(row['growth'])} since step {row['since']:,}",
        f"norm of {row['n']:,} rows: mean {_number(row['norm_mean'])}, "
        f"maximum {_number(row['norm_max'])}",
        f"turned {_degrees(row['angle_since'])} since step {row['since']:,}",
        f"stable rank {_number(row['stable_rank'])}",
    ]
    if row["interval"] > 0:
        lines.append(
            f"since step {row['step'] - row['interval']:,}: effective learning rate "
            f"{_number(row['effective_lr'])}, turned {_degrees(row['angle'])}"
        )
    return "<br>".join(lines)


def _number(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.3g}"


def _degrees(angle: float) -> str:
    return "by an unknown angle" if math.isnan(angle) else f"{math.degrees(angle):.3g}°"


def rates_by_layer(table: pd.DataFrame, spreads: pd.DataFrame, title: str) -> go.Figure:
    """Effective learning rate of every weight matrix of one run, with their percentiles.

    table: `matrices` of the run; spreads: `spread` of it."""
    style = run_style(str(table["run"].iloc[0]))
    known = table[table["effective_lr"] > 0].sort_values(["layer", "step"], kind="stable")
    figure = go.Figure()
    figure.add_trace(_all_layers(known))
    band = [*spreads["high"], *spreads["low"][::-1]]
    figure.add_scatter(
        x=[*spreads["step"], *spreads["step"][::-1]], y=band, fill="toself", hoverinfo="skip",
        fillcolor=_faint(style.colour), line_width=0, mode="lines",
        name=f"{100 * LOW:.0f}th to {100 * HIGH:.0f}th percentile",
    )  # fmt: skip
    figure.add_scatter(
        x=spreads["step"], y=spreads["middle"], name="median", mode="lines+markers",
        line=style.line(3), marker=style.points(8), customdata=spreads[["low", "high", "n"]],
        hovertemplate="step %{x:,}: median %{y:.3g}<br>10th to 90th percentile "
        "%{customdata[0]:.3g} to %{customdata[1]:.3g}<br>%{customdata[2]} layers<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="training step")
    figure.update_yaxes(type="log", title_text="effective learning rate (1/step)")
    _logarithmic_ticks(figure, known["effective_lr"])
    return _legend_below(finish(figure, title, HEIGHT))


def _all_layers(known: pd.DataFrame) -> go.Scatter:
    """Every layer as a thin line, all in one trace, a gap between two."""
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for layer, rows in known.groupby("layer", sort=False):
        x += [*rows["step"], None]
        y += [*rows["effective_lr"], None]
        texts += [layer_words(str(layer))] * (len(rows) + 1)
    return go.Scatter(
        x=x, y=y, text=texts, mode="lines", name="a layer", opacity=0.45,
        line={"color": MUTED, "width": 1},
        hovertemplate="%{text}<br>step %{x:,}: %{y:.3g}<extra></extra>",
    )  # fmt: skip


def _logarithmic_ticks(figure: go.Figure, values: pd.Series) -> None:
    if values.empty:
        return
    low, high = math.log10(values.min()) - 0.05, math.log10(values.max()) + 0.05
    ticks = _round_numbers(low, high)
    figure.update_yaxes(range=[low, high], tickvals=ticks, ticktext=_texts(ticks))


def spread_by_step(spreads: pd.DataFrame, limit: float, title: str) -> go.Figure:
    """How far learning rates are apart, a line a run; limit: where the alarm starts."""
    figure = go.Figure()
    for run in in_run_order(spreads["run"]):
        rows, style = spreads[spreads["run"] == run], run_style(run)
        figure.add_scatter(
            x=rows["step"], y=rows["value"], name=run, mode="lines+markers", line=style.line(),
            marker=style.points(),
            customdata=np.column_stack(
                [rows["before"], rows["n"], rows["fastest"].map(layer_words),
                 rows["slowest"].map(layer_words)]
            ),
            hovertemplate=f"{run}, steps %{{customdata[0]:,}} to %{{x:,}}<br>90th percentile "
            "%{y:.3g} times the 10th, %{customdata[1]} layers<br>fastest %{customdata[2]}<br>"
            "slowest %{customdata[3]}<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=limit, line_dash="dot", line_color=MUTED, line_width=1)
    figure.add_annotation(
        x=0, xref="paper", xanchor="left", y=math.log10(limit), yanchor="bottom", showarrow=False,
        text=f"alarm above {limit:g}", font_color=MUTED,
    )  # fmt: skip
    finite = spreads["value"][np.isfinite(spreads["value"])]
    top = 1.3 * max(limit, float(finite.max()) if len(finite) else limit)
    ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000) if tick <= top]
    figure.update_yaxes(
        type="log", range=[0, math.log10(top)], tickvals=ticks, ticktext=[f"{t:g}" for t in ticks],
        title_text="90th / 10th percentile",
    )  # fmt: skip
    figure.update_xaxes(title_text="training step")
    return _legend_below(finish(figure, title, HEIGHT))


def _legend_below(figure: go.Figure) -> go.Figure:
    return figure.update_layout(legend={"y": -0.2}, margin={"b": 96}, hovermode="closest")


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.22)"
