"""Loss of held-out images by timestep, and each run's relative to a reference."""

import math

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.theme import HEIGHT, MUTED, finish, in_run_order, run_style, timestep_axis

TICKS = (1e-5, 1e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)


def loss_figure(means: pd.DataFrame, compared: pd.DataFrame, reference: str) -> go.Figure:
    """Left the loss, right its ratio to the reference's; means: `mean_losses`, compared:
    `compared_losses`. With a single run the left panel stands alone."""
    runs = in_run_order(means["run"])
    alone = compared.empty
    titles = ["Loss"] if alone else ["Loss", f"Relative to {reference}"]
    figure = make_subplots(1, len(titles), subplot_titles=titles, horizontal_spacing=0.09)
    for run in runs:
        figure.add_trace(_loss(means[means["run"] == run], run, alone), row=1, col=1)
        ratios = compared[compared["run"] == run]
        if len(ratios):
            figure.add_trace(_ratio(ratios, run), row=1, col=2)
    timestep_axis(figure)
    values = means.loc[means["value"] > 0, "value"]
    ends = [math.log10(values.min() * 0.85), math.log10(values.max() * 1.15)]
    title = "loss (mean squared error of the noise)"
    axis = {"tickvals": TICKS, "ticktext": [f"{tick:g}" for tick in TICKS]}
    figure.update_yaxes(type="log", range=ends, title_text=title, **axis, row=1, col=1)
    if not alone:
        figure.add_hline(y=0, line_color=MUTED, line_dash="dot", row=1, col=2)
        figure.update_yaxes(title_text=f"loss relative to {reference} (%)", row=1, col=2)
    finish(figure, "Loss of held-out images by timestep", HEIGHT + 40)
    legend = {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top"}
    return figure.update_layout(showlegend=len(runs) > 1, legend=legend, margin={"t": 88})


def _loss(own: pd.DataFrame, run: str, alone: bool) -> go.Scatter:
    style, own = run_style(run), own.sort_values("timestep", ascending=False)
    return go.Scatter(
        x=own["timestep"], y=own["value"], name=run, legendgroup=run, mode="lines+markers",
        line=style.line(), marker=style.points(), customdata=own[["error", "n"]],
        error_y={"array": own["error"], "thickness": 1, "width": 3} if alone else None,
        hovertemplate=f"{run}, t = %{{x}}<br>loss %{{y:.3g}} ± %{{customdata[0]:.2g}} (standard "
        "error), n = %{customdata[1]} images<extra></extra>",
    )  # fmt: skip


def _ratio(own: pd.DataFrame, run: str) -> go.Scatter:
    style, own = run_style(run), own.sort_values("timestep", ascending=False)
    low, middle, high = (100 * (own[name] - 1) for name in ("low", "value", "high"))
    return go.Scatter(
        x=own["timestep"], y=middle, name=run, legendgroup=run, showlegend=False,
        mode="lines+markers", line=style.line(), marker=style.points(),
        error_y={"array": high - middle, "arrayminus": middle - low, "thickness": 1, "width": 3},
        customdata=pd.DataFrame({"low": low, "high": high, "n": own["n"]}),
        hovertemplate=f"{run}, t = %{{x}}<br>%{{y:+.2f}} %<br>95 % interval "
        "%{customdata[0]:+.2f} to %{customdata[1]:+.2f} %, n = %{customdata[2]} pairs"
        "<extra></extra>",
    )  # fmt: skip
