"""Do the claims of the paper hold on these weights, and are their assumptions met?"""

from dataclasses import dataclass
from typing import Literal

import pandas as pd
import streamlit as st

from analysis.figures.theory import (
    assumption_panels,
    claim_height,
    claim_panels,
    preactivation_panels,
)
from analysis.figures.theory_drawings import Drawing, drawing_of
from analysis.theory import TheorySettings, theory
from analysis.theory_claims import (
    BRANCHES,
    BY_NAME,
    CLAIMS,
    EXACT_TOLERANCE,
    NEARLY,
    NOTHING,
    PARTS,
    ROUGHLY,
    Claim,
)
from analysis.theory_gaussian import HistogramSettings, preactivation_histogram
from analysis.theory_verdicts import (
    answer_sentence,
    blocks,
    checked,
    initial_sentence,
    pieces,
    verdicts,
)
from analysis.theory_weights import GradientSettings, RowSettings, gradient_angles, row_norms
from app.components import Results, View, answer, built, empty, part, question, results_of, show
from app.components.claims_table import claims_table
from mpdit_core.words import capital

SOURCES = {"noised": "held-out images", "trajectory": "the sampler's path"}
PATH_COST = "Follow the sampler's own path of each run, about 10 s a run"
FORMS = {"": "the run's own", "mp": "MP-sum", "plain": "plain sum"}
INITIAL = "initial weights"

TABLE = (
    "Magnitude: root mean square over channels. A cell shows the largest departure over blocks, "
    "branches and timesteps, measured against claimed, and where it is. An exact claim holds up to "
    f"{EXACT_TOLERANCE}; one in expectation holds within {100 * NEARLY:.0f} %, and roughly within "
    f"{100 * ROUGHLY:.0f} %. Grey: not claimed of this run, but measured. The pointer on a "
    "claim shows its formula."
)
WEIGHTS_ONLY = ("gradient", "forced")


@dataclass(frozen=True)
class Tables:
    """What the page is made of. initial, rows: of the initial, of the last raw weights."""

    tokens: Results
    initial: Results | None
    gradients: Results | None
    rows: Results | None
    rows_in_view: Results | None


def page(view: View) -> None:
    question("Do the claims of the paper hold on these weights?")
    place = st.container()
    left, right = st.columns([2, 3])
    with left:
        names = {claim.name: claim.short for claim in CLAIMS}
        words = names.__getitem__
        chosen = view.choice("claim", "Claim drawn below", list(names), "sum", words=words)
    with right:
        settings, start = _source(view)
    tables = _tables(view, settings, start)
    if tables is None:
        return
    configs = {run.name: run.config for run in view.runs}
    given = (tables.initial, tables.gradients, tables.rows)
    found = verdicts(
        checked(tables.tokens.table, *(each and each.table for each in given)), configs
    )
    with place:
        answer(f"{view.weights_name}: {answer_sentence(found)}")
        if tables.initial is not None:
            st.markdown(initial_sentence(tables.initial.table, configs))
        st.caption(TABLE)
        st.html(claims_table(found, view.run_names, chosen))
    claim = BY_NAME[chosen]
    histogram = None
    if claim.name == "silu":
        same = HistogramSettings(**settings.model_dump())
        histogram = results_of(preactivation_histogram, view, same, start=start, cost=PATH_COST)
    _figures(view, claim, tables, histogram)


def _source(view: View) -> tuple[TheorySettings, Literal["now", "button"]]:
    """What the model is shown; its own path takes longer, so it waits for a press."""
    source = view.choice(
        "source", "Shown to the model", list(SOURCES), kind="buttons", words=SOURCES.__getitem__
    )
    return TheorySettings(source=source), "now" if source == "noised" else "button"


def _tables(view: View, settings: TheorySettings, start: Literal["now", "button"]) -> Tables | None:
    """All results, or None while cards stand in their place."""
    height = claim_height(len(view.runs))
    tokens = results_of(theory, view, settings, start=start, cost=PATH_COST, height=height)
    if tokens is None:
        return None
    initial = tokens if str(view.weights) == "initial" else results_of(
        theory, view, settings, weights="initial", start=start, cost=PATH_COST, height=height
    )  # fmt: skip
    gradients = results_of(gradient_angles, view, GradientSettings())
    rows = results_of(row_norms, view, RowSettings(), weights="final")
    in_view = rows if str(view.weights) == "final" else results_of(row_norms, view, RowSettings())
    return None if view.results_awaited else Tables(tokens, initial, gradients, rows, in_view)


