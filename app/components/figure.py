"""A figure as every page shows it: definition, chart, and folded under it how it was computed."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.figures.theme import BACKGROUND, HEIGHT, template
from analysis.question import in_words
from app.components.frame import link_here
from app.components.results import Results
from app.selection import weights_label

CONFIG = {"displaylogo": False, "scrollZoom": False, "responsive": True}


def show(
    figure: go.Figure,
    table: pd.DataFrame,
    key: str,
    made_from: Results | Sequence[Results],
    *,
    definition: str,
    formula: str = "",
    select: bool | Callable[[], None] = False,
) -> Any:
    """Draw the figure with everything a reader needs to trust it.

    table: the rows that are drawn, for the CSV. key: unique on the page, and always the same.
    definition: one sentence above the chart, what the plotted quantity is. formula: Markdown with
    $LaTeX$, in the help of that sentence and in the fold. Returns the points of a click when
    `select` is true (`chosen["selection"]["points"]`), else None; a function is called back with
    the selection in `st.session_state[f"figure/{key}"]`, before the page is drawn again."""
    st.caption(definition, help=formula or None)
    title = figure.layout.title.text or key
    event = st.plotly_chart(
        figure.update_layout(template=template(_background())),
        width="stretch",
        height=int(figure.layout.height or HEIGHT),
        theme=None,
        key=f"figure/{key}",
        config=CONFIG,
        alt=title,
        on_select=select if callable(select) else "rerun" if select else "ignore",
    )
    parts = [made_from] if isinstance(made_from, Results) else list(made_from)
    with st.expander("How this was computed"):
        how_computed(parts, definition, formula)
        _downloads(figure, table, key, title)
        link_here()
    return event if select else None


def how_computed(parts: Sequence[Results], definition: str, formula: str = "") -> None:
    """The fold's text: formula, settings (samples, seed), checkpoints, duration."""
    st.markdown(f"{definition}  \n{formula}" if formula else definition)
    for part in parts:
        name, version = part.question.name, part.question.version
        st.markdown(f"Analysis `{name}`, version {version}: {in_words(part.settings)}.")
    st.dataframe(_sources(parts), hide_index=True, width="stretch")


def _sources(parts: Sequence[Results]) -> pd.DataFrame:
    """One row per result: where it comes from and how long it took."""
    rows = [
        {
            "run": source["run"],
            "weights": weights_label(source["weights"]),
            "analysis": part.question.name,
            "checkpoint (sha256)": str(source.get("checkpoint", ""))[:12],
            "seconds": source.get("seconds"),
            "computed (UTC)": str(source.get("written", ""))[:16].replace("T", " "),
        }
        for part in parts
        for source in part.sources
    ]
    return pd.DataFrame(rows)


def _downloads(figure: go.Figure, table: pd.DataFrame, key: str, title: str) -> None:
    """Files are made when a button is pressed, so they cost a page nothing."""

    def csv() -> bytes:
        return table.to_csv(index=False).encode()

    def html() -> bytes:
        page = go.Figure(figure).update_layout(
            template=template("light"), paper_bgcolor=BACKGROUND["light"]
        )
        return page.to_html(include_plotlyjs=True).encode()

    quiet: dict[str, Any] = {"on_click": "ignore"}
    with st.container(horizontal=True):
        st.download_button("CSV", csv, f"{key}.csv", "text/csv", key=f"csv/{key}", **quiet)
        st.download_button("HTML", html, f"{key}.html", "text/html", key=f"html/{key}", **quiet)


def _background() -> str:
    return "dark" if st.context.theme.type == "dark" else "light"
