"""What does the condition do to each block: scale, shift, gate, rotation, and where from?"""

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from analysis.figures.modulation import (
    mark_cell,
    mark_timestep,
    strength_heatmaps,
    strength_height,
)
from analysis.figures.modulation_angles import (
    ALONG_HEIGHT,
    CIRCLE_HEIGHT,
    angle_circle,
    angles_along_timesteps,
)
from analysis.figures.modulation_change import change_by_block
from analysis.figures.modulation_shares import (
    shares_by_block,
    shares_by_channel,
    shares_height,
)
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
from app.components import Results, View, answer, built, empty, plain, question, results_of, show
from mpdit_core.runs import Run

GRID = ModulationGrid()
NULL, NONE = "null", "none"
BRANCHES = {"attn": "attention", "mlp": "MLP"}

STRENGTH = (
    "Modulation: what timestep and label do to a branch (attention or MLP): scale, shift and "
    "rotation before it, gate after it. Magnitude: root mean square over channels; a rotation has "
    "its mean absolute angle instead."
)
STRENGTH_FORMULA = r"""Before a branch $x \to x\,(1 + \text{scale})$, $x \to x + \text{shift}$, then
each pair of channels is turned by its angle; after it the gate multiplies (or one plus the gate).
Signals depend on timestep and label alone; they are computed without an image."""
CIRCLE = (
    "Each pair of channels is turned by an angle of its own; a sector's area is the number of "
    "pairs in it, and 0° is no rotation."
)
ROTATION_FORMULA = r"""$(x_i \cos\theta - x_j \sin\theta,\; x_i \sin\theta + x_j \cos\theta)$ for
the pair $(i, j)$; the token's magnitude stays."""
ALONG = (
    "The angle of each pair at 51 timesteps, not reduced to one turn. It wraps where it passes a "
    "dotted line (180° and every full turn further); wraps are counted over all 1,000 timesteps."
)
SHARES = (
    "Every signal is mean + part of the timestep + part of the label + part of both together; the "
    "bars are the parts' shares of the variation over all timesteps and labels."
)
SHARES_FORMULA = r"""Two-way analysis of variance per channel, summed over channels:
$v_{ty} = \mu + a_t + b_y + c_{ty}$, shares $\sum a^2$, $\sum b^2$, $\sum c^2$ of their sum. The
condition itself is a sum of timestep and label, so it has no part of both; the nonlinearity after
it makes one."""
CHANGE = (
    "Magnitude of the tokens after a step of the modulation, divided by that before it; 1 means "
    "unchanged. Bars: one standard deviation over the images."
)
CHANGE_FORMULA = r"""$M[\text{after}] / M[\text{before}]$, $M$ the root mean square over channels,
averaged over tokens and images (held-out images, noised to the timestep, with their own label; the
null label sees images of all). A rotation changes no magnitude."""


