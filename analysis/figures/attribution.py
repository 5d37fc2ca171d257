"""Where the label's effect comes from: by block and timestep, by signal, by channel; its size."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.attribution_answer import SIGNAL_WORDS, percent
from analysis.figures.theme import (
    DIVERGING,
    HEIGHT,
    SEQUENTIAL,
    finish,
    in_run_order,
    label_line_ends,
    run_style,
    timestep_axis,
)

ACROSS = 5
"""Panels side by side: the ladder A to E fills one row."""
MOST = 0.6
"""Shares at which the colours end: the same for every run, timestep and measure."""
ROW, FRAME = 210, 132
"""Heights in pixels: of a row of panels, and of what stands around all of them."""
SIGNAL_ROW, SIGNAL_FRAME = 34, 150
FINAL = "final"
BRANCH_WORDS = {"attn": "attention", "mlp": "MLP", FINAL: "final layer"}
POINTER = "#e0812f"
_CELL = 16


def panels_height(runs: int) -> int:
    """Height of `carriers_map`, in pixels."""
    return FRAME + ROW * math.ceil(max(runs, 1) / ACROSS)


def share_axis(title: str) -> dict[str, Any]:
    """Colours of shares: white at 0, brown for what carries, blue for what works against."""
    ticks = [-MOST, -MOST / 2, 0.0, MOST / 2, MOST]
    words = [percent(tick) for tick in ticks]
    words[0], words[-1] = f"≤ {words[0]}", f"≥ {words[-1]}"
    bar = {"title": {"text": title, "side": "right"}, "thickness": 12, "tickvals": ticks,
           "ticktext": words}  # fmt: skip
    return {"colorscale": DIVERGING, "cmin": -MOST, "cmax": MOST, "colorbar": bar}


def carriers_map(rows: pd.DataFrame, depths: Mapping[str, int], title: str) -> go.Figure:
    """One panel per run, block by timestep, shares in percent; every cell can be clicked.

    rows: `shares` of whole blocks; depths: run -> its number of blocks."""
    names = in_run_order(rows["run"])
    across, down = min(ACROSS, len(names)), math.ceil(len(names) / ACROSS)
    figure = make_subplots(
        down, across, shared_xaxes="all", shared_yaxes="all", subplot_titles=names,
        horizontal_spacing=0.012, vertical_spacing=0.2 / down,
    )  # fmt: skip
    deepest = max(depths[name] for name in names)
    timesteps = sorted(rows["timestep"].unique(), reverse=True)
    for number, name in enumerate(names):
        own = rows[rows["run"] == name]
        screen = np.where(own["block"] == depths[name], deepest, own["block"]) + 1
        where = {"row": number // ACROSS + 1, "col": number % ACROSS + 1}
        _panel(figure, own.assign(screen=screen), timesteps, depths[name], where)
    places = list(range(len(timesteps)))
    shown = {str(timesteps[p]) for p in (places[0], places[len(places) // 2], places[-1])}
    figure.update_xaxes(
        tickvals=[p for p in places if str(timesteps[p]) in shown], showgrid=False, tickangle=0,
        ticktext=[str(t) for t in timesteps if str(t) in shown], range=[-0.5, len(places) - 0.5],
    )  # fmt: skip
    figure.update_xaxes(
        title_text="timestep t (999 = noise, 0 = image)", row=down, col=(across + 1) // 2
    )
    ticks = list(range(1, deepest + 1, max(1, math.ceil(deepest / 8))))
    figure.update_yaxes(
        tickvals=[*ticks, deepest + 1], ticktext=[*map(str, ticks), FINAL], showgrid=False,
        range=[0.5, deepest + 1.5],
    )  # fmt: skip
    figure.update_yaxes(ticks="")
    figure.update_yaxes(title_text="block", ticks="outside", col=1)
    figure.update_layout(
        coloraxis=share_axis("share of the effect"), margin={"b": 56, "t": 72},
        hovermode="closest", clickmode="event+select", dragmode=False,
    )  # fmt: skip
    return finish(figure, title, panels_height(len(names)))


def _panel(
    figure: go.Figure, own: pd.DataFrame, timesteps: list[int], depth: int, where: dict[str, int]
) -> None:
    name = own["run"].iloc[0]
    wide = own.pivot(index="screen", columns="timestep", values="value")[timesteps]
    figure.add_trace(
        go.Heatmap(
            x=list(range(len(timesteps))), y=list(wide.index), z=wide, coloraxis="coloraxis",
            xgap=1, ygap=1, name=name, hoverinfo="skip", text=_numbers(wide.to_numpy(float)),
            meta=[int(t) for t in timesteps],
            texttemplate="%{text}", textfont={"size": 10},
        ),
        **where,
    )  # fmt: skip
    place = {t: position for position, t in enumerate(timesteps)}
    words = [FINAL + " layer" if b == depth else f"block {b + 1}" for b in own["block"]]
    told = np.column_stack([own["run"], own["timestep"], words, *_told(own)])
    unseen = {"marker": {"opacity": 0}}
    figure.add_trace(
        go.Scatter(
            x=[place[t] for t in own["timestep"]], y=list(own["screen"]), customdata=told,
            mode="markers", name=f"{name} cells", showlegend=False,
            selected=unseen, unselected=unseen,
            marker={"size": _CELL, "symbol": "square", "opacity": 0},
            hovertemplate="%{customdata[0]}, %{customdata[2]}, t = %{customdata[1]}<br>"
            "%{customdata[3]} of the effect (95 % interval %{customdata[4]}, %{customdata[5]} "
            "images)<br>effect %{customdata[6]}, completeness gap %{customdata[7]}<extra></extra>",
        ),
        **where,
    )  # fmt: skip


def _told(rows: pd.DataFrame) -> list[list[str]]:
    """What a hover says: share, interval, n, effect, gap."""
    return [
        [percent(value) for value in rows["value"]],
        [f"{percent(a)} to {percent(b)}" for a, b in zip(rows["low"], rows["high"], strict=True)],
        [str(n) for n in rows["n"]],
        [f"{effect:.3g}" for effect in rows["effect"]],
        [f"{100 * gap:.2g} %" for gap in rows["gap"]],
    ]


def _numbers(grid: np.ndarray) -> list[list[str]]:
    """Whole percent, written into the cells; nothing where there is no number."""
    return [[f"{100 * v:z.0f}" if math.isfinite(v) else "" for v in row] for row in grid]


def mark_timestep(figure: go.Figure, run: str, timestep: int) -> go.Figure:
    """Frame a column of the panel of this run; nothing where there is no such panel."""
    panel = next((t for t in figure.data if t.type == "heatmap" and t.name == run), None)
    if panel is None:
        return figure
    steps = [int(step) for step in panel.meta]
    if timestep in steps:
        place = steps.index(timestep)
        figure.add_shape(
            type="rect", x0=place - 0.5, x1=place + 0.5, y0=0.5, y1=max(panel.y) + 0.5,
            xref=panel.xaxis or "x", yref=panel.yaxis or "y", line={"color": POINTER, "width": 2},
        )  # fmt: skip
    return figure


def signals_height(rows: int) -> int:
    """Height of `signal_maps` with so many rows, in pixels."""
    return SIGNAL_FRAME + SIGNAL_ROW * rows


def signal_maps(through: pd.DataFrame, lost: pd.DataFrame, depth: int, title: str) -> go.Figure:
    """What comes through each signal, and what its loss takes: two panels, signal by block.

    through, lost: `shares` of single signals of one run at one timestep, by conductance and by
    ablation."""
    names = list(dict.fromkeys(zip(through["branch"], through["signal"], strict=True)))
    names.sort(key=lambda pair: list(BRANCH_WORDS).index(pair[0]))
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=["conductance: what comes through it", "ablation: what its loss takes"],
    )  # fmt: skip
    for column, rows in enumerate((through, lost), start=1):
        figure.add_trace(_signals(rows, names, depth), row=1, col=column)
    blocks = list(range(1, depth + 2))
    step = max(1, math.ceil(depth / 12))
    ticks = [*blocks[:-1:step], depth + 1]
    figure.update_xaxes(
        title_text="block", tickvals=ticks, ticktext=[*map(str, ticks[:-1]), FINAL],
        showgrid=False, range=[0.5, depth + 1.5],
    )  # fmt: skip
    words = [f"{BRANCH_WORDS[branch]}: {SIGNAL_WORDS[signal]}" for branch, signal in names]
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=words, range=[len(names) - 0.5, -0.5],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_layout(
        coloraxis=share_axis("share of the effect"), margin={"t": 84}, dragmode=False
    )
    return finish(figure, title, signals_height(len(names)))


def _signals(rows: pd.DataFrame, names: list[tuple[str, str]], depth: int) -> go.Heatmap:
    grid = np.full((len(names), depth + 1), np.nan)
    told = np.full((len(names), depth + 1, 5), "", dtype=object)
    for (_, row), *said in zip(rows.iterrows(), *_told(rows), strict=True):
        place = names.index((row["branch"], row["signal"])), row["block"]
        grid[place] = row["value"]
        told[place] = said
    return go.Heatmap(
        x=list(range(1, depth + 2)), y=list(range(len(names))), z=grid, coloraxis="coloraxis",
        xgap=1, ygap=1, text=_numbers(grid),
        texttemplate="%{text}", textfont={"size": 11}, customdata=told, hoverongaps=False,
        hovertemplate="%{y}, block %{x}<br>%{customdata[0]} of the effect (95 % interval "
        "%{customdata[1]}, %{customdata[2]} images)<br>effect %{customdata[3]}<extra></extra>",
    )  # fmt: skip


def effect_lines(rows: pd.DataFrame, title: str) -> go.Figure:
    """Size of the label's effect over timesteps, a line per run; rows: `mean_effect`."""
    figure = go.Figure()
    for name in in_run_order(rows["run"]):
        own = rows[rows["run"] == name].sort_values("timestep", ascending=False)
        style = run_style(name)
        figure.add_trace(
            go.Scatter(
                x=own["timestep"], y=own["effect"].where(own["effect"] > 0), name=name,
                mode="lines+markers", line=style.line(), marker=style.points(), customdata=own["n"],
                hovertemplate=f"{name}, t = %{{x}}<br>effect %{{y:.3g}}, %{{customdata}} images"
                "<extra></extra>",
            )
        )  # fmt: skip
    timestep_axis(figure)
    figure.update_yaxes(
        type="log", title_text="effect (squared noise, log)", dtick=1, exponentformat="power"
    )
    return finish(figure, title, HEIGHT)


