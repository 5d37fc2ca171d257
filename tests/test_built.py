"""Figures kept for all sessions: built once for equal content, and never shared by two hands."""

import pandas as pd
import plotly.graph_objects as go
import pytest

from app.components.built import built


@pytest.fixture
def build():
    calls = []

    def scatter(rows: pd.DataFrame, limits: dict, title: str = "") -> go.Figure:
        calls.append(title)
        return go.Figure(go.Scatter(x=rows["x"], y=rows["y"]), {"title": {"text": title}})

    scatter.calls = calls
    return scatter


def rows(last=3.0):
    return pd.DataFrame({"run": ["A", "B"], "x": [1, 2], "y": [1.5, last]})


def test_equal_tables_and_settings_are_built_once(build):
    first = built(build, rows(), {"low": 1}, title="a")
    again = built(build, rows(), {"low": 1}, title="a")
    assert first == again and len(build.calls) == 1


@pytest.mark.parametrize(
    ("table", "limits", "title"),
    [
        (rows(4.0), {"low": 1}, "a"),
        (rows().rename(columns={"run": "weights"}), {"low": 1}, "a"),
        (rows(), {"low": 2}, "a"),
        (rows(), {"low": 1}, "b"),
        (rows().iloc[::-1], {"low": 1}, "a"),
    ],
)
def test_whatever_differs_is_built_anew(build, table, limits, title):
    built(build, rows(), {"low": 1}, title="a")
    built(build, table, limits, title=title)
    assert len(build.calls) == 2


def test_who_gets_a_figure_may_change_it(build):
    built(build, rows(), {}).add_traces(go.Scatter(x=[0], y=[0]))
    assert len(built(build, rows(), {}).data) == 1
