"""Figure of how much each branch adds to the stream."""

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.theme import block_axis, finish, in_run_order, run_style


def output_by_block(table: pd.DataFrame, title: str) -> go.Figure:
    """Magnitude over blocks, one line a run; table: `branch_output`, one branch and timestep."""
    figure = go.Figure()
    for name in in_run_order(table["run"]):
        rows, style = table[table["run"] == name], run_style(name)
        figure.add_scatter(
            x=rows["block"] + 1, y=rows["value"], name=name, mode="lines+markers",
            line=style.line(), marker=style.points(),
        )  # fmt: skip
    block_axis(figure, int(table["block"].max()) + 1)
    figure.update_yaxes(title_text="magnitude (root mean square over channels)", rangemode="tozero")
    return finish(figure, title)