def effect_map(rows: pd.DataFrame, limits: tuple[float, float], title: str) -> go.Figure:
    """Size of the effect, label by timestep, one run; rows: `effect_by_label`.

    limits: smallest and largest effect of all runs in view, the ends of the colours."""
    timesteps = sorted(rows["timestep"].unique(), reverse=True)
    wide = rows.pivot(index="label", columns="timestep", values="effect")[timesteps]
    gaps = rows.pivot(index="label", columns="timestep", values="gap")[timesteps]
    labels = [str(label) for label in wide.index]
    with np.errstate(divide="ignore"):
        logs = np.log10(wide.to_numpy(float))
    low, high = (math.floor(math.log10(limits[0])), math.ceil(math.log10(limits[1])))
    ticks = list(range(low, high + 1))
    bar = {"title": {"text": "effect", "side": "right"}, "thickness": 12, "tickvals": ticks,
           "ticktext": [f"{10.0**t:.0e}".replace("e-0", "e-") for t in ticks]}  # fmt: skip
    figure = go.Figure(
        go.Heatmap(
            x=list(range(len(timesteps))), y=list(range(len(labels))), z=logs, zmin=low, zmax=high,
            colorscale=SEQUENTIAL, colorbar=bar, xgap=1, ygap=1,
            customdata=np.stack([wide.to_numpy(), 100 * gaps.to_numpy()], axis=-1),
            hovertemplate="label %{y}, effect %{customdata[0]:.3g}<br>completeness gap "
            "%{customdata[1]:.2g} %, " + f"{int(rows['n'].iloc[0])} images<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(timesteps))), ticktext=[str(t) for t in timesteps],
        title_text="timestep t (999 = noise, 0 = image)", showgrid=False,
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, title_text="label", showgrid=False
    )
    return finish(figure, title, HEIGHT)


def channel_lines(rows: pd.DataFrame, title: str) -> go.Figure:
    """What the first channels carry together, a line per run; rows: `concentration`."""
    figure = go.Figure()
    for name in in_run_order(rows["run"]):
        own = rows[rows["run"] == name]
        style = run_style(name)
        every = max(1, len(own) // 12)
        figure.add_trace(
            go.Scatter(
                x=own["rank"], y=100 * own["together"], name=name, mode="lines+markers",
                line=style.line(), marker={**style.points(), "maxdisplayed": len(own) // every},
                customdata=np.column_stack([own["channel"], 100 * own["share"]]),
                hovertemplate=f"{name}: %{{x}} channels carry %{{y:.3g}} %<br>the last of them, "
                "channel %{customdata[0]:.0f}, %{customdata[1]:.3g} %<extra></extra>",
            )
        )  # fmt: skip
    most = max(120.0, 10 * math.ceil(10 * _finite_max(rows["together"])))
    figure.update_xaxes(title_text="channels, the largest first", rangemode="tozero")
    figure.update_yaxes(title_text="share of the effect (%)", range=[0, most])
    figure.add_hline(y=100, line_dash="dot", line_width=1, line_color="#8a8a8a")
    return label_line_ends(finish(figure, title, HEIGHT)) if len(figure.data) == 1 else finish(
        figure, title, HEIGHT
    )  # fmt: skip


def _finite_max(values: pd.Series) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if len(finite) else 1.0
