"""Chapters of the page Modulation: one run at a time."""

import pandas as pd

from analysis.figures.modulation import mark_cell, mark_timestep, strength_heatmaps
from analysis.figures.modulation_angles import angle_circle, angles_along_timesteps
from analysis.figures.modulation_change import change_by_block
from analysis.figures.modulation_shares import shares_by_block
from analysis.modulation import ModulationGrid, at_label, largest, modulation_strength
from analysis.modulation_angles import (
    EVERY_TIMESTEP,
    most_on_circle,
    rotation_angles,
    rotation_wraps,
)
from analysis.modulation_answer import modulation_answer
from analysis.modulation_change import TOGETHER, ChangeSettings, change_limits, modulation_change
from analysis.modulation_shares import TOTAL, ShareGrid, modulation_shares
from analysis.report.chapter import Chapter, Figure, Part, Shown, Source, asked, nearest
from mpdit_core.runs import Run

GRID = ModulationGrid()


def no_rotation(run: Run) -> str:
    """Why a run has no angles, or ""."""
    return "" if "rotation" in run.config.block_modulation else f"{run.name} has no rotation."


STRENGTH = asked(modulation_strength, GRID)
SHARES = asked(modulation_shares, ShareGrid())
CHANGE = asked(modulation_change, ChangeSettings())
ANGLES = asked(rotation_angles, GRID, lacking=no_rotation)
WRAPS = asked(rotation_wraps, EVERY_TIMESTEP, lacking=no_rotation)
BRANCH, BRANCH_WORDS = "attn", "attention"


def _block(run: Run) -> int:
    return (run.config.depth - 1) // 2


def _timestep(run: Run) -> int:
    return nearest(GRID.timesteps(run.config), 500)


def _label(run: Run) -> int:
    return GRID.classes(run.config)[0]


def _moment(run: Run) -> str:
    return f"t = {_timestep(run)}, label {_label(run)}"


def _at_label(shown: Shown, source: Source) -> pd.DataFrame:
    return at_label(shown.own(source), {shown.run.name: _label(shown.run)})


def _here(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["branch"].isin([BRANCH, "final"])]


def _in_block(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    return table[(table["block"] == _block(run)) & (table["branch"] == BRANCH)]


def _modulates_nothing(shown: Shown) -> str:
    rows = _here(_at_label(shown, STRENGTH))
    return "" if len(rows) else f"The condition modulates nothing in {shown.run.name}."


def _strength(shown: Shown) -> Figure:
    run = shown.run
    limits = largest(_here(shown.own(STRENGTH)))
    where = f"{BRANCH_WORDS}, label {_label(run)}"
    rows = _here(_at_label(shown, STRENGTH))
    figure = strength_heatmaps(rows, limits, {run.name: run.config.depth}, where)
    mark_cell(figure, _timestep(run), _block(run))
    return figure


def _answer(shown: Shown) -> str:
    rows = _at_label(shown, STRENGTH)
    now = rows[rows["timestep"] == _timestep(shown.run)]
    totals = _totals(shown)
    overall = totals[totals["block"] == TOTAL]
    return modulation_answer(now, overall if len(overall) else None, _moment(shown.run))


def _totals(shown: Shown) -> pd.DataFrame:
    table = shown.own(SHARES)
    return table[(table["labels"] == "classes") & (table["channel"] == TOTAL)]


def _circle(shown: Shown) -> Figure:
    run, timestep = shown.run, _timestep(shown.run)
    rows = _in_block(_at_label(shown, ANGLES), run)
    now = rows[rows["timestep"] == timestep]
    where = f"{BRANCH_WORDS}, block {_block(run) + 1}, label {_label(run)}"
    most = most_on_circle(shown.own(ANGLES))
    return angle_circle(now, most, f"Angles at t = {timestep}", where)


def _along(shown: Shown) -> Figure:
    run = shown.run
    rows = _in_block(_at_label(shown, ANGLES), run)
    counted = _in_block(_at_label(shown, WRAPS), run)
    limit = float(shown.own(ANGLES)["value"].abs().max())
    where = f"{BRANCH_WORDS}, block {_block(run) + 1}, label {_label(run)}"
    figure = angles_along_timesteps(rows, counted, limit, where)
    mark_timestep(figure, _timestep(run))
    return figure


def _shares(shown: Shown) -> Figure:
    totals = _totals(shown)
    rows = totals[totals["branch"].isin([BRANCH, "final", "all", "condition"])]
    return shares_by_block(rows, shown.run.config.depth, BRANCH_WORDS)


def _changed(shown: Shown) -> pd.DataFrame:
    table = shown.own(CHANGE)
    return table[(table["branch"] == BRANCH) & (table["signal"] != TOGETHER)]


def _change_now(shown: Shown) -> pd.DataFrame:
    rows, run = _changed(shown), shown.run
    now = rows[rows["timestep"] == _timestep(run)]
    return at_label(now, {run.name: _label(run)})


def _no_step(shown: Shown) -> str:
    if len(_change_now(shown)):
        return ""
    return f"No step of the modulation acts in {shown.run.name} at {_moment(shown.run)}."


def _change(shown: Shown) -> Figure:
    where = f"{BRANCH_WORDS}, {_moment(shown.run)}"
    limits = change_limits(_changed(shown))
    return change_by_block(_change_now(shown), limits, shown.run.config.depth, where)


PART = Part(
    "modulation",
    "Modulation",
    "What does the condition do to each block, and is it the timestep or the label?",
    (
        Chapter("modulation-strength", "How large each signal is", (STRENGTH, SHARES), _strength,
                _answer, each_run=True, lacking=_modulates_nothing),
        Chapter("modulation-circle", "Angles of the pairs of channels", (ANGLES,), _circle,
                each_run=True),
        Chapter("modulation-along", "Angles along the timesteps", (ANGLES, WRAPS), _along,
                each_run=True),
        Chapter("modulation-shares", "Timestep, label, or both together", (SHARES,), _shares,
                each_run=True),
        Chapter("modulation-change", "What each step does to the magnitude", (CHANGE,), _change,
                each_run=True, lacking=_no_step),
    ),
)  # fmt: skip
