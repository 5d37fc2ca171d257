"""Claim and measurement by block, one panel per run; and the measures of the assumption."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.theme import HEIGHT_SMALL, MUTED, block_axis, finish, in_run_order, run_style
from analysis.figures.theory_drawings import Drawing, Line, Measure, Role

ACROSS = 5
"""Panels side by side: the ladder A to E fills one row."""
PANEL, SMALL_PANEL, AROUND = 200, 130, 150

STYLES: dict[Role, tuple[str, str, float]] = {
    "measured": ("solid", "circle", 2),
    "claimed": ("dash", "circle-open", 2),
    "third": ("dot", "diamond-open", 1.5),
    "fourth": ("dashdot", "triangle-up-open", 1.5),
}
"""Dash, marker and width."""
SIZES = {"measured": 6, "claimed": 11, "third": 7, "fourth": 7}


def claim_height(runs: int) -> int:
    """Height of `claim_panels` in pixels."""
    return AROUND + PANEL * math.ceil(max(runs, 1) / ACROSS)


def claim_panels(
    rows: pd.DataFrame,
    compared: pd.DataFrame | None,
    everything: pd.DataFrame,
    drawing: Drawing,
    title: str,
    compared_words: str = "",
) -> go.Figure:
    """rows: `theory_verdicts.blocks` at one timestep; compared: the same of other weights, grey.

    everything: rows of all timesteps, which fix the axes."""
    names = in_run_order(rows["run"])
    figure, across, groups = _grid(names, 1)
    for number, name in enumerate(names):
        where = {"row": number // across + 1, "col": number % across + 1}
        own = rows[rows["run"] == name].sort_values("block")
        if compared is not None:
            grey = compared[compared["run"] == name].sort_values("block")
            _grey(figure, grey, drawing, compared_words, where)
        for line in drawing.lines:
            _line(figure, own, name, line, where)
    _axes(figure, everything, groups, across, len(names))
    statistics = [line.statistic for line in drawing.lines]
    values = everything[statistics].to_numpy(dtype=float).ravel()
    figure.update_yaxes(**_range(values, drawing.log, decades=drawing.decades))
    figure.update_yaxes(title_text=drawing.unit, col=1)
    _legend(figure, drawing, compared_words if compared is not None else "")
    return finish(figure, title, claim_height(len(names)))


def _grid(names: Sequence[str], rows: int) -> tuple[go.Figure, int, int]:
    """Columns of runs in groups of ACROSS, `rows` rows of panels for each group."""
    across, groups = min(ACROSS, len(names)), math.ceil(len(names) / ACROSS)
    titles = [""] * (rows * groups * across)
    for number, name in enumerate(names):
        titles[rows * (number // ACROSS) * across + number % ACROSS] = name
    figure = make_subplots(
        rows * groups, across, shared_xaxes="all", shared_yaxes="rows" if rows > 1 else "all",
        subplot_titles=titles, horizontal_spacing=0.015,
        vertical_spacing=0.16 / (rows * groups),
    )  # fmt: skip
    return figure, across, groups


def _line(figure: go.Figure, own: pd.DataFrame, name: str, line: Line, where: dict) -> None:
    dash, marker, width = STYLES[line.role]
    colour = run_style(name).colour
    figure.add_trace(
        go.Scatter(
            x=own["block"] + 1, y=own[line.statistic], name=f"{name} {line.statistic}",
            customdata=own[["departure", "n"]], mode="lines+markers",
            line={"color": colour, "dash": dash, "width": width},
            marker={"symbol": marker, "size": SIZES[line.role], "color": colour},
            hovertemplate=f"{name}, block %{{x}}<br>{line.words}: %{{y:.3g}}<br>departure "
            "%{customdata[0]:.2g}, n = %{customdata[1]:,}<extra></extra>",
            showlegend=False,
        ),
        **where,
    )  # fmt: skip


def _grey(figure: go.Figure, own: pd.DataFrame, drawing: Drawing, words: str, where: dict) -> None:
    if own.empty:
        return
    name = own["run"].iloc[0]
    figure.add_trace(
        go.Scatter(
            x=own["block"] + 1, y=own[drawing.compared], name=f"{name} compared",
            customdata=own[["n"]], mode="lines+markers",
            line={"color": MUTED, "dash": "dot", "width": 1},
            marker={"symbol": "circle-open", "size": 5, "color": MUTED},
            hovertemplate=f"{name}, {words}<br>block %{{x}}: %{{y:.3g}}, "
            "n = %{customdata[0]:,}<extra></extra>",
            showlegend=False,
        ),
        **where,
    )  # fmt: skip


def _legend(figure: go.Figure, drawing: Drawing, compared: str) -> None:
    """Entries for the kinds of line; a run is named by its panel."""
    kinds = [(line.words, *STYLES[line.role], SIZES[line.role]) for line in drawing.lines]
    if compared:
        kinds.append((f"measured, {compared}", "dot", "circle-open", 1, 5))
    for words, dash, marker, width, size in kinds:
        figure.add_trace(
            go.Scatter(
                x=[None], y=[None], name=words, mode="lines+markers",
                line={"color": MUTED, "dash": dash, "width": width},
                marker={"symbol": marker, "size": size, "color": MUTED},
            ),
            row=1, col=1,
        )  # fmt: skip
    figure.update_layout(
        legend={"yref": "container", "y": 0, "yanchor": "bottom"}, margin={"b": 84, "t": 72}
    )


def _axes(figure: go.Figure, table: pd.DataFrame, rows: int, across: int, runs: int) -> None:
    blocks = int(table["block"].max()) + 1
    block_axis(figure, blocks)
    figure.update_xaxes(
        title_text=None, tickangle=0,
        tickvals=list(range(1, blocks + 1, max(1, math.ceil(blocks / 4)))),
    )  # fmt: skip
    figure.update_xaxes(title_text="block", row=rows, col=(min(across, runs) + 1) // 2)


def _range(
    values: Iterable[float], log: bool, assumed: float | None = None, decades: float = 12
) -> dict:
    """One range for all panels, fixed over timesteps, with few ticks."""
    finite = np.array([v for v in values if math.isfinite(v) and (v > 0 or not log)])
    if assumed is not None:
        finite = np.append(finite, assumed)
    if len(finite) == 0:
        return {"type": "log"} if log else {}
    if not log:
        low, high = float(finite.min()), float(finite.max())
        room = 0.08 * (high - low) or 0.1
        return {"range": [low - room, high + room], "nticks": 5}
    low, high = float(finite.min()) / 1.15, float(finite.max()) * 1.15
    low = max(low, high / 10**decades)
    ticks = log_ticks(low, high)
    ends = [math.log10(low), math.log10(high)]
    return {"type": "log", "range": ends, "tickvals": ticks, "ticktext": [_short(t) for t in ticks]}


def log_ticks(low: float, high: float) -> list[float]:
    """At most six round numbers between both: powers of ten, or 1, 2, 5 where these are few.

    >>> log_ticks(0.3, 4.0), log_ticks(1e-6, 0.5)
    ([0.5, 1.0, 2.0], [1e-06, 1e-05, 0.0001, 0.001, 0.01, 0.1])
    """
    powers = list(range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1))
    for steps in ((1, 2, 5), (1,)):
        found = [float(f"{step}e{power}") for power in powers for step in steps]
        inside = [tick for tick in found if low <= tick * (1 + 1e-9) and tick <= high]
        if len(inside) <= 6:
            return inside
    return inside[:: math.ceil(len(inside) / 6)]


def _short(tick: float) -> str:
    return f"{tick:g}" if 1e-3 <= tick < 1e4 else f"{tick:.0e}".replace("e-0", "e-")


def measures_height(runs: int, measures: int) -> int:
    """Height of `assumption_panels` in pixels."""
    return AROUND - 20 + SMALL_PANEL * measures * math.ceil(max(runs, 1) / ACROSS)


def assumption_panels(
    rows: pd.DataFrame,
    compared: pd.DataFrame | None,
    everything: pd.DataFrame,
    measures: Sequence[Measure],
    title: str,
    compared_words: str = "",
) -> go.Figure:
    """A row of panels per measure, a column per run; dotted where the assumption would be met."""
    names = in_run_order(rows["run"])
    figure, across, groups = _grid(names, len(measures))
    for number, name in enumerate(names):
        own = rows[rows["run"] == name].sort_values("block")
        for place, measure in enumerate(measures):
            row = len(measures) * (number // across) + place + 1
            where = {"row": row, "col": number % across + 1}
            if compared is not None:
                grey = compared[compared["run"] == name].sort_values("block")
                only = Drawing("", (), compared=measure.statistic)
                _grey(figure, grey, only, compared_words, where)
            _line(figure, own, name, Line(measure.statistic, measure.words, "measured"), where)
    _axes(figure, everything, len(measures) * groups, across, len(names))
    for row in range(len(measures) * groups):
        _measured_axis(figure, everything, measures[row % len(measures)], row + 1)
    if compared is not None and compared[[m.statistic for m in measures]].notna().any(axis=None):
        _legend(figure, Drawing("", (Line("", "weights in view", "measured"),)), compared_words)
    return finish(figure, title, measures_height(len(names), len(measures)))


def _measured_axis(figure: go.Figure, table: pd.DataFrame, measure: Measure, row: int) -> None:
    values = table[measure.statistic].to_numpy(dtype=float)
    figure.update_yaxes(**_range(values, measure.log, measure.assumed), row=row)
    figure.update_yaxes(title_text=_two_lines(measure.words), row=row, col=1)
    figure.update_yaxes(title_font={"size": 12}, nticks=4, row=row, col=1)
    if measure.assumed is not None:
        figure.add_hline(
            y=measure.assumed, line_dash="dot", line_color=MUTED, line_width=1, row=row
        )


def _two_lines(words: str) -> str:
    """A title of a low panel: broken at the space nearest to its middle."""
    spaces = [place for place, letter in enumerate(words) if letter == " "]
    if len(words) <= 14 or not spaces:
        return words
    middle = min(spaces, key=lambda place: abs(place - len(words) / 2))
    return f"{words[:middle]}<br>{words[middle + 1 :]}"


def gaussian_height(runs: int) -> int:
    """Height of `preactivation_panels` in pixels."""
    return HEIGHT_SMALL - 80 + PANEL * math.ceil(max(runs, 1) / ACROSS)


def preactivation_panels(rows: pd.DataFrame, everything: pd.DataFrame, title: str) -> go.Figure:
    """Density of pre-activations, N(0, 1), and the Gaussian of the same mean and deviation.

    rows: `preactivation_histogram` of one block and timestep; everything: of all timesteps of that
    block. The axes of pre-activations differ from run to run, those of density do not."""
    names = in_run_order(rows["run"])
    across, groups = min(ACROSS, len(names)), math.ceil(len(names) / ACROSS)
    figure = make_subplots(
        groups, across, shared_yaxes="all", subplot_titles=names, horizontal_spacing=0.015,
        vertical_spacing=0.3 / groups,
    )  # fmt: skip
    for number, name in enumerate(names):
        where = {"row": number // across + 1, "col": number % across + 1}
        own = rows[rows["run"] == name].sort_values("bin")
        low, high = _hull(everything[everything["run"] == name])
        _density(figure, own, name, where)
        moments = float(own["mean"].iloc[0]), float(own["deviation"].iloc[0])
        _gaussians(figure, moments, name, (low, high), where)
        figure.update_xaxes(range=[low, high], nticks=5, tickangle=0, **where)
    top = float(np.nanmax([everything["value"].max(), 0.42]))
    figure.update_yaxes(range=[0, 1.05 * top])
    figure.update_yaxes(title_text="density", col=1)
    middle = (across + 1) // 2
    figure.update_xaxes(title_text="pre-activation", row=groups, col=middle)
    figure.update_layout(
        legend={"yref": "container", "y": 0, "yanchor": "bottom"}, margin={"b": 84, "t": 72}
    )
    return finish(figure, title, gaussian_height(len(names)))


def _hull(table: pd.DataFrame) -> tuple[float, float]:
    """Bins of at least a thousandth of the values, and what N(0, 1) needs."""
    filled = table[table["value"] * table["width"] > 1e-3]["bin"]
    low, high = (filled.min(), filled.max()) if len(filled) else (-3.0, 3.0)
    return min(float(low) - 0.5, -3.0), max(float(high) + 0.5, 3.0)


def _density(figure: go.Figure, own: pd.DataFrame, name: str, where: dict) -> None:
    width = float(own["width"].iloc[0])
    counts = dict(zip((own["bin"] / width).round(1), own["value"], strict=True))
    places = np.arange(min(counts) - 1, max(counts) + 2)
    figure.add_trace(
        go.Scatter(
            x=places * width, y=[counts.get(round(float(place), 1), 0.0) for place in places],
            name=name, mode="lines", line={"color": run_style(name).colour, "shape": "hvh"},
            hovertemplate=f"{name}<br>%{{x:.3g}}: density %{{y:.3g}}, n = "
            f"{int(own['n'].iloc[0]):,} values<extra></extra>",
            showlegend=False,
        ),
        **where,
    )  # fmt: skip


def _gaussians(
    figure: go.Figure,
    moments: tuple[float, float],
    name: str,
    ends: tuple[float, float],
    where: dict,
) -> None:
    x = np.linspace(*ends, 161)
    first = where == {"row": 1, "col": 1}
    kinds = (("N(0, 1), assumed", (0.0, 1.0), "dot"),
             ("Gaussian of the measured mean and deviation", moments, "dash"))  # fmt: skip
    for words, (mean, spread), dash in kinds:
        if not (math.isfinite(spread) and spread > 0):
            continue
        density = np.exp(-(((x - mean) / spread) ** 2) / 2) / (spread * math.sqrt(2 * math.pi))
        figure.add_trace(
            go.Scatter(
                x=x, y=density, name=words, legendgroup=words, mode="lines", showlegend=first,
                line={"color": MUTED, "dash": dash, "width": 1.5},
                hovertemplate=f"{words}<br>{name}: mean {mean:.3g}, deviation {spread:.3g}"
                "<extra></extra>",
            ),
            **where,
        )  # fmt: skip
