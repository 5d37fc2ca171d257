"""Figures of the share of a branch's square that is its mean over tokens."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.channels import Scale
from analysis.figures.theme import HEIGHT, MUTED, finish
from mpdit_core.probes import BRANCHES

MEAN_SCALE = Scale("share of the mean", 0.0, 1.0, logarithmic=False)
"""For `place_maps` of a `token_mean` table."""

_BLOCK_COLOURS = ((47, 158, 143), (79, 134, 198), (178, 95, 200))
"""First, middle and last block; all can be seen on both backgrounds."""
_MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star")


def block_colour(block: int, blocks: int) -> str:
    """A colour of its own for each block, in the order of depth."""
    place = 2 * block / max(1, blocks - 1)
    low, share = min(int(place), 1), place - min(int(place), 1)
    pairs = zip(_BLOCK_COLOURS[low], _BLOCK_COLOURS[low + 1], strict=True)
    red, green, blue = (round(a + share * (b - a)) for a, b in pairs)
    return f"#{red:02x}{green:02x}{blue:02x}"


def mean_over_training(table: pd.DataFrame, title: str) -> go.Figure:
    """Share of the mean over tokens at each saved step, one line a block, attention beside MLP.

    table: `token_mean_by_step` of one run and timestep."""
    figure = make_subplots(
        1, 2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=["attention", "MLP"]
    )
    blocks = int(table["block"].max()) + 1
    for column, branch in enumerate(BRANCHES, start=1):
        for block in range(blocks):
            rows = table[(table["branch"] == branch) & (table["block"] == block)]
            _line(figure, rows.sort_values("step"), block, blocks, column)
    even = 1 / int(table["tokens"].iloc[0])
    figure.add_hline(y=even, line_dash="dot", line_color=MUTED, line_width=1)
    figure.add_annotation(
        x=1, xref="x2 domain", y=even, yanchor="bottom", xanchor="right", showarrow=False,
        yref="y2", text="independent tokens", font={"color": MUTED, "size": 12},
    )  # fmt: skip
    figure.update_yaxes(range=[0, 1.03], tickformat=".0%")
    figure.update_yaxes(title_text="share of the mean over tokens", col=1)
    figure.update_xaxes(title_text="step of training", rangemode="tozero")
    finish(figure, title, HEIGHT)
    return figure.update_layout(margin={"t": 84, "b": 90})


def _line(figure: go.Figure, rows: pd.DataFrame, block: int, blocks: int, column: int) -> None:
    colour = block_colour(block, blocks)
    told = rows[["low", "high", "n", "without"]]
    figure.add_trace(
        go.Scatter(
            x=rows["step"], y=rows["value"], name=f"block {block + 1}", customdata=told,
            legendgroup=f"block {block + 1}", showlegend=column == 1, mode="lines+markers",
            line={"color": colour, "width": 2},
            cliponaxis=False,
            marker={"color": colour, "size": 7, "symbol": _MARKERS[block % len(_MARKERS)]},
            hovertemplate=f"block {block + 1}, step %{{x:,}}<br>%{{y:.1%}} (95 % interval "
            "%{customdata[0]:.1%} to %{customdata[1]:.1%}, %{customdata[2]} images)<br>without "
            "the largest channel %{customdata[3]:.1%}<extra></extra>",
        ),
        row=1, col=column,
    )  # fmt: skip