@part
def _figures(view: View, claim: Claim, tables: Tables, histogram: Results | None) -> None:
    """Claim against measurement, and under it the assumption."""
    main, compared, words = _sides(view, claim, tables)
    if main is None or not pieces(main.table, claim.name):
        lacking = {claim.lacking(run.config) for run in view.runs} - {""}
        empty(f"No run in view has what this claim is about: {', '.join(sorted(lacking))}.")
        return
    piece, form = _piece(view, claim, main.table)
    drawing = drawing_of(claim.name, form or piece[1])
    everything = blocks(main.table, claim.name, piece)
    grey = None if compared is None else blocks(compared.table, claim.name, piece)
    shown = everything if grey is None else pd.concat([everything, grey], ignore_index=True)
    rows, grey, moment = _at_timestep(view, claim, everything, grey)
    where = ", ".join(
        part for part in (_piece_words(piece), FORMS[form] if form else "", moment) if part
    )
    used = [main] if compared is None else [main, compared]
    figure = built(
        claim_panels, rows, grey, shown, drawing, f"{capital(claim.short)}: {where}", words
    )
    drawn = rows if grey is None else pd.concat([rows, grey], ignore_index=True)
    definition = f"{claim.words}. Assumes {claim.assumption}."
    show(figure, drawn, "claim", used, definition=definition, formula=claim.formula)
    about = [run.name for run in view.runs if not claim.lacking(run.config)]
    claimed = shown[shown["run"].isin(about)] if about else shown
    _assumption(claim, rows, grey, claimed, drawing, where, words, used)
    if histogram is not None:
        _distribution(view, histogram, rows)


def _sides(view: View, claim: Claim, tables: Tables) -> tuple[Results | None, Results | None, str]:
    """What is drawn in colour, what in grey beside it, and the words of the grey."""
    in_view = view.weights_name
    if claim.name == "gradient":
        return tables.gradients, None, ""
    if claim.name == "forced":
        other = tables.rows_in_view if str(view.weights) != "final" else None
        return tables.rows, other, in_view
    if str(view.weights) == "initial" or tables.initial is None:
        return tables.tokens, None, ""
    if claim.name == "gates":
        return tables.initial, tables.tokens, in_view
    return tables.tokens, tables.initial, INITIAL


def _piece(view: View, claim: Claim, table: pd.DataFrame) -> tuple[tuple[str, str], str]:
    """Branch and part, and of the sum its form."""
    found = pieces(table, claim.name)
    names = {f"{branch}-{part}".rstrip("-"): (branch, part) for branch, part in found}
    left, right = st.columns(2)
    with left:
        default = "mlp" if "mlp" in names else next(iter(names))
        chosen = (
            view.choice("part", "Part of a block", list(names), default,
                        words=lambda name: _piece_words(names[name]))
            if len(names) > 1 else default
        )  # fmt: skip
    if claim.name != "sum":
        return names[chosen], ""
    with right:
        form = view.choice("form", "Sum", list(FORMS), kind="buttons", words=FORMS.__getitem__,
                           help="The same stream and branch, joined in another way.")  # fmt: skip
    return names[chosen], form


def _piece_words(piece: tuple[str, str]) -> str:
    branch, part = piece
    if part in ("out", "up", "down"):
        return PARTS[part]
    return f"{BRANCHES[branch]}, {PARTS[part]}" if part else BRANCHES[branch]


def _at_timestep(
    view: View, claim: Claim, everything: pd.DataFrame, grey: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame | None, str]:
    """Rows of the slider's timestep, where the claim has any."""
    if claim.name in WEIGHTS_ONLY:
        return everything, grey, ""
    timesteps = sorted(everything["timestep"].unique().tolist(), reverse=True)
    help = "From noise (999, left) to image (0, right); moving it computes nothing."
    default = min(timesteps, key=lambda t: abs(t - 500))
    t = view.choice("t", "Timestep", timesteps, default, kind="slider", help=help)
    rows = everything[everything["timestep"] == t]
    grey = None if grey is None else grey[grey["timestep"] == t]
    return rows, grey, f"t = {t}"


def _assumption(
    claim: Claim,
    rows: pd.DataFrame,
    grey: pd.DataFrame | None,
    claimed: pd.DataFrame,
    drawing: Drawing,
    where: str,
    words: str,
    used: list[Results],
) -> None:
    if not drawing.measures:
        return
    nothing = claim.assumption == NOTHING
    title = f"{'How exactly it holds' if nothing else 'What the claim assumes'}: {where}"
    figure = built(assumption_panels, rows, grey, claimed, drawing.measures, title, words)
    definition = (
        f"Assumed: {claim.assumption}. Dotted lines: where that is met. The axes are those "
        "of the runs of which it is claimed."
    )
    show(figure, rows, "assumption", used, definition=definition, formula=claim.formula)


def _distribution(view: View, histogram: Results, rows: pd.DataFrame) -> None:
    """Pre-activations of one block beside the Gaussian."""
    depth = int(histogram.table["block"].max()) + 1
    block = view.choice("block", "Block", list(range(1, depth + 1)), (depth + 1) // 2)
    everything = histogram.table[histogram.table["block"] == block - 1]
    t = int(rows["timestep"].iloc[0])
    now = everything[everything["timestep"] == t]
    title = f"Pre-activations of the MLP in block {block}, t = {t}"
    definition = (
        "Pre-activations: what enters SiLU. Dotted: the standard Gaussian that the claim assumes; "
        "dashed: a Gaussian of the same mean and deviation. Horizontal axes differ from run to run."
    )
    figure = built(preactivation_panels, now, everything, title)
    show(figure, now, "distribution", histogram, definition=definition,
         formula=BY_NAME["silu"].formula)  # fmt: skip
