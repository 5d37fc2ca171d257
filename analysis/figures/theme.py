"""One look for every figure: a colour, marker and dash per run, and scales that are comparable.

A figure function ends with `finish(figure, title)`. Figures are drawn for a white page; the
dashboard gives them the `template` of its own background.
"""

import math
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import plotly.graph_objects as go

HEIGHT_SMALL, HEIGHT, HEIGHT_TALL = 280, 420, 640
"""Heights of figures in pixels; a page reserves them while a table is still computed."""

BACKGROUND = {"light": "#ffffff", "dark": "#14171c"}
TEXT = {"light": "#31343a", "dark": "#d7dae0"}
GRID = {"light": "#e4e6ea", "dark": "#2e333b"}
MUTED = "#8a8a8a"
"""A grey that can be seen on both backgrounds: the line at 1, initial weights, the unchosen."""

TIMESTEP_TITLE = "timestep t (999 = noise, 0 = image)"


@dataclass(frozen=True)
class RunStyle:
    """How a run is told apart, on every page: never by colour alone."""

    colour: str
    marker: str
    dash: str

    def line(self, width: float = 2) -> dict[str, Any]:
        """`line=` of a scatter trace."""
        return {"color": self.colour, "dash": self.dash, "width": width}

    def points(self, size: float = 7) -> dict[str, Any]:
        """`marker=` of a scatter trace."""
        return {"color": self.colour, "symbol": self.marker, "size": size}


RUN_STYLES = {
    "A": RunStyle("#8a8a8a", "circle", "solid"),
    "B": RunStyle("#4d9f95", "square", "dash"),
    "C": RunStyle("#6791ac", "diamond", "dot"),
    "D": RunStyle("#7f8fc9", "triangle-up", "dashdot"),
    "E": RunStyle("#a475e2", "x", "longdash"),
    # The modulation study: the set of what a block's condition does, by its words.
    "gate scale shift": RunStyle("#7d9150", "star", "solid"),
    "gate rotation scale": RunStyle("#c05661", "circle", "dash"),
    "rotation scale": RunStyle("#e17758", "square", "dot"),
    "rotation": RunStyle("#a0741b", "diamond", "dashdot"),
    "gate scale": RunStyle("#cb6ba1", "triangle-up", "longdash"),
}
_OTHER_COLOURS = ("#3f8fc4", "#b5702c", "#5f9e58", "#b0609c", "#8b7f3d", "#c85c4b", "#6f7fd0")
_OTHER_MARKERS = ("pentagon", "hexagon", "cross", "triangle-down", "star-diamond", "bowtie")
_OTHER_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SIGNALS = {"shift", "scale", "rotation", "gate"}


