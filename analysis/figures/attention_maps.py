"""Where a token looks: its attention over the image, for one head and for all heads at once."""

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.theme import block_axis, finish

ATTENTION = [
    (0.0, "rgba(224,129,47,0)"),
    (0.1, "rgba(224,129,47,0.3)"),
    (0.3, "rgba(230,115,38,0.65)"),
    (0.6, "rgba(228,84,30,0.88)"),
    (1.0, "rgba(216,39,24,1)"),
]
"""Clear where nothing is looked at, so that the image is seen below."""
QUERY = "#2b8fd6"
"""The frame of the patch that looks."""
GREY = (-1.0, 2.0)
"""Values drawn black and white, in standard deviations of the data: most pixels are dark."""
HEIGHT_MAP = 400
SIDE = 280
"""Pixels of an image on the screen, about."""
TILE = 88
"""Pixels of a map among those of all heads, at most; six of them fit a narrow page."""
LARGEST_MATRIX = 256
"""Tokens of the largest query by key matrix that is drawn."""


def over_image(values: np.ndarray) -> np.ndarray:
    """One value per token -> (rows, columns) of patches: tokens run row by row."""
    side = math.isqrt(len(values))
    return np.asarray(values).reshape(side, side)


def matrix_of(rows: pd.DataFrame) -> np.ndarray:
    """(queries, keys) of one block, head and timestep; rows: `attention_maps`."""
    return rows.pivot(index="query", columns="key", values="value").to_numpy()


def patch_words(token: int, side: int) -> str:
    """`patch 6 (row 2, column 2)`, counted from 1.

    >>> patch_words(5, 4)
    'patch 6 (row 2, column 2)'
    """
    return f"patch {token + 1} ({_row_and_column(token, side)})"


def patch_place(token: int, side: int) -> str:
    """`6: row 2, column 2`, counted from 1."""
    return f"{token + 1}: {_row_and_column(token, side)}"


def _row_and_column(token: int, side: int) -> str:
    return f"row {token // side + 1}, column {token % side + 1}"


