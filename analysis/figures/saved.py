"""Figures as files: their data as JSON, and the script of plotly that all of them share."""

import json

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from analysis.figures.theme import BACKGROUND, HEIGHT, template


def figure_json(figure: go.Figure) -> str:
    """Traces and layout without the look, which the reader's background decides; taken off here.

    No `<` is left, so that it may stand in a script element whatever the names in it."""
    figure.update_layout(height=figure.layout.height or HEIGHT, template=None)
    return str(figure.to_json(validate=False)).replace("<", "\\u003c")


def looks_json() -> str:
    """The template of each background, "light" and "dark"."""
    looks = {name: template(name).to_plotly_json() for name in BACKGROUND}
    return json.dumps(looks).replace("<", "\\u003c")


def plotly_script() -> str:
    """plotly.js, as it comes with plotly."""
    return get_plotlyjs()