def run_style(name: str) -> RunStyle:
    """The style of a run, from its name alone, so that it is the same on every page and machine.

    >>> run_style("A").colour, run_style("rotation-scale") == run_style("scale_rotation")
    ('#8a8a8a', True)
    """
    if name in RUN_STYLES:
        return RUN_STYLES[name]
    words = set(re.split(r"[^a-z]+", name.lower())) & _SIGNALS
    if " ".join(sorted(words)) in RUN_STYLES:
        return RUN_STYLES[" ".join(sorted(words))]
    number = zlib.crc32(name.encode())
    return RunStyle(
        _OTHER_COLOURS[number % len(_OTHER_COLOURS)],
        _OTHER_MARKERS[number // 7 % len(_OTHER_MARKERS)],
        _OTHER_DASHES[number // 42 % len(_OTHER_DASHES)],
    )


def in_run_order(names: Iterable[str]) -> list[str]:
    """A to E first, then the modulation study, then the others by name; each name once."""
    known = {style.colour: place for place, style in enumerate(RUN_STYLES.values())}
    return sorted(
        set(names), key=lambda name: (known.get(run_style(name).colour, len(known)), name)
    )


def finish(figure: go.Figure, title: str, height: int = HEIGHT) -> go.Figure:
    """Title (the subject of the finding), height and look; keeps zoom when the data change."""
    figure.update_layout(
        template=template("light"), title_text=title, height=height, uirevision="keep"
    )
    return figure


@lru_cache
def template(background: str) -> go.layout.Template:
    """Transparent paper, readable text and quiet grid for the background "light" or "dark"."""
    axis = {
        "gridcolor": GRID[background],
        "linecolor": MUTED,
        "zerolinecolor": GRID[background],
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": MUTED,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 13}},
        "tickfont": {"size": 12},
        "exponentformat": "power",
    }
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {
            "family": "Source Sans, system-ui, sans-serif",
            "size": 13,
            "color": TEXT[background],
        },
        "title": {"x": 0, "xref": "container", "xanchor": "left", "font": {"size": 16}},
        "margin": {"l": 56, "r": 24, "t": 56, "b": 48},
        "xaxis": axis,
        "yaxis": axis,
        "polar": {
            "bgcolor": "rgba(0,0,0,0)",
            "angularaxis": {"gridcolor": GRID[background], "linecolor": MUTED},
            "radialaxis": {"gridcolor": GRID[background], "linecolor": MUTED},
        },
        "legend": {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0},
        "hoverlabel": {
            "bgcolor": BACKGROUND[background],
            "font": {"color": TEXT[background]},
            "bordercolor": MUTED,
        },
        "colorway": [RUN_STYLES[name].colour for name in "ABCDE"],
    }
    bar = {
        "title": {"font": {"size": 13}},
        "tickfont": {"size": 12},
        "outlinewidth": 0,
        "exponentformat": "power",
    }
    return go.layout.Template(layout=layout, data={"heatmap": [{"colorbar": bar}]})


DIVERGING = [
    (0.0, "#134b73"),
    (0.25, "#6ba3c4"),
    (0.5, "#ffffff"),
    (0.75, "#e0935c"),
    (1.0, "#8a3510"),
]
"""Blue below 1, white at 1, brown above; both ends equally dark."""

SEQUENTIAL = [(0.0, "#f3f1f8"), (0.5, "#9c83cf"), (1.0, "#3b2065")]
"""For values that start at 0 and have no middle: angles, shares, entropies."""


def around_one(values: Iterable[float], title: str = "magnitude") -> dict[str, Any]:
    """Keywords of a heatmap drawn over log2 of the value: white at 1, 0.5 and 2 equally strong.

    values: all values that will ever be shown (every timestep and run in view), so that a slider
    never rescales. Not positive or not finite ones are ignored. The caller draws z = log2(value).

    >>> around_one([0.5, 1.0, 3.0])["zmax"]
    2
    """
    logs = [abs(math.log2(v)) for v in values if math.isfinite(v) and v > 0]
    limit = max(1, math.ceil(max(logs, default=1) - 1e-9))
    step = max(1, math.ceil(limit / 3))
    ticks = [tick for tick in range(-limit, limit + 1) if tick % step == 0]
    bar = {
        "title": {"text": title},
        "tickvals": ticks,
        "ticktext": [f"{2.0**t:.3g}" for t in ticks],
    }
    return {"colorscale": DIVERGING, "zmin": -limit, "zmax": limit, "colorbar": bar}


def timestep_axis(figure: go.Figure, **where: Any) -> go.Figure:
    """The x axes run as sampling does: from noise (999, left) to image (0, right).

    where: `row=`, `col=` or `selector=` of `update_xaxes`; all x axes without it."""
    ticks = [999, 800, 600, 400, 200, 0]
    figure.update_xaxes(range=[1009, -10], tickvals=ticks, title_text=TIMESTEP_TITLE, **where)
    return figure


def block_axis(figure: go.Figure, blocks: int, **where: Any) -> go.Figure:
    """The x axes count blocks from 1; the caller draws x = block + 1."""
    step = max(1, math.ceil(blocks / 12))
    ticks = list(range(1, blocks + 1, step))
    figure.update_xaxes(tickvals=ticks, title_text="block", range=[0.5, blocks + 0.5], **where)
    return figure


def mark_one(figure: go.Figure) -> go.Figure:
    """The line at 1 in every panel: magnitude preserved.

    `add_hline` does the same, and takes a third of a second for ten panels."""
    line = {"dash": "dot", "color": MUTED, "width": 1}
    axes = [(axis.plotly_name.replace("axis", ""), axis.anchor) for axis in figure.select_xaxes()]
    panels = [(x, y or "y") for x, y in axes] or [("x", "y")]
    lines = [
        {"type": "line", "xref": f"{x} domain", "yref": y, "x0": 0, "x1": 1, "y0": 1, "y1": 1,
         "line": line}
        for x, y in panels
    ]  # fmt: skip
    return figure.update_layout(shapes=[*figure.layout.shapes, *lines])


def label_line_ends(figure: go.Figure) -> go.Figure:
    """Write each line's name at its last point, in its colour, in place of a legend."""
    for trace in figure.data:
        if trace.type != "scatter" or trace.x is None or not len(trace.x) or not trace.name:
            continue
        colour = trace.line.color or trace.marker.color or MUTED
        figure.add_annotation(
            x=trace.x[-1],
            y=_on_axis(figure, trace, trace.y[-1]),
            xref=trace.xaxis or "x",
            yref=trace.yaxis or "y",
            text=trace.name,
            font={"color": colour, "size": 12},
            showarrow=False,
            xanchor="left",
            xshift=6,
        )
    return figure.update_layout(showlegend=False)


def _on_axis(figure: go.Figure, trace: Any, value: float) -> float:
    """An annotation's place on a logarithmic axis is the exponent (a plotly rule)."""
    axis = figure.layout["yaxis" + (trace.yaxis or "y")[1:]]
    return math.log10(value) if axis.type == "log" and value > 0 else value
