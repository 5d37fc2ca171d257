"""A dashboard of two pages made for tests: every part of the frame, and computations that wait."""

import time

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from analysis.figures.theme import finish, run_style
from analysis.question import question as analysis
from app.components import View, answer, part, question, results_of, show
from app.dashboard import Entry, run_dashboard
from mpdit_core.config import Settings
from mpdit_core.errors import BadData
from mpdit_core.progress import track


class Wait(Settings):
    """How long the computation takes, in steps of 0.1 s; whether it fails."""

    steps: int = 1
    fails: str = ""
    seed: int = 0


@analysis(version=1)
def waiting(run, weights, settings: Wait) -> pd.DataFrame:
    """One row per step."""
    for _ in track(range(settings.steps), "steps"):
        time.sleep(0.1)
    if settings.fails == "kindly":
        raise BadData("The held-out images are missing; run `make checkpoints`.")
    if settings.fails:
        raise ZeroDivisionError("a bug")
    rows = [{"run": run.name, "weights": str(weights), "x": x, "y": x} for x in range(5)]
    return pd.DataFrame(rows)


def chart(table: pd.DataFrame) -> go.Figure:
    figure = go.Figure()
    for name, rows in table.groupby("run"):
        style = run_style(str(name))
        trace = go.Scatter(x=rows.x, y=rows.y, name=name, line=style.line(), marker=style.points())
        figure.add_trace(trace)
    return finish(figure, "Rows by step")


def controls(view: View) -> None:
    question("Do the settings live in the link?")
    t = view.choice("t", "Timestep", [999, 500, 250, 0], 500, kind="slider")
    branch = view.choice("branch", "Branch", ["attn", "mlp"], kind="buttons")
    share = view.slider("share", "Share", 0.0, 1.0, 0.5, 0.1)
    log = view.toggle("log", "Logarithmic", False)
    labels = view.several("labels", "Labels", list(range(10)), [0, 1])
    run = view.focus()
    answer(f"t={t} branch={branch} share={share:.1f} log={log} labels={labels} run={run.name}")
    st.text(f"runs={','.join(view.run_names)} weights={view.weights} drawn={time.monotonic()}")
    alone(view)
    if view.toggle("bug", "Bug", False):
        raise ZeroDivisionError("a bug of the page")
    results = results_of(waiting, view, Wait())
    if results is not None:
        show(chart(results.table), results.table, "rows", results, definition="y: the step.")


@part
def alone(view: View) -> None:
    zoom = view.choice("zoom", "Zoom", [1, 2, 3], kind="slider")
    st.text(f"zoom={zoom}")


def long_work(view: View) -> None:
    question("What does a page do while it computes?")
    seed = view.number("seed", "Seed", 0, 99, 0, 1)
    steps = view.choice("steps", "Steps", [1, 20, 100, 300])
    start = "button" if view.toggle("button", "Button first", False) else "now"
    fails = view.choice("fails", "Fails", ["no", "kindly", "badly"])
    settings = Wait(steps=steps, seed=seed, fails="" if fails == "no" else fails)
    results = results_of(
        waiting, view, settings, start=start, cost="Wait, about 10 s", runs=view.runs[:2]
    )
    if results is not None:
        place = view.choice("place", "Place", list(range(5)), 2, kind="slider")
        answer(f"{len(results.table)} rows, place {place}.")
        show(chart(results.table), results.table, "rows", results, definition="y: the step.")


run_dashboard(
    [
        Entry("Look", "Controls", "controls", controls),
        Entry("Understand", "Long work", "long", long_work),
    ]
)
