"""One panel a run, five side by side, all axes shared."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.theme import run_style

ACROSS = 5
"""Panels side by side: the ladder A to E fills one row."""
ROW, MARGIN_TOP, MARGIN_BOTTOM = 230, 76, 64
"""Heights in pixels: of a row of panels with its title, of what stands above and below all."""


def panels_height(runs: int) -> int:
    """Height of a figure with so many panels, in pixels."""
    return MARGIN_TOP + MARGIN_BOTTOM + ROW * math.ceil(max(runs, 1) / ACROSS)


def run_panels(names: Sequence[str], x_title: str, y_title: str) -> go.Figure:
    """Empty panels named as the runs, in their colours; `place_of` says where each one is."""
    across, rows = min(ACROSS, len(names)), math.ceil(len(names) / ACROSS)
    inner = panels_height(len(names)) - MARGIN_TOP - MARGIN_BOTTOM
    figure = make_subplots(
        rows, across, shared_xaxes="all", shared_yaxes="all", subplot_titles=list(names),
        horizontal_spacing=0.014, vertical_spacing=min(56 / inner, 1 / max(rows - 1, 1)),
        x_title=x_title,
    )  # fmt: skip
    for title, name in zip(figure.layout.annotations, names, strict=False):
        title.update(font={"size": 13, "color": run_style(name).colour}, text=f"<b>{name}</b>")
    figure.layout.annotations[-1].update(font={"size": 13}, yshift=-34)  # the shared x title
    figure.update_yaxes(title_text=y_title, col=1)
    for column in range(2, across + 1):
        figure.update_yaxes(ticks="", col=column)
    at_top = {"y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 8}}
    figure.update_layout(margin={"t": MARGIN_TOP, "b": MARGIN_BOTTOM}, title=at_top)
    # The last panel of a column shows the numbers, also where the row below has a gap.
    for number in range(len(names)):
        if number + across >= len(names):
            figure.update_xaxes(showticklabels=True, **place_of(number))
    return figure


def place_of(number: int) -> dict[str, Any]:
    """`row=` and `col=` of the run with this number."""
    return {"row": number // ACROSS + 1, "col": number % ACROSS + 1}


def faint(colour: str, opacity: float) -> str:
    """The colour as rgba."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
