"""Before and after an intervention: the images with their difference, recognition, the stream."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.samples import TILE, picture
from analysis.figures.theme import (
    DIVERGING,
    HEIGHT,
    MUTED,
    block_axis,
    finish,
    in_run_order,
    run_style,
)
from analysis.interventions_change import reading_words

ROWS = ("before", "after", "difference")
BRANCHES = {
    "attn": ("after attention", "solid", "circle"),
    "mlp": ("after the MLP", "dash", "square"),
}
_TOP, _BOTTOM, _LEFT, _RIGHT = 122, 16, 84, 8
_ROW, _FRAME = 44, 150
_LOWEST = 1e-3
"""Factors below this are drawn here: the logarithm of a vanished stream is nowhere."""

GRID_HEIGHT = _TOP + _BOTTOM + TILE * len(ROWS)


def before_after_grid(pairs: pd.DataFrame, grey: tuple[float, float], title: str) -> go.Figure:
    """Columns of images, each before, after, and the difference; pairs: `paired`, in their order.

    grey: values drawn black and white. The difference is white at 0, brown where the pixel became
    lighter, blue where darker; full colour is the whole range of grey."""
    size = int(pairs["size"].iloc[0])
    pitch = size + max(1, round(size * 0.12))
    records = pairs.to_dict("records")
    before, after = (_row(records, side, pitch) for side in ("before", "after"))
    words = np.concatenate([_words(records, side, pitch, size) for side in ROWS])
    empty = np.full_like(before, np.nan)
    span = grey[1] - grey[0]
    figure = go.Figure(
        [
            _tiles([before, after, empty], words, "images", "Greys_r", grey),
            _tiles([empty, empty, after - before], words, "difference", DIVERGING, (-span, span)),
        ]
    )
    centres = [place * pitch + (size - 1) / 2 for place in range(max(len(records), len(ROWS)))]
    bare = {"showgrid": False, "zeroline": False, "ticks": "", "fixedrange": True}
    figure.update_xaxes(
        side="top", title_text=_columns_title(pairs), tickvals=centres[: len(records)],
        ticktext=[_column(row) for row in records], tickangle=0,
        range=[-0.5, len(records) * pitch - 0.5], **bare,
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=centres[: len(ROWS)], ticktext=list(ROWS),
        range=[len(ROWS) * pitch - 0.5, -0.5], scaleanchor="x", constrain="domain",
        constraintoward="top", **bare,
    )  # fmt: skip
    finish(figure, title, GRID_HEIGHT)
    return figure.update_layout(
        margin={"t": _TOP, "b": _BOTTOM, "l": _LEFT, "r": _RIGHT}, dragmode=False
    )


def _row(records: Sequence[dict], side: str, pitch: int) -> np.ndarray:
    """Images beside each other, nan between them: (pitch, images * pitch)."""
    tiles = [picture({**row, "pixels": row[f"pixels_{side}"]}) for row in records]
    rest = pitch - tiles[0].shape[0]
    return np.hstack([np.pad(tile, ((0, rest), (0, rest)), constant_values=np.nan)
                      for tile in tiles])  # fmt: skip


def _tiles(
    rows: Sequence[np.ndarray], words: np.ndarray, name: str, colours: object, span: tuple
) -> go.Heatmap:
    return go.Heatmap(
        z=np.vstack(rows), text=words, name=name, colorscale=colours, zmin=span[0], zmax=span[1],
        hovertemplate="%{text}<extra></extra>", hoverongaps=False, zsmooth=False, showscale=False,
    )  # fmt: skip


def _words(records: Sequence[dict], side: str, pitch: int, size: int) -> np.ndarray:
    parts = []
    for row in records:
        said = f"{side}<br>label {row['label']}<br>seed {row['seed']}, image {row['index']}<br>"
        if side == "difference":
            said += f"root mean square {row['difference']:.3g}"
        else:
            said += reading_words(row["label"], row[f"read_{side}"])
        tile = np.full((pitch, pitch), "", dtype=object)
        tile[:size, :size] = said
        parts.append(tile)
    return np.hstack(parts)


def _columns_title(pairs: pd.DataFrame) -> str:
    seeds = ", ".join(map(str, sorted(pairs["seed"].unique())))
    title = f"label (seed {seeds}; before and after start from the same noise)"
    read = pairs["read_before"].notna().any()
    return title + (", under it what it is read as, before → after" if read else "")


def _column(row: dict) -> str:
    """The label, and how the image is read."""
    if pd.isna(row["read_before"]):
        return str(row["label"])
    before, after = (_digit(row[f"read_{side}"]) for side in ("before", "after"))
    change = f"{before} → {after}"
    return f"{row['label']}<br>{change if before == after else f'<b>{change}</b>'}"


def _digit(read: int) -> str:
    return "?" if read < 0 else str(read)


def recognized_height(runs: int) -> int:
    """Height in pixels of `recognized_dumbbells`."""
    return _FRAME + _ROW * max(runs, 1)


def recognized_dumbbells(changes: pd.DataFrame, title: str) -> go.Figure:
    """Per run the share of recognized images before (open) and after (filled), and the change.

    changes: `recognized_change`."""
    runs = in_run_order(changes["run"])
    figure = go.Figure()
    for run in runs:
        row = changes[changes["run"] == run].iloc[0]
        style = run_style(run)
        said = f"{100 * row['change']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        figure.add_trace(
            go.Scatter(
                x=[100 * row["before"], 100 * row["after"]], y=[run, run], name=run,
                mode="lines+markers", line={"color": style.colour, "width": 3},
                marker={"color": style.colour, "size": 11, "symbol": ["circle-open", "circle"]},
                customdata=[["before"], ["after"]],
                hovertemplate=f"{run}, %{{customdata[0]}}: %{{x:.1f}} % recognized<br>change "
                f"{said} points<br>{row['n']} pairs: {row['lost']} lost, {row['gained']} gained"
                "<extra></extra>",
            )
        )  # fmt: skip
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", xshift=10, y=run, text=said, showarrow=False
        )
    figure.add_annotation(
        x=1, xref="paper", xanchor="left", xshift=10, y=1, yref="paper", yanchor="bottom",
        text="change (95 %), points", showarrow=False, font={"color": MUTED},
    )  # fmt: skip
    figure.update_xaxes(
        title_text="recognized samples, % (open: before, filled: after)", range=[-2, 102]
    )
    figure.update_yaxes(autorange="reversed", tickvals=runs, showgrid=False)
    figure.update_layout(showlegend=False, margin={"r": 170, "l": 120})
    return finish(figure, title, recognized_height(len(runs)))


def stream_panels(rows: pd.DataFrame, everything: pd.DataFrame, title: str) -> go.Figure:
    """Left the stream's magnitude before and after, right their factor with its interval, by block.

    rows: `stream_change` of one run at one timestep; everything: of all timesteps, which fix the
    axes."""
    figure = make_subplots(
        1, 2, horizontal_spacing=0.11, subplot_titles=["magnitude", "after / before"]
    )
    colour = run_style(rows["run"].iloc[0]).colour
    for branch, (words, dash, symbol) in BRANCHES.items():
        part = rows[rows["branch"] == branch].sort_values("block")
        for side, paint in (("before", MUTED), ("after", colour)):
            where = {"line": {"color": paint, "dash": dash}, "marker": _mark(symbol, paint, side)}
            figure.add_trace(
                go.Scatter(
                    x=part["block"] + 1, y=part[side], name=f"{side}, {words}",
                    customdata=part["n"], mode="lines+markers", **where,
                    hovertemplate=f"{side}, {words}, block %{{x}}<br>magnitude %{{y:.3g}}, "
                    "geometric mean of %{customdata} images<extra></extra>",
                ),
                row=1, col=1,
            )  # fmt: skip
        _factors(figure, part, words, dash, symbol, colour)
    block_axis(figure, int(rows["block"].max()) + 1)
    figure.add_hline(y=1, line_dash="dot", line_color=MUTED, line_width=1, row=1, col=2)
    _log_axis(figure, everything[["before", "after"]].to_numpy(), 1)
    _log_axis(figure, np.append(everything[["low", "high", "factor"]].to_numpy(), 1.0), 2)
    figure.update_yaxes(title_text="magnitude (root mean square)", col=1)
    figure.update_yaxes(title_text="factor", col=2)
    finish(figure, title, HEIGHT)
    return figure.update_layout(legend={"y": -0.2}, margin={"t": 84, "b": 100})


def _mark(symbol: str, colour: str, side: str) -> dict:
    return {"symbol": symbol + ("-open" if side == "before" else ""), "size": 7, "color": colour}


def _factors(
    figure: go.Figure, part: pd.DataFrame, words: str, dash: str, symbol: str, colour: str
) -> None:
    shown = part["factor"].clip(lower=_LOWEST)
    told = part[["block", "factor", "low", "high", "n"]].assign(block=part["block"] + 1)
    figure.add_trace(
        go.Scatter(
            x=part["block"] + (0.9 if dash == "solid" else 1.1), y=shown, name=f"factor, {words}",
            mode="lines+markers", line={"color": colour, "dash": dash, "width": 1},
            marker={"symbol": symbol, "size": 7, "color": colour},
            error_y={"type": "data", "symmetric": False, "array": part["high"] - shown,
                     "arrayminus": shown - part["low"], "thickness": 1.5},
            customdata=told,
            hovertemplate=f"{words}, block %{{customdata[0]}}<br>%{{customdata[1]:.3g}} times (95 "
            "% interval %{customdata[2]:.3g} to %{customdata[3]:.3g})<br>%{customdata[4]} images "
            "<extra></extra>",
            showlegend=False,
        ),
        row=1, col=2,
    )  # fmt: skip


def _log_axis(figure: go.Figure, values: np.ndarray, column: int) -> None:
    """A logarithmic axis that holds all values, and its ticks."""
    finite = values[np.isfinite(values) & (values > _LOWEST)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.5, 2.0)
    low, high = min(low / 1.05, 0.97 * high), high * 1.05
    ticks = _ticks(float(low), float(high))
    figure.update_yaxes(
        type="log", range=[math.log10(low), math.log10(high)], tickvals=ticks,
        ticktext=[f"{tick:.3g}" for tick in ticks], col=column,
    )  # fmt: skip


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers where the axis is short, powers of 2 where it is long.

    >>> _ticks(0.93, 1.12), _ticks(0.1, 9.0)
    ([0.95, 1.0, 1.05, 1.1], [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
    """
    if high / low > 6:
        first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
        return [2.0**power for power in range(first, last + 1, max(1, (last - first) // 6))]
    decade = 10.0 ** math.floor(math.log10((high - low) / 3))
    step = decade * max(round_ for round_ in (1, 2, 5) if round_ * decade <= (high - low) / 3)
    places = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [round(place * step, 12) for place in places]
