"""Distances to the nearest training image, and the pairs that lie nearest."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.copying import HELD_OUT, SAMPLES
from analysis.figures.panels import faint, panels_height, place_of, run_panels
from analysis.figures.theme import MUTED, finish, in_run_order, run_style

BINS = 32
TILE, TOP, BOTTOM = 84, 104, 20
GAP = 1
DISTANCE = "distance to the nearest training image (standard deviations)"


def distance_panels(table: pd.DataFrame, found: pd.DataFrame, title: str) -> go.Figure:
    """A panel a run: samples filled, held-out images as a grey outline, lines at the means.

    table: `nearest_training`; found: `copying` of it."""
    runs = in_run_order(table["run"])
    figure = run_panels(runs, DISTANCE, "share of images (%)")
    edges = np.linspace(0, float(table["value"].quantile(0.999)) * 1.02, BINS + 1)
    highest = 0.0
    for number, run in enumerate(runs):
        for kind in (HELD_OUT, SAMPLES):
            own = table[(table["run"] == run) & (table["images"] == kind)]
            shares = 100 * np.histogram(own["value"].clip(upper=edges[-1]), edges)[0] / len(own)
            highest = max(highest, float(shares.max()))
            figure.add_trace(_steps(edges, shares, run, kind, len(own)), **place_of(number))
        row = found[found["run"] == run].iloc[0]
        for value, colour in ((row["held_out"], MUTED), (row["samples"], run_style(run).colour)):
            figure.add_trace(_at_mean(value, colour), **place_of(number))
    for trace in figure.data:
        if trace.name == "mean":
            trace.y = [0, 1.08 * highest]
    figure.update_yaxes(range=[0, 1.08 * highest], rangemode="tozero")
    figure.update_xaxes(range=[0, edges[-1]], nticks=6)
    finish(figure, title, panels_height(len(runs)))
    return figure.update_layout(showlegend=False)


def pairs_height() -> int:
    """Height of `pairs_figure`, in pixels."""
    return TOP + BOTTOM + 2 * TILE


def pairs_figure(pairs: pd.DataFrame, grey: tuple[float, float], title: str) -> go.Figure:
    """The nearest samples above their training images, nearest first; pairs: `closest_pairs`.

    grey: values drawn black and white."""
    size = int(np.sqrt(len(pairs["pixels"].iloc[0])))
    pitch = size + GAP
    shape = (2 * pitch - GAP, len(pairs) * pitch - GAP)
    values, words = np.full(shape, np.nan), np.full(shape, "", dtype=object)
    for column, row in enumerate(pairs.to_dict("records")):
        for line, name in enumerate(("pixels", "training_pixels")):
            place = (slice(line * pitch, line * pitch + size),
                     slice(column * pitch, column * pitch + size))  # fmt: skip
            values[place] = np.asarray(row[name], dtype=float).reshape(size, size)
            words[place] = _pair_words(row, line)
    centres = [column * pitch + (size - 1) / 2 for column in range(len(pairs))]
    figure = go.Figure(
        go.Heatmap(
            z=values, text=words, hovertemplate="%{text}<extra></extra>", hoverongaps=False,
            colorscale="Greys_r", zmin=grey[0], zmax=grey[1], zsmooth=False, showscale=False,
        )
    )  # fmt: skip
    bare = {"showgrid": False, "zeroline": False, "ticks": "", "fixedrange": True}
    figure.update_xaxes(
        side="top", title_text="distance of the pair (standard deviations)", tickvals=centres,
        ticktext=[f"{value:.2f}" for value in pairs["value"]], range=[-0.5, shape[1] - 0.5], **bare,
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=[(size - 1) / 2, pitch + (size - 1) / 2], ticktext=["sample", "training"],
        range=[shape[0] - 0.5, -0.5], scaleanchor="x", constrain="domain", constraintoward="top",
        **bare,
    )  # fmt: skip
    finish(figure, title, pairs_height())
    return figure.update_layout(margin={"t": TOP, "b": BOTTOM, "l": 76, "r": 8}, dragmode=False)


def _pair_words(row: dict, line: int) -> str:
    if line == 0:
        return f"sample of {row['run']}<br>label {row['label']}<br>seed {row['seed']}, image " + (
            f"{row['index']}<br>distance {row['value']:.3g}"
        )
    return f"training image {row['nearest']}<br>label {row['nearest_label']}"


def _steps(edges: np.ndarray, shares: np.ndarray, run: str, kind: str, n: int) -> go.Scatter:
    """A histogram as an outline, so that two can lie over each other."""
    x, y = np.repeat(edges, 2), np.concatenate([[0], np.repeat(shares, 2), [0]])
    real = kind == HELD_OUT
    colour = MUTED if real else run_style(run).colour
    return go.Scatter(
        x=x, y=y, mode="lines", name=f"{run} {kind}",
        line={"color": colour, "width": 2 if real else 1.5, "dash": "dot" if real else "solid"},
        fill=None if real else "tozeroy", fillcolor=None if real else faint(colour, 0.3),
        hovertemplate=f"{kind}: %{{y:.1f}} % of {n:,}<br>at a distance of %{{x:.2f}}"
        f"<extra>{run}</extra>",
    )  # fmt: skip


def _at_mean(value: float, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[value, value], y=[0, 1], mode="lines", name="mean", line={"color": colour, "width": 1.5},
        hovertemplate=f"mean {value:.3g}<extra></extra>",
    )  # fmt: skip
