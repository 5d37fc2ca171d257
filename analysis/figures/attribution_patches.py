"""An image, the same in its noise, the patches the label's effect comes from, those it changes."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.attribution_answer import by_patch
from analysis.figures.theme import DIVERGING, finish

HEIGHT_PATCHES = 400
GREY = (-1.5, 2.0)
"""Black and white in the model's units, as wide as held-out digits are."""
_NUMBERED = 8


def patch_maps(rows: pd.DataFrame, limit: float, title: str) -> go.Figure:
    """Four panels; rows: `patch_attribution` of one image and timestep.

    limit: the end of the colours, a share of the effect; the same at every timestep."""
    patches = by_patch(rows)
    side = int(patches["row"].max()) + 1
    titles = ["image", "noised", "comes from", "changes"]
    figure = make_subplots(1, 4, subplot_titles=titles, horizontal_spacing=0.03)
    for column, name in ((1, "clean"), (2, "noisy")):
        figure.add_trace(_image(rows, name, side), row=1, col=column)
    for column, name in ((3, "value"), (4, "changed")):
        figure.add_trace(_shares(patches, name, side), row=1, col=column)
    _axes(figure, side)
    ticks = [-limit, 0.0, limit]
    words = [f"{100 * tick:.2g} %" for tick in ticks]
    bar = {"title": {"text": "share of the effect", "side": "right"}, "thickness": 12,
           "tickvals": ticks, "ticktext": words}  # fmt: skip
    figure.update_layout(
        coloraxis={"colorscale": DIVERGING, "cmin": -limit, "cmax": limit, "colorbar": bar},
        margin={"t": 84, "b": 40}, dragmode=False,
    )  # fmt: skip
    return finish(figure, title, HEIGHT_PATCHES)


def _image(rows: pd.DataFrame, name: str, side: int) -> go.Heatmap:
    """Pixels in units of patches: the patch in row 1, column 1 has its centre at (1, 1)."""
    grid = rows.pivot(index="row", columns="column", values=name).to_numpy()
    places = (np.arange(len(grid)) + 0.5) * side / len(grid) + 0.5
    return go.Heatmap(
        x=places, y=places, z=grid, colorscale="Greys_r", zmin=GREY[0], zmax=GREY[1], zsmooth=False,
        showscale=False, name=name,
        hovertemplate="%{z:.3g} (standard deviations of the data)<extra></extra>",
    )  # fmt: skip


def _shares(patches: pd.DataFrame, name: str, side: int) -> go.Heatmap:
    grid = patches.pivot(index="row", columns="column", values=name).to_numpy()
    places = np.arange(1, side + 1)
    return go.Heatmap(
        x=places, y=places, z=grid, coloraxis="coloraxis", zsmooth=False, name=name, xgap=2, ygap=2,
        text=[[f"{100 * value:z.0f}" for value in row] for row in grid],
        texttemplate="%{text}" if side <= _NUMBERED else None, textfont={"size": 11},
        hovertemplate="row %{y}, column %{x}<br>%{z:.3g} of the effect<extra></extra>",
    )  # fmt: skip


def _axes(figure: go.Figure, side: int) -> None:
    ticks = list(range(1, side + 1, max(1, side // 4)))
    common: dict[str, Any] = {"showgrid": False, "zeroline": False, "constrain": "domain"}
    for column in range(1, 5):
        anchor = "x" if column == 1 else f"x{column}"
        figure.update_xaxes(
            tickvals=ticks, range=[0.5, side + 0.5], title_text="column",
            row=1, col=column, **common,
        )  # fmt: skip
        figure.update_yaxes(
            tickvals=ticks, range=[side + 0.5, 0.5], scaleanchor=anchor, row=1, col=column, **common
        )
    figure.update_yaxes(showticklabels=False, ticks="")
    figure.update_yaxes(
        title_text="row of patches", showticklabels=True, ticks="outside", row=1, col=1
    )