@dataclass(frozen=True)
class Chosen:
    """What the controls say. label: a class or NULL; block from 0."""

    runs: tuple[Run, ...]
    timestep: int
    label: int | str
    branch: str
    block: int

    @property
    def label_of(self) -> dict[str, int]:
        """Run -> its number of the label."""
        return {
            run.name: run.config.null_label if self.label == NULL else int(self.label)
            for run in self.runs
        }

    @property
    def moment(self) -> str:
        return f"t = {self.timestep}, {_label_words(self.label)}"

    @property
    def names(self) -> str:
        return " and ".join(run.name for run in self.runs)

    @property
    def depth(self) -> int:
        return max(run.config.depth for run in self.runs)

    def here(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the chosen branch (or the final layer), at the chosen label."""
        rows = at_label(table, self.label_of)
        return rows[rows["branch"].isin([self.branch, "final"])]

    def in_block(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the chosen block and branch."""
        return table[(table["block"] == self.block) & (table["branch"] == self.branch)]


def page(view: View) -> None:
    question("What does the condition do to each block, and is it the timestep or the label?")
    place = st.empty()
    place.markdown("&nbsp;  \n&nbsp;")  # room for the answer, which needs the tables
    chosen = _controls(view)
    if len(chosen.runs) == 1 and _has_rotation(chosen.runs[0]):
        left, right = st.columns([4, 3], gap="medium")
    else:  # two runs, or nothing to show on the right: full width
        left, right = st.container(), st.container()
    below = st.container()
    with left:
        strength = _strength(view, chosen)
    with below:
        shares = _shares(view, chosen)
    if strength is not None:  # told before the rest is drawn
        with place:
            answer(modulation_answer(strength, shares, chosen.moment))
    with right:
        _rotation(view, chosen)
    _change(view, chosen)


def _controls(view: View) -> Chosen:
    timestep_place = st.container()
    columns = st.columns([3, 3, 3, 3, 2])
    with columns[0]:
        focus = view.focus()
    with columns[1]:
        others = [name for name in view.library.names if name != focus.name]
        second = view.choice("second", "Second run", [NONE, *others])
    with columns[2]:
        labels = [*GRID.classes(focus.config), NULL]
        label = view.choice("label", "Label", labels, words=_label_words)
    with columns[3]:
        branch = view.choice("branch", "Branch", list(BRANCHES), words=BRANCHES.__getitem__)
    with columns[4]:
        blocks = list(range(1, focus.config.depth + 1))
        block = view.choice("block", "Block", blocks, blocks[(len(blocks) - 1) // 2])
    with timestep_place:
        timesteps = list(GRID.timesteps(focus.config))
        help = "From noise (999, left) to image (0, right); moving it computes nothing."
        timestep = view.choice("t", "Timestep", timesteps, 500, kind="slider", help=help)
    runs = (focus,) if second == NONE else (focus, view.library.run(second))
    return Chosen(runs, timestep, label, branch, block - 1)


def _label_words(label: int | str) -> str:
    return "null label (no class)" if label == NULL else f"label {label}"


def _has_rotation(run: Run) -> bool:
    return "rotation" in run.config.block_modulation


def _strength(view: View, chosen: Chosen) -> pd.DataFrame | None:
    signals = {signal for run in chosen.runs for signal in run.config.block_modulation}
    height = strength_height(len(signals))
    results = results_of(modulation_strength, view, GRID, runs=chosen.runs, height=height)
    if results is None:
        return None
    rows = chosen.here(results.table)
    if rows.empty:
        empty(f"The condition modulates nothing in {chosen.names} at {chosen.moment}.")
        return rows
    where = f"{BRANCHES[chosen.branch]}, {_label_words(chosen.label)}"
    depths = {run.name: run.config.depth for run in chosen.runs}
    limits = largest(results.table[results.table["branch"].isin([chosen.branch, "final"])])
    figure = built(strength_heatmaps, rows, limits, depths, where)
    mark_cell(figure, chosen.timestep, chosen.block)
    show(figure, rows, "strength", results, definition=STRENGTH, formula=STRENGTH_FORMULA)
    return at_label(results.table, chosen.label_of).query("timestep == @chosen.timestep")


def _rotation(view: View, chosen: Chosen) -> None:
    turning = tuple(run for run in chosen.runs if _has_rotation(run))
    still = [run.name for run in chosen.runs if not _has_rotation(run)]
    if still:
        st.info(plain(_no_rotation(view, still, hint=not turning)))
    if not turning:
        return
    angles = results_of(rotation_angles, view, GRID, runs=turning, height=CIRCLE_HEIGHT)
    counted = results_of(rotation_wraps, view, EVERY_TIMESTEP, runs=turning, height=ALONG_HEIGHT)
    if angles is None or counted is None:
        return
    where = f"{BRANCHES[chosen.branch]}, block {chosen.block + 1}"
    here = at_label(chosen.in_block(angles.table), chosen.label_of)
    if here.empty:
        empty(f"There are no angles in {where} at {chosen.moment}.")
        return
    where = f"{where}, {_label_words(chosen.label)}"
    title = f"Angles at t = {chosen.timestep}"
    now = here[here["timestep"] == chosen.timestep]
    figure = built(angle_circle, now, most_on_circle(angles.table), title, where)
    show(figure, now, "circle", angles, definition=CIRCLE, formula=ROTATION_FORMULA)
    wraps = at_label(chosen.in_block(counted.table), chosen.label_of)
    limit = float(angles.table["value"].abs().max())
    figure = built(angles_along_timesteps, here, wraps, limit, where)
    mark_timestep(figure, chosen.timestep)
    show(figure, here, "along", [angles, counted], definition=ALONG, formula=ROTATION_FORMULA)


def _no_rotation(view: View, still: list[str], hint: bool) -> str:
    """One sentence; where none in view has a rotation it names runs that have."""
    have = "have" if len(still) > 1 else "has"
    others = [run.name for run in view.library.runs if _has_rotation(run)]
    advice = f"; as second run choose {' or '.join(others[:3])} to see one"
    return f"{' and '.join(still)} {have} no rotation{advice if hint and others else ''}."


def _shares(view: View, chosen: Chosen) -> pd.DataFrame | None:
    height = shares_height(chosen.depth + 3, len(chosen.runs))
    results = results_of(modulation_shares, view, ShareGrid(), runs=chosen.runs, height=height)
    if results is None:
        return None
    with_null = view.toggle(
        "with_null",
        "Count the null label as one more label",
        False,
        help="The null label stands for no class; guidance needs it.",
    )
    table = results.table[results.table["labels"] == ("classes+null" if with_null else "classes")]
    totals = table[table["channel"] == TOTAL]
    overall = totals[totals["block"] == TOTAL]
    places = totals["branch"].isin([chosen.branch, "final", "all", "condition"])
    by_block, by_channel = view.tabs("tab", ["By block", "By channel"])
    with by_block:
        _shares_by_block(totals[places], results, chosen)
    with by_channel:
        _shares_by_channel(table, results, chosen)
    return overall


def _shares_by_block(rows: pd.DataFrame, results: Results, chosen: Chosen) -> None:
    figure = built(shares_by_block, rows, chosen.depth, BRANCHES[chosen.branch])
    show(figure, rows, "shares", results, definition=SHARES, formula=SHARES_FORMULA)


def _shares_by_channel(table: pd.DataFrame, results: Results, chosen: Chosen) -> None:
    rows = chosen.in_block(table[table["channel"] != TOTAL])
    where = f"{BRANCHES[chosen.branch]}, block {chosen.block + 1}"
    if rows.empty:
        empty(f"The condition modulates nothing in {where}.")
        return
    figure = built(shares_by_channel, rows, where)
    show(figure, rows, "channels", results, definition=SHARES, formula=SHARES_FORMULA)


def _change(view: View, chosen: Chosen) -> None:
    results = results_of(modulation_change, view, ChangeSettings(), runs=chosen.runs)
    if results is None:
        return
    table = results.table[results.table["branch"] == chosen.branch]
    table = table[table["signal"] != TOGETHER]
    rows = at_label(table[table["timestep"] == chosen.timestep], chosen.label_of)
    if rows.empty:
        empty(f"No step of the modulation acts in {chosen.names} at {chosen.moment}.")
        return
    where = f"{BRANCHES[chosen.branch]}, {chosen.moment}"
    figure = built(change_by_block, rows, change_limits(table), chosen.depth, where)
    show(figure, rows, "change", results, definition=CHANGE, formula=CHANGE_FORMULA)
