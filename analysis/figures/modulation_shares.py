"""Where the signals come from: bars of timestep, label and both together, per block or channel."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.modulation import signals_in, titled, with_legend
from analysis.figures.theme import in_run_order
from analysis.modulation_shares import PARTS, TOTAL

PART_COLOURS = {"timestep": "#4a86b8", "label": "#c77d2b", "both": "#7d7f86"}
PART_PATTERNS = {"timestep": "", "label": "/", "both": "x"}
PART_WORDS = {
    "timestep": "timestep alone",
    "label": "label alone",
    "both": "both together",
}
ROW_HEIGHT, MARGINS = 24, 170


def shares_height(rows: int, runs: int = 1) -> int:
    """Pixels of `shares_by_block` with that many bars per panel."""
    return MARGINS + (ROW_HEIGHT * max(rows, 4) + 40) * runs


def shares_by_block(rows: pd.DataFrame, depth: int, where: str) -> go.Figure:
    """A panel per signal, a row of panels per run; a bar per block, and one for all blocks.

    rows: `modulation_shares` of all channels together (channel -1), one choice of labels, one
    branch with the final layer and the rows of block -1; depth: blocks of the deepest run;
    where: the branch in words."""
    runs = in_run_order(rows["run"])
    signals = signals_in(rows)
    bars = ["condition c", "all blocks", *(str(n) for n in range(1, depth + 1)), "final"]
    figure = _panels(signals, runs)
    for row, run in enumerate(runs, start=1):
        here = rows[rows["run"] == run]
        for column, signal in enumerate(signals, start=1):
            if not (here["signal"] == signal).any():
                continue
            wide = _wide(here, signal, depth)
            for part in PARTS:
                figure.add_trace(
                    _bar(wide, part, signal, run, legend=row == column == 1), row=row, col=column
                )
    shown = [bar for bar in bars if bar != "final" or (rows["branch"] == "final").any()]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=shown[::-1], ticks="")
    figure.update_yaxes(title_text="block", col=1)
    return _finished(figure, where, shares_height(len(shown), len(runs)), len(runs))


def _panels(signals: Sequence[str], runs: Sequence[str]) -> go.Figure:
    titles = [
        signal if len(runs) == 1 else f"{signal}, {run}" for run in runs for signal in signals
    ]
    return make_subplots(
        rows=len(runs),
        cols=len(signals),
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=0.14,
        subplot_titles=titles,
    )


def _wide(here: pd.DataFrame, signal: str, depth: int) -> pd.DataFrame:
    """One row a bar, a column per statistic."""
    chosen = here[(here["signal"] == signal) | (here["signal"] == "condition")]
    wide = chosen.pivot(index=["block", "branch"], columns="statistic", values="value")
    wide = wide.reset_index().assign(n=int(here["n"].iloc[0]))
    return wide.assign(
        bar=[_bar_name(*key, depth) for key in zip(wide.block, wide.branch, strict=True)]
    )


def _bar_name(block: int, branch: str, depth: int) -> str:
    if block == TOTAL:
        return "condition c" if branch == "condition" else "all blocks"
    return "final" if branch == "final" else str(block + 1)


def _bar(wide: pd.DataFrame, part: str, signal: str, run: str, legend: bool) -> go.Bar:
    share = wide[part].to_numpy()
    unit = " rad" if signal == "rotation" else ""
    text = [f"{100 * value:.0f} %" if value >= 0.12 else "" for value in np.nan_to_num(share)]
    return go.Bar(
        x=100 * share,
        y=wide["bar"],
        orientation="h",
        name=PART_WORDS[part],
        legendgroup=part,
        showlegend=legend,
        marker={
            "color": PART_COLOURS[part],
            "pattern": {
                "shape": PART_PATTERNS[part],
                "fillmode": "overlay",
                "fgcolor": "rgba(255,255,255,0.45)",
                "size": 5,
                "solidity": 0.15,
            },
            "line": {"width": 0},
        },
        text=text,
        textposition="inside",
        insidetextanchor="middle",
        textangle=0,
        textfont={"color": "#ffffff", "size": 11},
        customdata=np.stack([wide["deviation"], wide["n"]], axis=1),
        hovertemplate=f"%{{y}}: {PART_WORDS[part]} %{{x:.3g}} %<br>standard deviation "
        f"%{{customdata[0]:.3g}}{unit}, n = %{{customdata[1]:,}} pairs of timestep and label"
        f"<extra>{signal}, {run}</extra>",
    )


def _finished(figure: go.Figure, where: str, height: int, runs: int) -> go.Figure:
    figure.update_xaxes(range=[0, 100], tickvals=[0, 50, 100])
    figure.update_xaxes(title_text="share (%)", row=runs)
    figure.update_layout(barmode="stack", bargap=0.18)
    return with_legend(titled(figure, "What the signals depend on", where, height))


def shares_by_channel(rows: pd.DataFrame, where: str) -> go.Figure:
    """The channels of one block and branch, sorted by the timestep's share; a panel per signal.

    rows: `modulation_shares` of single channels, one choice of labels."""
    runs, signals = in_run_order(rows["run"]), signals_in(rows)
    figure = _panels(signals, runs)
    for row, run in enumerate(runs, start=1):
        for column, signal in enumerate(signals, start=1):
            here = rows[(rows["run"] == run) & (rows["signal"] == signal)]
            if here.empty:
                continue
            wide = here.pivot(index="channel", columns="statistic", values="value")
            wide = wide.sort_values("timestep", ascending=False)
            for part in PARTS:
                figure.add_trace(
                    _channels(wide, part, signal, run, row == column == 1), row=row, col=column
                )
    figure.update_yaxes(range=[0, 100], tickvals=[0, 50, 100])
    figure.update_yaxes(title_text="share of the variation (%)", col=1)
    figure.update_xaxes(showticklabels=False, ticks="")
    figure.update_xaxes(title_text="channels, sorted", row=len(runs))
    figure.update_layout(barmode="stack", bargap=0)
    height = 150 + 230 * len(runs)
    return with_legend(titled(figure, "What each channel depends on", where, height))


def _channels(wide: pd.DataFrame, part: str, signal: str, run: str, legend: bool) -> go.Bar:
    what = "pair" if signal == "rotation" else "channel"
    return go.Bar(
        x=np.arange(len(wide)),
        y=100 * wide[part].to_numpy(),
        name=PART_WORDS[part],
        legendgroup=part,
        showlegend=legend,
        marker={"color": PART_COLOURS[part], "line": {"width": 0}},
        customdata=np.asarray(wide.index) + 1,
        hovertemplate=f"{what} %{{customdata}}: {PART_WORDS[part]} %{{y:.3g}} %"
        f"<extra>{signal}, {run}</extra>",
    )