def map_height(blocks: int, heads: int) -> int:
    """Height of `every_head` in pixels."""
    return 130 + heads * max(16, min(TILE, 620 // max(blocks, 1)))


def map_of_query(
    rows: pd.DataFrame, pixels: pd.DataFrame, query: int, limit: float, title: str, seen: str
) -> go.Figure:
    """The image, the attention of one patch over it, and (up to 256 tokens) that of every patch.

    rows: `attention_maps` of one block, head and timestep; pixels: `probed_images` at one timestep,
    seen: what they are in words; limit: the end of the colour scale. Patches of the first panel can
    be clicked: their custom number is the token, from 1."""
    weights = matrix_of(rows)
    tokens = len(weights)
    side = math.isqrt(tokens)
    panels = 3 if tokens <= LARGEST_MATRIX else 2
    titles = [seen, f"seen by patch {query + 1}", "seen by every patch"][:panels]
    figure = make_subplots(1, panels, subplot_titles=titles, horizontal_spacing=0.09)
    image = _image(pixels, side)
    for column in (1, 2):
        figure.add_trace(image, row=1, col=column)
        figure.add_trace(_grid(side), row=1, col=column)
    figure.add_trace(_over(weights[query], side, int(rows["n"].iloc[0])), row=1, col=2)
    for column in (1, 2):
        figure.add_trace(_frame(query, side), row=1, col=column)
    figure.add_trace(_patches(side), row=1, col=1)
    _image_axes(figure, side)
    if panels == 3:
        _matrix(figure, weights, query)
    _scale(figure, limit, tokens)
    finish(figure, title, HEIGHT_MAP)
    return figure.update_layout(
        hovermode="closest", clickmode="event+select", dragmode=False, margin={"t": 84, "b": 40}
    )


def _image(pixels: pd.DataFrame, side: int) -> go.Heatmap:
    """The pixels in units of patches: the patch in row 1, column 1 has its centre at (1, 1)."""
    grid = pixels.pivot(index="row", columns="column", values="value").to_numpy()
    places = (np.arange(len(grid)) + 0.5) * side / len(grid) + 0.5
    return go.Heatmap(
        x=places, y=places, z=grid, colorscale="Greys_r", zmin=GREY[0], zmax=GREY[1], zsmooth=False,
        showscale=False, hoverinfo="skip", name="image",
    )  # fmt: skip


def _over(weights: np.ndarray, side: int, n: int) -> go.Heatmap:
    places = np.arange(1, side + 1)
    return go.Heatmap(
        x=places, y=places, z=over_image(weights), coloraxis="coloraxis", zsmooth=False,
        name="attention",
        hovertemplate="row %{y}, column %{x}<br>weight %{z:.3g}, "
        f"{n} image{'s' if n > 1 else ''}<extra></extra>",
    )  # fmt: skip


def _grid(side: int) -> go.Scatter:
    """Lines between the patches, as one trace."""
    ends = [0.5, side + 0.5, None]
    cuts = np.arange(1.5, side, 1.0)
    x = [value for cut in cuts for value in (cut, cut, None)] + ends * len(cuts)
    y = ends * len(cuts) + [value for cut in cuts for value in (cut, cut, None)]
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": "rgba(138,138,138,0.7)", "width": 0.6},
        hoverinfo="skip", showlegend=False, name="grid",
    )  # fmt: skip


def _frame(query: int, side: int) -> go.Scatter:
    left, top = query % side + 0.5, query // side + 0.5
    return go.Scatter(
        x=[left, left + 1, left + 1, left, left], y=[top, top, top + 1, top + 1, top],
        mode="lines", line={"color": QUERY, "width": 3}, hoverinfo="skip", showlegend=False,
        name="query",
    )  # fmt: skip


def _patches(side: int) -> go.Scatter:
    """Invisible marks that can be clicked, on top of everything."""
    row, column = np.indices((side, side)) + 1
    return go.Scatter(
        x=column.ravel(), y=row.ravel(), customdata=[[token] for token in range(1, side**2 + 1)],
        mode="markers", marker={"size": max(6, SIDE // side - 4), "symbol": "square", "opacity": 0},
        selected={"marker": {"opacity": 0}}, unselected={"marker": {"opacity": 0}},
        hovertemplate="patch %{customdata[0]} (row %{y}, column %{x})<extra></extra>",
        showlegend=False, name="patches",
    )  # fmt: skip


def _image_axes(figure: go.Figure, side: int) -> None:
    bare = _bare(list(range(1, side + 1, max(1, math.ceil(side / 8)))))
    span = (0.5, side + 0.5)
    for column, name in ((1, "x"), (2, "x2")):
        place = {"row": 1, "col": column}
        figure.update_xaxes(range=span, title_text="column", **bare, **place)
        figure.update_yaxes(range=span[::-1], scaleanchor=name, **bare, **place)
    figure.update_yaxes(title_text="row", row=1, col=1)


def _matrix(figure: go.Figure, weights: np.ndarray, query: int) -> None:
    tokens = len(weights)
    places = np.arange(1, tokens + 1)
    figure.add_trace(
        go.Heatmap(
            x=places, y=places, z=weights, coloraxis="coloraxis", zsmooth=False, name="matrix",
            hovertemplate="from patch %{y} to patch %{x}<br>weight %{z:.3g}<extra></extra>",
        ),
        row=1, col=3,
    )  # fmt: skip
    edge = [query + 0.5, query + 1.5]
    figure.add_trace(
        go.Scatter(
            x=[0.5, tokens + 0.5, tokens + 0.5, 0.5, 0.5],
            y=[edge[0], edge[0], edge[1], edge[1], edge[0]],
            mode="lines", line={"color": QUERY, "width": 2}, hoverinfo="skip", showlegend=False,
            name="query row",
        ),
        row=1, col=3,
    )  # fmt: skip
    ticks = list(range(1, tokens + 1, max(1, math.isqrt(tokens))))
    span, third = (0.5, tokens + 0.5), {"row": 1, "col": 3}
    figure.update_xaxes(range=span, title_text="rows look at columns", **_bare(ticks), **third)
    figure.update_yaxes(range=span[::-1], scaleanchor="x3", **_bare(ticks), **third)


def _bare(ticks: list[int]) -> dict[str, Any]:
    return {"tickvals": ticks, "showgrid": False, "zeroline": False, "constrain": "domain"}


def _scale(figure: go.Figure, limit: float, tokens: int) -> None:
    """The end of the scale, and where uniform attention lies on it."""
    top = limit if math.isfinite(limit) and limit > 0 else 1.0
    ticks = [0, top / 4, top / 2, top]
    words = [f"{tick:.2g}" for tick in ticks]
    uniform = 1 / tokens
    if all(abs(uniform - tick) > top / 16 for tick in ticks):
        ticks, words = [*ticks, uniform], [*words, f"1/{tokens}"]
    bar = {"title": {"text": "attention weight", "side": "right"}, "thickness": 12,
           "tickvals": ticks, "ticktext": words}  # fmt: skip
    figure.update_layout(
        coloraxis={"colorscale": ATTENTION, "cmin": 0, "cmax": top, "colorbar": bar}
    )


def every_head(rows: pd.DataFrame, query: int, limit: float, title: str) -> go.Figure:
    """A small map for every block and head, where one patch looks; heads above each other.

    rows: `attention_maps` at one timestep, of this query alone."""
    blocks, heads = sorted(rows["block"].unique()), sorted(rows["head"].unique())
    side = math.isqrt(rows["key"].nunique())
    pitch = side + max(1, round(side / 6))
    across = np.full((len(heads) * pitch, len(blocks) * pitch), np.nan)
    words = np.full(across.shape, "", dtype=object)
    for (block, head), own in rows.groupby(["block", "head"]):
        top = (len(heads) - 1 - heads.index(head)) * pitch
        left = blocks.index(block) * pitch
        place = (slice(top, top + side), slice(left, left + side))
        across[place] = over_image(own.sort_values("key")["value"].to_numpy())
        words[place] = f"block {block + 1}, head {head + 1}"
    figure = go.Figure(_tiles(across, words, (len(blocks), len(heads)), pitch, side))
    figure.add_trace(_tile_frames(query, side, pitch, len(blocks), len(heads)))
    _tile_axes(figure, blocks, heads)
    _scale(figure, limit, side**2)
    finish(figure, title, map_height(len(blocks), len(heads)))
    return figure.update_layout(dragmode=False, margin={"t": 60})


def _tiles(
    across: np.ndarray, words: np.ndarray, count: tuple[int, int], pitch: int, side: int
) -> go.Heatmap:
    """A tile's centre lies at the integers (block, head) on screen, row 1 of the image on top."""
    x = _tile_places(count[0], pitch, side)
    y = count[1] + 1 - _tile_places(count[1], pitch, side)
    return go.Heatmap(
        x=x, y=y, z=across, text=words,
        coloraxis="coloraxis", zsmooth=False, hoverongaps=False, name="tiles",
        hovertemplate="%{text}<br>weight %{z:.3g}<extra></extra>",
    )  # fmt: skip


def _tile_places(count: int, pitch: int, side: int) -> np.ndarray:
    return (np.arange(count * pitch) - (side - 1) / 2) / pitch + 1


def _tile_frames(query: int, side: int, pitch: int, blocks: int, heads: int) -> go.Scatter:
    """The patch that looks, in every tile."""
    row, column = divmod(query, side)
    x, y = [], []
    for block in range(1, blocks + 1):
        for head in range(1, heads + 1):
            left = block + (column - side / 2) / pitch
            top = head - (row - side / 2) / pitch
            x += [left, left + 1 / pitch, left + 1 / pitch, left, left, None]
            y += [top, top, top - 1 / pitch, top - 1 / pitch, top, None]
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": QUERY, "width": 1.5}, hoverinfo="skip",
        showlegend=False, name="query",
    )  # fmt: skip


def _tile_axes(figure: go.Figure, blocks: list[int], heads: list[int]) -> None:
    block_axis(figure, len(blocks))
    figure.update_xaxes(
        showgrid=False, zeroline=False, tickvals=list(range(1, len(blocks) + 1)),
        ticktext=[str(block + 1) for block in blocks],
    )  # fmt: skip
    figure.update_yaxes(
        range=[0.4, len(heads) + 0.6], tickvals=list(range(1, len(heads) + 1)), title_text="head",
        ticktext=[str(head + 1) for head in heads], showgrid=False, zeroline=False,
        scaleanchor="x", constrain="domain",
    )  # fmt: skip
    figure.update_xaxes(constrain="domain")
