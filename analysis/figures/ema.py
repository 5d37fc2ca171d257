"""Averages of weights: their decay factors, profiles, coefficients, lengths, and real widths."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.theme import (
    HEIGHT,
    MUTED,
    finish,
    in_run_order,
    run_style,
)

DASHES = ("dash", "dot", "dashdot", "longdash")
SHADES = ("#6f8fb3", "#b38a4d", "#6aa084", "#a57fb0")
"""Colours of tracked widths, where they stand beside each other in one run."""


def profiles(table: pd.DataFrame) -> go.Figure:
    """Ideal and reconstructed profile of one width of one run; table: `ema_profile`."""
    run = table["run"].iloc[0]
    figure = go.Figure()
    lines = {"ideal": {"color": MUTED, "dash": "dash", "width": 3}}
    lines["reconstructed"] = {"color": run_style(run).colour, "width": 2}
    for curve, line in lines.items():
        rows = table[table["curve"] == curve]
        figure.add_scatter(
            x=rows["step"], y=rows["value"], name=curve, line=line,
            hovertemplate="step %{x:,.0f}<br>weight %{y:.3g}<extra>" + curve + "</extra>",
        )  # fmt: skip
    error, sigma = float(table["error"].iloc[0]), float(table["sigma_rel"].iloc[0])
    figure.update_xaxes(title_text="training step", rangemode="tozero")
    figure.update_yaxes(title_text="weight of a step (1 = all alike)")
    title = f"Profile of {sigma:.3f}, {run}: {percent(error)} off"
    finish(figure, title, HEIGHT)
    figure.update_yaxes(range=[min(0, table["value"].min()) * 1.1, table["value"].max() * 1.3])
    inside = {"orientation": "v", "x": 0.02, "xanchor": "left", "y": 0.99, "yanchor": "top"}
    return figure.update_layout(legend=inside)


def decay_factors(table: pd.DataFrame) -> go.Figure:
    """beta over the first steps, one line a width; table: `ema_decay` of one run [MP figure 3]."""
    colour = run_style(table["run"].iloc[0]).colour
    figure = go.Figure()
    for place, (sigma, rows) in enumerate(table.groupby("sigma_rel")):
        tracked = bool(rows["tracked"].iloc[0])
        line = {"color": MUTED, "dash": DASHES[place % len(DASHES)]} if tracked else None
        name = f"{sigma:.3f}" + (" (tracked)" if tracked else "")
        figure.add_scatter(
            x=rows["step"], y=rows["value"], name=name, line=line or {"color": colour, "width": 3},
            hovertemplate="step %{x}<br>decay factor %{y:.4f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="training step", rangemode="tozero")
    figure.update_yaxes(title_text="decay factor (share that is kept)", range=[0, 1.02])
    last = int(table["step"].max())
    finish(figure, f"Decay factors, first {last:,} steps", HEIGHT)
    inside = {"orientation": "v", "x": 0.98, "xanchor": "right", "y": 0.04, "yanchor": "bottom"}
    return figure.update_layout(legend=inside)


def coefficients(table: pd.DataFrame) -> go.Figure:
    """What each snapshot contributes, one bar a snapshot; table: `ema_coefficients` of one run."""
    run, sigma = table["run"].iloc[0], float(table["sigma_rel"].iloc[0])
    figure = go.Figure()
    for place, (width, rows) in enumerate(table.groupby("snapshot_sigma_rel")):
        figure.add_bar(
            x=[f"{step:,}" for step in rows["snapshot_step"]], y=rows["value"],
            name=f"snapshots of {width:.3f}", marker_color=SHADES[place % len(SHADES)],
            hovertemplate="step %{x}<br>coefficient %{y:.4g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="training step of the snapshot", type="category")
    figure.update_yaxes(title_text="coefficient (they add up to 1)", zeroline=True)
    figure.update_layout(barmode="group", bargap=0.3)
    title = f"Coefficients that mix the average of {sigma:.3f}, {run}"
    return _legend_below(finish(figure, title, HEIGHT))


def lengths(table: pd.DataFrame) -> go.Figure:
    """Length of averaged weights beside raw ones, a point a weight matrix; table: `ema_length`."""
    figure = go.Figure()
    for run in in_run_order(table["run"]):
        rows, style = table[table["run"] == run], run_style(run)
        kind = rows["normalized"].map({True: "normalized in use", False: "used as it is"})
        figure.add_box(
            x=[run] * len(rows), y=rows["value"], name=run, boxpoints="all", jitter=0.5, pointpos=0,
            marker={"color": style.colour, "symbol": style.marker, "size": 6}, line_width=1,
            fillcolor="rgba(0,0,0,0)", text=rows["tensor"] + "<br>" + kind,
            hovertemplate="%{text}<br>length %{y:.3f}<extra>%{x}</extra>", hoveron="points",
        )  # fmt: skip
    figure.add_hline(y=1, line_dash="dot", line_color=MUTED, line_width=1)
    figure.update_yaxes(title_text="length of averaged weights (1 = as raw)")
    sigma = float(table["sigma_rel"].iloc[0])
    finish(figure, f"Length of the weights averaged with {sigma:.3f}", HEIGHT)
    return figure.update_layout(showlegend=False)


def real_widths(table: pd.DataFrame) -> go.Figure:
    """Fitted width of each file relative to its name; table: `ema_health`, rows with a width."""
    known = table[table["width"].notna()]
    names = sorted(known["sigma_rel"].unique())
    titles = [f"called {sigma:.3f}" for sigma in names]
    columns = max(1, len(names))
    figure = make_subplots(1, columns, subplot_titles=titles, shared_yaxes=True)
    for column, sigma in enumerate(names, start=1):
        for run in in_run_order(known["run"]):
            rows = known[(known["sigma_rel"] == sigma) & (known["run"] == run)]
            figure.add_trace(_widths_of(rows, run, sigma, first=column == 1), 1, column)
    figure.update_xaxes(title_text="training step", type="category")
    figure.update_xaxes(categoryorder="array", categoryarray=_steps(known))
    figure.update_yaxes(type="log", tickvals=[0.01, 0.1, 0.25, 0.5, 1, 2, 4, 8])
    figure.update_yaxes(title_text="fitted width / width in the name", col=1)
    figure.add_hline(y=1, line_dash="dot", line_color=MUTED, line_width=1)
    finish(figure, "Real width of every EMA file beside the one in its name", HEIGHT)
    figure.update_annotations(font_size=13)
    figure.update_layout(scattermode="group", scattergap=0.4)
    return _legend_below(figure)


def _widths_of(rows: pd.DataFrame, run: str, sigma: float, first: bool) -> go.Scatter:
    style, relative = run_style(run), rows[["width", "width_low", "width_high"]] / sigma
    upper, lower = relative["width_high"] - relative["width"], relative["width"]
    return go.Scatter(
        x=[f"{step:,}" for step in rows["step"]],
        y=relative["width"],
        error_y={"array": upper, "arrayminus": lower - relative["width_low"], "thickness": 1},
        mode="markers",
        marker=style.points(),
        name=run,
        legendgroup=run,
        showlegend=first,
        customdata=rows[["width", "width_low", "width_high", "checkpoints"]],
        hovertemplate="width %{customdata[0]:.3f} (%{customdata[1]:.3f} to %{customdata[2]:.3f})"
        "<br>from %{customdata[3]} earlier checkpoints<extra>" + run + "</extra>",
    )


def _steps(table: pd.DataFrame) -> list[str]:
    return [f"{step:,}" for step in sorted(table["step"].unique())]


def percent(share: float) -> str:
    """A share in percent, three digits at most; what no one can see is called so.

    >>> percent(0.1057), percent(0.00004), percent(0.021)
    ('10.6 %', 'less than 0.01 %', '2.1 %')
    """
    return "less than 0.01 %" if share < 1e-4 else f"{100 * share:.3g} %"


def _legend_below(figure: go.Figure) -> go.Figure:
    return figure.update_layout(legend={"y": -0.28}, margin={"t": 84, "b": 96})
