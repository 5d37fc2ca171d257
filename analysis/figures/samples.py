"""Sampled images side by side: runs as rows, labels as columns, the same noise in a column."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from PIL import Image, ImageDraw, ImageFont

from analysis.figures.theme import finish, in_run_order, run_style

TILE = 84
"""Height of one image on the screen, gap included, in pixels."""
GAP = 0.12
"""Space between two images, as a share of their side."""
PRINTED = 12
"""Side of one pixel of an image in the downloaded PNG."""
STRIP_SIDE, STRIP_GAP = 64, 3
"""Side of an image in a strip, and the space between two, in pixels."""
_MARGIN_TOP, _MARGIN_BOTTOM, _MARGIN_LEFT = 104, 16, 76


@dataclass(frozen=True)
class Mosaic:
    """Images laid out as one array: runs from top to bottom, columns of (label, index)."""

    grey: np.ndarray
    """(rows * (size + gap), columns * (size + gap)); nan between images."""
    words: np.ndarray
    """What the hover says at each of these places."""
    runs: list[str]
    columns: list[tuple[int, int]]
    pitch: int
    size: int


def grid_height(runs: int) -> int:
    """Height in pixels of the figure with that many rows."""
    return _MARGIN_TOP + _MARGIN_BOTTOM + TILE * runs


def samples_grid(table: pd.DataFrame, grey: tuple[float, float], title: str) -> go.Figure:
    """One row a run, one column a label; table: `sampled_images` at one state of the trajectory.

    grey: values drawn black and white. Each column starts from the same noise in every row."""
    mosaic = lay_out(table)
    tiles = go.Heatmap(
        z=mosaic.grey,
        text=mosaic.words,
        hovertemplate="%{text}<extra></extra>",
        hoverongaps=False,
        colorscale="Greys_r",
        zmin=grey[0],
        zmax=grey[1],
        zsmooth=False,
        showscale=False,
    )
    figure = go.Figure(tiles)
    _name_columns(figure, mosaic, table)
    _name_rows(figure, mosaic)
    finish(figure, title, grid_height(len(mosaic.runs)))
    figure.update_layout(
        margin={"t": _MARGIN_TOP, "b": _MARGIN_BOTTOM, "l": _MARGIN_LEFT, "r": 8}, dragmode=False
    )
    return figure


def lay_out(table: pd.DataFrame) -> Mosaic:
    """Place the images of the table; a run without an image of a column leaves its place empty."""
    runs = in_run_order(table["run"])
    pairs = table[["label", "index"]].drop_duplicates().sort_values(["index", "label"])
    columns = [(int(label), int(index)) for label, index in pairs.to_numpy()]
    size = int(table["size"].max())
    pitch = size + max(1, round(size * GAP))
    shape = (len(runs) * pitch, len(columns) * pitch)
    grey, words = np.full(shape, np.nan), np.full(shape, "", dtype=object)
    for row in table.to_dict("records"):
        top = runs.index(row["run"]) * pitch
        left = columns.index((row["label"], row["index"])) * pitch
        place = (slice(top, top + row["size"]), slice(left, left + row["size"]))
        grey[place] = picture(row)
        words[place] = f"run {row['run']}<br>label {row['label']}<br>seed {row['seed']}"
        words[place] += f", image {row['index']}"
    return Mosaic(grey, words, runs, columns, pitch, size)


def picture(row: dict) -> np.ndarray:
    """One image of the table as (size, size); of several channels the first is shown."""
    pixels = np.asarray(row["pixels"], dtype=np.float64)
    return pixels.reshape(row["channels"], row["size"], row["size"])[0]


def _centres(count: int, mosaic: Mosaic) -> list[float]:
    return [place * mosaic.pitch + (mosaic.size - 1) / 2 for place in range(count)]


def _name_columns(figure: go.Figure, mosaic: Mosaic, table: pd.DataFrame) -> None:
    seeds = ", ".join(str(seed) for seed in sorted(table["seed"].unique()))
    figure.update_xaxes(
        side="top",
        title_text=f"label (seed {seeds}; each column starts from the same noise)",
        tickvals=_centres(len(mosaic.columns), mosaic),
        ticktext=[str(label) for label, _ in mosaic.columns],
        range=[-0.5, len(mosaic.columns) * mosaic.pitch - 0.5],
        **_bare(),
    )


def _name_rows(figure: go.Figure, mosaic: Mosaic) -> None:
    figure.update_yaxes(
        tickvals=_centres(len(mosaic.runs), mosaic),
        ticktext=[_wrapped(name) for name in mosaic.runs],
        range=[len(mosaic.runs) * mosaic.pitch - 0.5, -0.5],
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
        **_bare(),
    )


def _bare() -> dict:
    """An axis without grid, line or ticks: the images speak for themselves."""
    return {"showgrid": False, "zeroline": False, "ticks": "", "fixedrange": True}


def _wrapped(name: str) -> str:
    """The run's name in its colour, one word a line where it is long."""
    lines = name.replace("-", "-<br>") if len(name) > 8 else name
    return f'<b style="color:{run_style(name).colour}">{lines}</b>'


def samples_png(table: pd.DataFrame, grey: tuple[float, float], title: str) -> bytes:
    """The same grid as a PNG file: black and white as in `samples_grid`, pixels not smoothed."""
    mosaic = lay_out(table)
    tiles = _as_image(mosaic.grey, grey, PRINTED)
    left, top = 190, 84
    page = Image.new("RGB", (left + tiles.width, top + tiles.height), "white")
    page.paste(tiles, (left, top))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(20)
    draw.text((12, 10), title, fill="black", font=ImageFont.load_default(22))
    for centre, (label, _) in zip(
        _centres(len(mosaic.columns), mosaic), mosaic.columns, strict=True
    ):
        place = (left + (centre + 0.5) * PRINTED, top - 8)
        draw.text(place, str(label), fill="black", font=font, anchor="ms")
    for centre, name in zip(_centres(len(mosaic.runs), mosaic), mosaic.runs, strict=True):
        place = (left - 10, top + (centre + 0.5) * PRINTED)
        draw.text(place, name, fill=run_style(name).colour, font=font, anchor="rm")
    return _file(page)


def strip_png(pixels: Sequence[np.ndarray], grey: tuple[float, float]) -> bytes:
    """Images (size, size) in a row as a PNG file, 64 pixels high or a little more, not smoothed."""
    scale = max(1, math.ceil(STRIP_SIDE / pixels[0].shape[0]))
    tiles = [_as_image(image, grey, scale) for image in pixels]
    side = tiles[0].width
    row = Image.new("RGBA", (len(tiles) * (side + STRIP_GAP) - STRIP_GAP, side))
    for place, tile in enumerate(tiles):
        row.paste(tile, (place * (side + STRIP_GAP), 0))
    return _file(row)


def _as_image(values: np.ndarray, grey: tuple[float, float], scale: int) -> Image.Image:
    """Values as grey squares of `scale` pixels; nan is white."""
    low, high = grey
    shown = np.clip((np.nan_to_num(values, nan=high) - low) / (high - low), 0, 1)
    levels = (shown * 255).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(levels).convert("RGB")


def _file(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
