"""The two sides of a comparison, each a run with its weights, chosen in the link."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st
from pydantic import BaseModel

from analysis.question import Question
from app.components.results import Results, results_of
from app.selection import default_weights, has_weights, weights_label
from app.view import View
from mpdit_core.runs import Run


@dataclass(frozen=True)
class Side:
    """A run with its weights."""

    run: Run
    weights: str


@dataclass(frozen=True)
class Sides:
    """What is compared, and the base that ratios are divided by."""

    base: Side
    other: Side

    @property
    def same(self) -> bool:
        """Whether there is nothing to compare."""
        return self.runs[0] == self.runs[1] and self.base.weights == self.other.weights

    @property
    def runs(self) -> tuple[str, str]:
        """Names of the runs, the base first."""
        return self.base.run.name, self.other.run.name

    @property
    def names(self) -> tuple[str, str]:
        """As short as tells them apart: the runs, else the weights; the base first."""
        base, other = (weights_label(side.weights) for side in (self.base, self.other))
        if self.base.weights == self.other.weights:
            return self.runs
        if self.runs[0] == self.runs[1]:
            return base, other
        return f"{self.runs[0]} ({base})", f"{self.runs[1]} ({other})"

    @property
    def common(self) -> str:
        """What the names leave out because it is the same."""
        if self.base.weights == self.other.weights:
            return weights_label(self.base.weights)
        return self.runs[0] if self.runs[0] == self.runs[1] else ""


def chosen_sides(view: View) -> Sides:
    """At first the last run in view against the first; a single run against its start."""
    first, last = view.runs[0], view.runs[-1]
    columns = st.columns([3, 3, 3, 3])
    with columns[0]:
        other = _run(view, "other", "Compared", last)
    with columns[1]:
        weights = _weights(view, "other_weights", other, str(view.weights))
    with columns[2]:
        base = _run(view, "base", "Against", first)
    alone = other.name == base.name and has_weights(base, "initial")
    with columns[3]:
        before = _weights(view, "base_weights", base, "initial" if alone else str(view.weights))
    return Sides(Side(base, before), Side(other, weights))


def _run(view: View, name: str, label: str, default: Run) -> Run:
    help = "Any run of the folder. Ratios are the compared side over the one it is held against."
    chosen = view.choice(name, label, list(view.library.names), default.name, help=help)
    return view.library.run(chosen)


def _weights(view: View, name: str, run: Run, wanted: str) -> str:
    """Saved weights of the run, and the ones of the sidebar where they can be reconstructed."""
    saved = [str(weights) for weights in run.weights()]
    options = saved if wanted in saved or not has_weights(run, wanted) else [*saved, wanted]
    default = wanted if wanted in options else default_weights([run])
    return view.choice(name, f"Weights of {run.name}", options, default, words=weights_label)


def both_results(
    question: Question, view: View, sides: Sides, settings: BaseModel, height: int
) -> tuple[Results, Results] | None:
    """The question's tables of base and other, or None while a card or a reason stands there."""
    found: Sequence[Results | None] = [
        results_of(question, view, settings, runs=[side.run], weights=side.weights, height=height)
        for side in (sides.base, sides.other)
    ]
    base, other = found
    return None if base is None or other is None else (base, other)


def named_sides(parts: tuple[Results, Results], names: tuple[str, str]) -> pd.DataFrame:
    """Both tables as one, whose `run` is the side's name."""
    tables = [part.table.assign(run=name) for part, name in zip(parts, names, strict=True)]
    return pd.concat(tables, ignore_index=True)
