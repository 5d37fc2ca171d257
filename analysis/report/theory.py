"""Chapters of the page Theory: the verdicts, and every claim beside what is measured."""

from functools import partial

import pandas as pd

from analysis.figures.theory import assumption_panels, claim_panels, preactivation_panels
from analysis.figures.theory_drawings import Drawing, drawing_of
from analysis.report.chapter import Chapter, Figure, Part, Shown, Source, asked, nearest
from analysis.theory import TheorySettings, theory
from analysis.theory_claims import BRANCHES, CLAIMS, PARTS, Claim
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
from mpdit_core.words import capital

TOKENS = asked(theory, TheorySettings())
INITIAL = asked(theory, TheorySettings(), name="theory-initial", weights=("initial",))
GRADIENTS = asked(gradient_angles, GradientSettings())
ROWS = asked(row_norms, RowSettings(), name="row-norms-final", weights=("final",))
ROWS_SHOWN = asked(row_norms, RowSettings())
HISTOGRAM = asked(preactivation_histogram, HistogramSettings())
HISTOGRAM_INITIAL = asked(
    preactivation_histogram, HistogramSettings(), name="preactivation-histogram-initial",
    weights=("initial",),
)  # fmt: skip
BESIDE = (INITIAL, GRADIENTS, ROWS, ROWS_SHOWN)
WEIGHTS_ONLY = ("gradient", "forced")


def _there(shown: Shown, source: Source) -> pd.DataFrame | None:
    table = shown.table(source)
    return None if table.empty else table


def _verdicts(shown: Shown) -> pd.DataFrame:
    beside = (_there(shown, source) for source in (INITIAL, GRADIENTS, ROWS))
    configs = {run.name: run.config for run in shown.runs}
    return verdicts(checked(shown.table(TOKENS), *beside), configs)


def _answer(shown: Shown) -> str:
    said = f"{shown.weights}: {answer_sentence(_verdicts(shown))}"
    initial = _there(shown, INITIAL)
    configs = {run.name: run.config for run in shown.runs}
    return said if initial is None else f"{said} {initial_sentence(initial, configs)}".strip()


def _sides(claim: Claim, shown: Shown) -> tuple[pd.DataFrame | None, pd.DataFrame | None, str]:
    """What is drawn in colour, what in grey beside it, and the words of the grey."""
    tokens, initial = _there(shown, TOKENS), _there(shown, INITIAL)
    if claim.name == "gradient":
        return _there(shown, GRADIENTS), None, ""
    if claim.name == "forced":
        return _there(shown, ROWS), _there(shown, ROWS_SHOWN), shown.weights
    if claim.name == "gates" and initial is not None:
        return initial, tokens, shown.weights
    return tokens, initial, "initial weights"


def _unclaimed(claim: Claim, shown: Shown) -> str:
    main, _, _ = _sides(claim, shown)
    if main is not None and pieces(main, claim.name):
        return ""
    lacking = sorted({claim.lacking(run.config) for run in shown.runs} - {""})
    return f"No run has what this claim is about: {', '.join(lacking) or 'no such part'}."


def _piece(claim: Claim, table: pd.DataFrame) -> tuple[str, str]:
    found = pieces(table, claim.name)
    return next((piece for piece in found if piece == ("mlp", "")), found[0])


def _piece_words(piece: tuple[str, str]) -> str:
    branch, part = piece
    if part in ("out", "up", "down"):
        return PARTS[part]
    return f"{BRANCHES[branch]}, {PARTS[part]}" if part else BRANCHES[branch]


def _drawn(
    claim: Claim, shown: Shown
) -> tuple[list[pd.DataFrame | None], Drawing, tuple[str, str]]:
    """Rows, grey rows, all rows of both and those claimed; the drawing; where, and grey words."""
    main, compared, words = _sides(claim, shown)
    assert main is not None  # `_unclaimed` was asked before
    piece = _piece(claim, main)
    everything = blocks(main, claim.name, piece)
    grey = None if compared is None else blocks(compared, claim.name, piece)
    both = everything if grey is None else pd.concat([everything, grey], ignore_index=True)
    about = [run.name for run in shown.runs if not claim.lacking(run.config)]
    claimed = both[both["run"].isin(about)] if about else both
    where = _piece_words(piece)
    if claim.name not in WEIGHTS_ONLY:
        t = nearest(sorted(everything["timestep"].unique(), reverse=True), 500)
        everything = everything[everything["timestep"] == t]
        grey = None if grey is None else grey[grey["timestep"] == t]
        where = f"{where}, t = {t}"
    return [everything, grey, both, claimed], drawing_of(claim.name, piece[1]), (where, words)


def _claim(claim: Claim, shown: Shown) -> Figure:
    (rows, grey, both, _), drawing, (where, words) = _drawn(claim, shown)
    title = f"{capital(claim.short)}: {where}"
    return claim_panels(rows, grey, both, drawing, title, words)


def _assumption(claim: Claim, shown: Shown) -> Figure:
    (rows, grey, _, claimed), drawing, (where, words) = _drawn(claim, shown)
    title = f"What is assumed of it, or how exactly it holds: {where}"
    return assumption_panels(rows, grey, claimed, drawing.measures, title, words)


def _no_measure(claim: Claim, shown: Shown) -> str:
    lacking = _unclaimed(claim, shown)
    if lacking or _drawn(claim, shown)[1].measures:
        return lacking
    return "The claim assumes nothing that could be measured."


def _distribution(shown: Shown) -> Figure:
    table = shown.table(HISTOGRAM)
    block = int(table["block"].max()) // 2
    everything = table[table["block"] == block]
    t = nearest(sorted(everything["timestep"].unique(), reverse=True), 500)
    now = everything[everything["timestep"] == t]
    title = f"Pre-activations of the MLP in block {block + 1}, t = {t}"
    return preactivation_panels(now, everything, title)


def _chapters(claim: Claim) -> tuple[Chapter, Chapter]:
    return (
        Chapter(f"theory-{claim.name}", capital(claim.short), (TOKENS,), partial(_claim, claim),
                beside=BESIDE, lacking=partial(_unclaimed, claim)),
        Chapter(f"theory-{claim.name}-assumption", f"{capital(claim.short)}: the assumption",
                (TOKENS,), partial(_assumption, claim), beside=BESIDE,
                lacking=partial(_no_measure, claim)),
    )  # fmt: skip


PART = Part(
    "theory",
    "Theory",
    "Do the claims of the paper hold on these weights?",
    (
        Chapter("theory-verdicts", "Every claim, judged", (TOKENS,), answer=_answer,
                rows=_verdicts, beside=BESIDE),
        *(chapter for claim in CLAIMS for chapter in _chapters(claim)),
        Chapter("theory-preactivations", "Pre-activations beside a Gaussian", (HISTOGRAM,),
                _distribution, beside=(HISTOGRAM_INITIAL,)),
    ),
)  # fmt: skip
